"""A rotation of the host CA, as an agent meets it: it catches up, or it is told what it missed."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent import identity as identities
from teleport_lite.agent import link as links
from teleport_lite.agent.enlist import enlist
from teleport_lite.agent.identity import Identity, trusting
from teleport_lite.agent.join import Keys, join
from teleport_lite.agent.link import Link
from teleport_lite.agent.renew import marks_at, renew
from teleport_lite.agent.rotation import (
    AGAIN,
    BEHIND,
    LEFT_BEHIND,
    SPREAD,
    Catching,
    in_use,
    marks_of,
    missed,
)
from teleport_lite.errors import Denied
from teleport_lite.model.authority import CaType
from teleport_lite.pki.pin import issuer_pin, pin_of
from teleport_lite.proto.join import Bundle, RetiredPin
from teleport_lite.proto.stream import Beat, Knowledge, RotationWord
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeChance
from tests.agent.rig import Auth, an_identity
from tests.auth.bench import ROOT
from tests.support import eventually

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC).timestamp()


def rotate(auth: Auth, phase: str = "", *types: str, **more: Any) -> None:
    """A step, and auth serves and trusts by it, as its daemon has it."""
    words = {"types": list(types or ("host",)), "phase": phase, "manual": True, "force": True}
    auth.bench.ask("/v1/auth/rotate", ROOT, **(words | more))
    show = auth._shown()
    auth.call(lambda: setattr(auth.server, "show", show))


def known(*rotations: tuple[str, str], **more: Any) -> Knowledge:
    fields: dict[str, Any] = {
        name: [] for name in ("host_cas", "ssh_host_cas", "ssh_user_cas", "user_cas")
    }
    words = [RotationWord(type=type, mark=mark) for type, mark in rotations]
    return Knowledge(
        cluster="test.example", serial=1, roles=[], locks=[], rotations=words, **(fields | more)
    )


# When to renew


def catching() -> Catching:
    return Catching(FakeChance())  # always the middle


def test_a_host_renews_soon_after_a_new_mark_and_not_in_step() -> None:
    catch, word = catching(), known(("user", "u/init"), ("host", "h/init"))
    catch.heard(word, "", 10.0)
    assert catch.at == 10.0 + sum(SPREAD) / 2
    catch.heard(word, "", 11.0)
    assert catch.at == 10.0 + sum(SPREAD) / 2, "a lock that is told meanwhile does not put it off"
    assert not catch.due(11.0)
    assert catch.due(12.0)
    catch.renewed("h/init", 12.0)
    assert (catch.at, catch.due(1e9)) == (None, False)


def test_a_host_that_is_up_to_date_does_not_renew() -> None:
    catch = catching()
    catch.heard(known(), "", 0.0)
    catch.heard(known(("user", "u/init")), "", 0.0)
    catch.heard(known(("host", "h/init")), "h/init", 0.0)
    assert catch.at is None


def test_a_renewal_that_is_late_is_followed_by_another_in_a_while() -> None:
    catch = catching()
    catch.heard(known(("host", "h/update_clients")), "h/init", 0.0)
    catch.renewed("h/init", 5.0)
    assert catch.at == 5.0 + sum(AGAIN) / 2
    assert AGAIN[0] > 0


def test_marks_are_read_by_type() -> None:
    assert marks_of(known(("host", "h/init"), ("user", "u/init"))) == {
        "host": "h/init",
        "user": "u/init",
    }


def test_a_mark_of_the_host_ca_is_reached_by_certificates_and_the_others_by_word() -> None:
    marks = {"host": "h/init", "user": "u/init"}
    me = an_identity()
    assert in_use(marks, replace(me, rotation="h/init")) == marks
    assert in_use(marks, replace(me, rotation="h/standby")) == {"user": "u/init"}
    assert in_use({}, me) == {}


# Whom to trust


def test_the_cas_of_now_count_and_none_is_no_answer() -> None:
    me = an_identity()
    now = trusting(me, known(host_cas=["a", "b"], ssh_user_cas=["c"]))
    assert now.host_cas == ("a", "b")
    assert now.ssh_user_cas == ("c",)
    assert (now.user_cas, now.ssh_host_cas) == (me.user_cas, me.ssh_host_cas)
    assert (now.tls_cert, now.host_id) == (me.tls_cert, me.host_id)


def test_the_signer_of_two_with_the_same_name_is_found() -> None:
    one, other = PaperCluster(), PaperCluster()
    cert = one.host().tls_cert
    assert issuer_pin(cert, [*other.host_cas, *one.host_cas]) == pin_of(one.host_cas[0])
    assert issuer_pin(cert, other.host_cas) == ""


# What is said to who was away


OLD, NEW = PaperCluster(), PaperCluster()
OLD_PIN = pin_of(OLD.host_cas[0])


def bundle(*cas: str, retired: tuple[str, ...] = (), cluster: str = OLD.name) -> Bundle:
    gone = [RetiredPin(pin=pin, at=AT) for pin in retired]
    return Bundle(cluster=cluster, version="1", time=0.0, host_cas=list(cas), retired=gone)


def test_who_missed_a_whole_rotation_hears_when_it_was_and_what_to_do() -> None:
    why = missed(bundle(*NEW.host_cas, retired=(OLD_PIN,)), an_identity(OLD))
    assert why is not None
    assert why.message == "the host CA was rotated on 2026-03-01 12:30 UTC while this host was away"
    assert why.hint == "join again with a new token: tctl tokens add"
    assert why.log == BEHIND


def test_who_knew_of_the_new_ca_and_did_not_renew_hears_the_same() -> None:
    for cas in ((*OLD.host_cas, *NEW.host_cas), NEW.host_cas):
        me = replace(an_identity(OLD), host_cas=tuple(cas))
        why = missed(bundle(*NEW.host_cas, retired=(OLD_PIN,)), me)
        assert why is not None
        assert "2026-03-01 12:30 UTC" in why.message


def test_who_does_not_know_the_new_ca_of_one_that_runs_hears_so() -> None:
    why = missed(bundle(*OLD.host_cas, *NEW.host_cas), an_identity(OLD))
    assert why is not None
    assert why.message == "the host CA is being rotated, and this host was away when it began"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (bundle(*OLD.host_cas), "nothing was rotated"),
        (bundle(*NEW.host_cas), "rebuilt: nobody says that ours ever was one"),
        (bundle(*NEW.host_cas, retired=("sha256:" + "0" * 64,)), "rebuilt, and rotated since"),
        (bundle(*NEW.host_cas, retired=(OLD_PIN,), cluster="other.example"), "another cluster"),
        (bundle("no certificate", retired=(OLD_PIN,)), "nonsense"),
    ],
)
def test_everything_else_is_no_rotation(said: Bundle, what: str) -> None:
    assert missed(said, an_identity(OLD)) is None, what


def test_a_bot_goes_by_the_host_ca_it_trusts_since_its_own_is_another() -> None:
    bot = replace(an_identity(OLD), roles=("Bot",), tls_cert=OLD.user().tls_cert)
    assert missed(bundle(*NEW.host_cas, retired=(OLD_PIN,)), bot) is not None
    assert missed(bundle(*OLD.host_cas, retired=("sha256:" + "1" * 64,)), bot) is None


# With a real auth


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "data"


def joined(auth: Auth, home: Path) -> Identity:
    auth.bench.token("node,app")
    return enlist(auth.enlistment(home))


def test_an_old_pin_is_refused_with_the_day_the_ca_was_rotated(auth: Auth) -> None:
    auth.bench.token()
    old = auth.pin
    for phase in ("init", "update_clients", "update_servers"):
        rotate(auth, phase)
        join(auth.wish(pins=(old,), node_name=f"{phase.replace('_', '-')}"))
    rotate(auth, "standby")
    with pytest.raises(Denied, match=r"rotated on \d{4}-\d\d-\d\d \d\d:\d\d UTC") as why:
        join(auth.wish(pins=(old,)))
    assert f"expected {old}, seen {auth.pin}" in why.value.message
    assert "tctl status" in why.value.hint
    join(auth.wish())


def test_who_was_away_can_not_go_on_and_is_told_why(auth: Auth, home: Path) -> None:
    joined(auth, home)
    rotate(auth, grace_period="0s")
    with pytest.raises(Denied, match=r"the host CA was rotated on .* while this host was away"):
        enlist(auth.enlistment(home, token=None, pins=()))


@pytest.mark.parametrize("known_both", [False, True])
def test_who_was_away_keeps_its_uuid_with_a_new_token(
    auth: Auth, home: Path, known_both: bool
) -> None:
    me = joined(auth, home)
    rotate(auth, "init")
    if known_both:
        both = tuple(auth.bench.desks.cas.tls(CaType.HOST))
        identities.save(home, replace(me, host_cas=both))
    for phase in ("update_clients", "update_servers", "standby"):
        rotate(auth, phase)
    again = enlist(auth.enlistment(home))
    assert (again.host_id, again.roles) == (me.host_id, me.roles)
    assert auth.said[-1].endswith("joining again with the token, under the same UUID")
    assert identities.load(home) == again
    assert not list(home.glob("*.old-*"))
    renewed = renew(again, [auth.address], node_name="web-1")
    assert renewed.tls_private.reveal() != me.tls_private.reveal()


def test_a_host_with_other_keys_than_auth_knows_becomes_a_new_one(auth: Auth, home: Path) -> None:
    """It was restored from an old copy, or is one."""
    me = joined(auth, home)
    renew(me, [auth.address], node_name="web-1")  # and the answer is lost
    rotate(auth, grace_period="0s")
    again = enlist(auth.enlistment(home))
    assert again.host_id != me.host_id
    assert "joining as a new host" in "\n".join(auth.said)
    assert list(home.glob("identity.json.old-*"))


def test_a_wrong_pin_is_no_way_to_its_uuid(auth: Auth, home: Path) -> None:
    me = joined(auth, home)
    old = auth.pin
    rotate(auth, grace_period="0s")
    with pytest.raises(Denied, match="rotated on"):
        enlist(auth.enlistment(home, pins=(old,)))
    assert identities.load(home) == me


def test_a_bot_hears_of_a_rotation_without_a_stream(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish())
    assert marks_at(me, auth.address) == {}
    rotate(auth, "init", "user")
    marks = marks_at(me, auth.address)
    assert marks is not None
    assert marks["user"].endswith("/init")
    assert marks_at(replace(me, host_cas=tuple(NEW.host_cas)), auth.address) is None


# The stream


class Stop:
    """Notes how long it was to wait, and does not."""

    def __init__(self) -> None:
        self.event, self.waits = threading.Event(), list[float]()

    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        return self.event.wait(min(timeout, 0.02))


class Agent:
    """A link in its thread; a context manager."""

    def __init__(self, auth: Auth, me: Identity) -> None:
        self.trusted: list[Identity] = []
        self.renewed: list[Identity] = []
        self.states: list[str] = []
        self.stop = Stop()
        self.link = Link(
            identity=me,
            servers=(auth.address,),
            node_name="web-1",
            clock=auth.bench.clock,
            chance=Low(),
            report=lambda: Beat(time=auth.bench.clock.now().timestamp()),
            renew_due=lambda: False,
            on_knowledge=lambda _: None,
            on_identity=self.renewed.append,
            on_state=self.states.append,
            on_trust=self.trusted.append,
        )
        self._thread = threading.Thread(target=self.link.run, args=(self.stop,), daemon=True)

    def __enter__(self) -> "Agent":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.event.set()
        self.link.wake()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()


class Low(FakeChance):
    """Always the smallest number."""

    def uniform(self, low: float, high: float) -> float:
        return low


@pytest.fixture
def agent(auth: Auth) -> Iterator[Agent]:
    auth.bench.token()
    with Agent(auth, join(auth.wish())) as running:
        eventually(lambda: any("connected to" in each for each in running.states))
        yield running


def test_a_host_follows_every_phase_on_the_stream_it_has(auth: Auth, agent: Agent) -> None:
    for count, phase in enumerate(("init", "update_clients", "update_servers", "standby"), 1):
        rotate(auth, phase)
        eventually(lambda count=count: len(agent.renewed) == count, what=phase)
        me = agent.renewed[-1]
        assert me.rotation.endswith(f"/{phase}")
        serving = {"update_clients": 2}.get(phase, 1)
        assert len({me.tls_cert, me.serve_tls}) == serving
        assert len({me.ssh_cert, me.serve_ssh}) == serving
        cas = auth.bench.desks.cas
        assert set(me.host_cas) == set(cas.tls(CaType.HOST))
    assert agent.trusted, "the CAs of now counted before the certificates came"
    assert [each for each in agent.states if each.startswith("not connected")] == []


def test_a_rotation_of_the_user_ca_is_learnt_and_nothing_renewed(auth: Auth, agent: Agent) -> None:
    rotate(auth, "init", "user")
    eventually(lambda: agent.trusted)
    assert len(agent.link.identity.user_cas) == len(agent.link.identity.ssh_user_cas) == 2
    assert agent.renewed == []


def test_who_is_left_behind_says_so_and_hammers_nobody(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish())
    rotate(auth, grace_period="0s")
    with Agent(auth, me) as behind:
        eventually(lambda: len(behind.stop.waits) >= 3)
    assert all("the host CA was rotated on" in each for each in behind.states), behind.states
    assert all(wait >= LEFT_BEHIND[0] for wait in behind.stop.waits), behind.stop.waits


def test_who_is_left_behind_hears_of_it_when_auth_comes_later(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.bench.token()
    me = join(auth.wish())
    rotate(auth, grace_period="0s")
    asked, ask = iter(range(100)), links.left_behind
    monkeypatch.setattr(  # nobody answers, the first two times
        links, "left_behind", lambda *a, **kw: None if next(asked) < 2 else ask(*a, **kw)
    )
    with Agent(auth, me) as behind:
        eventually(lambda: any(wait >= LEFT_BEHIND[0] for wait in behind.stop.waits))
    assert len([wait for wait in behind.stop.waits if wait < LEFT_BEHIND[0]]) <= 6


def test_who_is_cut_off_while_it_is_there_says_so_from_then_on(auth: Auth, agent: Agent) -> None:
    rotate(auth, grace_period="0s")
    eventually(lambda: any(wait >= LEFT_BEHIND[0] for wait in agent.stop.waits))
    assert "the host CA was rotated on" in agent.states[-1]


def test_keys_are_new_with_each_renewal_but_not_when_they_are_the_proof(auth: Auth) -> None:
    auth.bench.token()
    me = join(auth.wish())
    rotate(auth, grace_period="0s")
    again = join(auth.wish(again=me))
    assert again.host_id == me.host_id
    assert again.tls_private.reveal() == me.tls_private.reveal()
    stranger = Keys.new()
    forged = replace(me, tls_private=stranger.tls_private, ssh_public=stranger.ssh_public)
    with pytest.raises(Exception, match="did not show that host's certificate"):
        join(auth.wish(again=forged))
    assert isinstance(again.tls_private, Secret)
