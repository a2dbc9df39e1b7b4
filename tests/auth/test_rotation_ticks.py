"""Rotations that several auth servers lead, of several CAs at once: who takes which step."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from teleport_lite.errors import Conflict, Malformed
from teleport_lite.model.authority import CaType
from teleport_lite.proto.resource import moment
from tests.auth.bench import Bench
from tests.auth.fleet import Member
from tests.auth.test_rotation import beside, rotate


def phases(bench: Bench, *types: CaType) -> list[str]:
    return [bench.store.rotation(type).phase.value for type in types]


def test_a_step_is_decided_on_what_the_store_says_now() -> None:
    """Another auth server took the step before, and nobody has told us yet."""
    one = Bench()
    other = beside(one, "other")
    rotate(one, "init")
    assert rotate(other, "update_clients")["phase"] == "update_clients"


def test_a_tick_takes_a_step_that_another_auth_server_has_prepared() -> None:
    one = Bench()
    other = beside(one, "other")
    rotate(one, manual=False, grace_period="3h")
    one.later(hours=1)
    other.desks.rotation.tick()
    assert phases(one, CaType.HOST) == ["update_clients"]


def test_one_that_is_led_by_hand_keeps_no_other_waiting() -> None:
    bench = Bench()
    rotate(bench, "init", "host")
    rotate(bench, "", "user", manual=False, grace_period="3h")
    bench.later(hours=1)
    bench.desks.rotation.tick()
    assert phases(bench, CaType.HOST, CaType.USER) == ["init", "update_clients"]


def test_a_step_that_somebody_else_was_first_with_keeps_no_other_waiting() -> None:
    bench = Bench()
    rotate(bench, "", "host", "user", manual=False, grace_period="3h")
    bench.later(hours=1)
    write, left = bench.store.write, [Conflict("it was changed a moment ago")]

    def beaten(change: Callable[[Any], Any]) -> Any:
        if left:
            raise left.pop()
        return write(change)

    bench.store.write = beaten  # type: ignore[method-assign]
    bench.desks.rotation.tick()
    assert sorted(phases(bench, CaType.HOST, CaType.USER)) == ["init", "update_clients"]


def test_a_step_and_its_event_are_one_transaction() -> None:
    bench = Bench()
    write, writes = bench.store.write, 0

    def counted(change: Callable[[Any], Any]) -> Any:
        nonlocal writes
        writes += 1
        return write(change)

    bench.store.write = counted  # type: ignore[method-assign]
    rotate(bench, "init", "host", "user")
    assert writes == 1
    assert bench.last_event("cert_authority.rotate").code == "TCA00I"


@pytest.mark.parametrize(
    ("asked", "told"), [("standby", "standby"), ("", "init"), ("init", "init")]
)
def test_a_step_that_is_refused_is_in_the_trail_with_what_was_asked(asked: str, told: str) -> None:
    bench = Bench()
    rotate(bench, "init")
    with pytest.raises(Conflict):
        rotate(bench, asked, "host", "user", force=True)
    facts = bench.last_event("cert_authority.rotate").facts
    assert (facts["phase"], facts["types"], facts["force"]) == (told, "host,user", "yes")
    assert (facts["user"], facts["addr.remote"]) == ("admin:root", "local")


def test_it_is_known_which_generation_has_signed_a_certificate() -> None:
    bench = Bench()
    signer = bench.desks.rotation.signer_of
    before = Member(bench).welcome.tls_cert
    old = bench.store.cas(CaType.HOST)[0].id
    for step in ("init", "update_clients"):
        rotate(bench, step)
    after = Member(bench, "later").welcome.tls_cert
    assert signer(before) == old
    assert signer(after) == bench.store.rotation(CaType.HOST).new_ca
    for step in ("update_servers", "standby"):
        rotate(bench, step, force=True)
    assert signer(before) == ""


@pytest.mark.parametrize(
    ("begun", "went_on", "mode"),
    [(True, False, "manual"), (False, True, "manual"), (False, False, "automatic")],
)
def test_who_takes_a_step_by_hand_leads_it_from_then_on(
    begun: bool, went_on: bool, mode: str
) -> None:
    bench = Bench()
    rotate(bench, "init", manual=begun, grace_period="3h")
    assert rotate(bench, "update_clients", manual=went_on)["mode"] == mode


def test_a_step_that_makes_no_sense_is_refused_as_that_whoever_is_behind() -> None:
    bench = Bench()
    Member(bench).come()
    rotate(bench, "init")
    with pytest.raises(Conflict, match="can only switch to phase standby from"):
        rotate(bench, "standby")


def test_a_step_that_nobody_has_asked_for_is_in_the_trail_too() -> None:
    bench = Bench()
    rotate(bench, "", "user", manual=False, grace_period="3h")
    bench.later(hours=1)
    bench.desks.rotation.tick()
    event = bench.last_event("cert_authority.rotate")
    assert (event.code, event.outcome) == ("TCA00I", "ok")
    facts = {name: event.facts[name] for name in ("types", "phase", "user", "mode")}
    assert facts == {
        "types": "user",
        "phase": "update_clients",
        "user": "auth",
        "mode": "automatic",
    }


def test_where_a_ca_stands_is_told_whole() -> None:
    bench = Bench()
    [still] = bench.desks.rotation.listing((CaType.HOST,))["rotations"]
    at_rest = {name: still[name] for name in ("phase", "mode", "started", "phase_since", "due")}
    nothing = {"mode": "", "started": None, "phase_since": None, "due": None}
    assert at_rest == {"phase": "standby", **nothing}
    assert (still["grace_seconds"], still["ends"], still["next"]) == (0, None, ["init"])
    began = bench.clock.now()
    rotate(bench, "", manual=False, grace_period="3h")
    bench.later(hours=1)
    bench.desks.rotation.tick()
    now = bench.clock.now()
    [told] = bench.desks.rotation.listing((CaType.HOST,))["rotations"]
    assert len(told.pop("pins")) == 2
    assert told.pop("hosts")["waiting"] == []
    assert told == {
        "type": "host",
        "phase": "update_clients",
        "id": bench.store.rotation(CaType.HOST).id,
        "mode": "automatic",
        "started": moment(began),
        "phase_since": moment(now),
        "grace_seconds": 10_800,
        "due": moment(now + timedelta(hours=1)),
        "ends": moment(now + timedelta(hours=2)),
        "last_rotated": None,
        "next": ["update_servers", "rollback"],
    }


def test_a_step_of_several_cas_is_one_event_that_names_them_all() -> None:
    bench = Bench()
    rotate(bench, "", "host", "user", manual=False, grace_period="3h")
    rotations = [bench.store.rotation(type) for type in (CaType.HOST, CaType.USER)]
    facts = bench.last_event("cert_authority.rotate").facts
    assert facts["rotation_ids"] == ",".join(each.id for each in rotations)
    assert (facts["types"], facts["phase"], facts["mode"]) == ("host,user", "init", "automatic")


@pytest.mark.parametrize(
    ("grace", "phase"), [("0", "standby"), ("0s", "standby"), ("1s", "init"), ("8760h", "init")]
)
def test_a_grace_period_is_nothing_to_a_year(grace: str, phase: str) -> None:
    bench = Bench()
    assert rotate(bench, grace_period=grace)["phase"] == phase


@pytest.mark.parametrize("grace", ["8761h", "-1s", "", "soon"])
def test_no_other_grace_period_is_taken(grace: str) -> None:
    bench = Bench()
    with pytest.raises(Malformed, match="grace period"):
        rotate(bench, grace_period=grace)
    assert phases(bench, CaType.HOST) == ["standby"]
