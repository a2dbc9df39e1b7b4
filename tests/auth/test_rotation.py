"""Rotating the CAs, with everything real but time, chance and the network."""

import ssl
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from cryptography import x509

from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.errors import Conflict, Denied, Malformed, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.model.rotation import Phase
from teleport_lite.net.accept import Peer
from teleport_lite.net.tls import client_context, server_context
from teleport_lite.pki.keys import csr, new_tls_key
from teleport_lite.pki.pin import issuer_pin
from teleport_lite.pki.verify import peer_identity
from teleport_lite.proto.join import Renew
from teleport_lite.proto.stream import Goodbye
from teleport_lite.secret import Secret
from teleport_lite.store.memory import MemoryStore, MemoryTx
from teleport_lite.testing.fakes import FakeClock
from tests.auth.bench import OURS, Applicant, Bench, Visitor, stranger, the_host
from tests.auth.fleet import Member

T = TypeVar("T")
STEPS = ("init", "update_clients", "update_servers", "standby")
MIDDLE = STEPS[:3]


def rotate(bench: Bench, phase: str = "", *types: str, **words: Any) -> dict[str, Any]:
    words = {"manual": True, **words}
    asked = list(types or ("host",))
    found = bench.ask("/v1/auth/rotate", types=asked, phase=phase, **words)["rotations"]
    return dict(found[0])


def up_to(bench: Bench, phase: str, *members: Member, **words: Any) -> Bench:
    """By hand, with all `members` keeping up."""
    for step in STEPS[: STEPS.index(phase) + 1]:
        rotate(bench, step, **words)
        for each in members:
            each.follow()
    return bench


def signer_of(bench: Bench, pem: str) -> str:
    """ "old" or "new": which generation has signed a host certificate."""
    rotation = bench.store.rotation(CaType.HOST)
    names = {rotation.old_ca: "old", rotation.new_ca: "new"}
    for keys in bench.store.cas(CaType.HOST):
        if issuer_pin(pem, [keys.public.tls_cert]):
            return names[keys.id]
    return "nobody we trust"


# The table of phases


@pytest.mark.parametrize(
    ("phase", "goes_out", "serves"),
    [
        ("init", "old", "old"),
        ("update_clients", "new", "old"),
        ("update_servers", "new", "new"),
        ("rollback", "old", "old"),
    ],
)
def test_who_signs_in_which_phase(phase: str, goes_out: str, serves: str) -> None:
    bench = Bench()
    before = Member(bench)
    if phase == "rollback":
        up_to(bench, "update_servers")
        rotate(bench, "rollback")
    else:
        up_to(bench, phase)
    for welcome in (Member(bench, "joins-now").welcome, before.come().follow().welcome):
        assert signer_of(bench, welcome.tls_cert) == goes_out
        assert signer_of(bench, welcome.serving_tls_cert or welcome.tls_cert) == serves
        assert bool(welcome.serving_ssh_cert) == bool(welcome.serving_tls_cert)
        assert len(welcome.host_cas) == len(welcome.ssh_host_cas) == 2
        assert welcome.rotation == bench.store.rotation(CaType.HOST).mark
        serials = {
            x509.load_pem_x509_certificate(pem.encode()).serial_number
            for pem in (welcome.tls_cert, welcome.serving_tls_cert)
            if pem
        }
        assert len(serials) == (2 if welcome.serving_tls_cert else 1)


def test_everybody_is_told_of_each_phase_and_can_keep_up() -> None:
    bench = Bench()
    members = [Member(bench, f"web-{number}").come() for number in range(3)]
    for phase in STEPS:
        found = rotate(bench, phase)
        if phase != "standby":
            assert (found["hosts"]["present"], found["hosts"]["updated"]) == (3, 0)
        for count, each in enumerate(members, 1):
            knowledge = each.knowledge()
            assert [word.mark.partition("/")[2] for word in knowledge.rotations] == [phase]
            assert len(knowledge.host_cas) == (1 if phase == "standby" else 2)
            each.follow()
            if phase != "standby":
                hosts = bench.ask("/v1/auth/rotation")["rotations"][0]["hosts"]
                assert hosts["updated"] == count
                assert len(hosts["waiting"]) == 3 - count
    for each in members:
        assert not each.gone(), "no stream ends because of a rotation"
        each.come()
    [only] = bench.store.cas(CaType.HOST)
    assert only.active
    assert only.last_rotated == bench.clock.now()


@pytest.mark.parametrize("phase", MIDDLE)
def test_a_rollback_from_each_middle_phase_brings_the_old_ca_back_and_ends_the_new(
    phase: str,
) -> None:
    bench = Bench()
    [before] = bench.store.cas(CaType.HOST)
    member = Member(bench).come()
    up_to(bench, phase, member)
    of_the_new = member.welcome if phase != "init" else None
    rotate(bench, "rollback")
    member.follow()
    rotate(bench, "standby")
    [after] = bench.store.cas(CaType.HOST)
    assert after == before
    assert not member.gone()
    member.come()
    if of_the_new is not None:
        member.welcome = of_the_new
        with pytest.raises(Denied):
            member.come()


@pytest.mark.parametrize("type", list(CaType))
def test_every_type_is_rotated_by_itself(type: CaType) -> None:
    bench = Bench()
    others = [keys for keys in bench.store.cas() if keys.type is not type]
    [before] = bench.store.cas(type)
    for phase in STEPS:
        rotate(bench, phase, type.value)
    [after] = bench.store.cas(type)
    assert after.id != before.id
    assert [keys for keys in bench.store.cas() if keys.type is not type] == others


def test_all_types_take_a_step_together_or_not_at_all() -> None:
    bench = Bench()
    rotate(bench, "init", "jwt")
    with pytest.raises(Conflict, match="of the jwt CA while another is in progress"):
        rotate(bench, "init", "all")
    assert bench.store.rotation(CaType.HOST).serial == 0
    rotate(bench, "rollback", "jwt")
    rotate(bench, "standby", "jwt")
    for phase in STEPS:
        rotate(bench, phase, "all")
    assert {bench.store.rotation(type).phase for type in CaType} == {Phase.STANDBY}
    assert len(bench.store.cas()) == len(CaType)


# What is refused


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"types": []}, "type of the CA is missing"),
        ({"types": ["saml"]}, "CA type 'saml' does not exist"),
        ({"types": ["host"], "phase": "update"}, "phase 'update' does not exist"),
        ({"types": ["host"], "grace_period": "soon"}, "grace period 'soon' is not a length"),
        ({"types": ["host"], "grace_period": "366d"}, "grace period must be between"),
        ({"types": ["host"], "phase": "standby"}, "can only switch to phase standby from"),
    ],
)
def test_what_makes_no_sense_changes_nothing(words: dict[str, Any], why: str) -> None:
    bench = Bench()
    before = bench.store.cas()
    with pytest.raises((Malformed, Conflict), match=why):
        bench.ask("/v1/auth/rotate", **words)
    assert bench.store.cas() == before


def test_standby_is_refused_while_a_host_that_is_online_is_behind() -> None:
    bench = Bench()
    good, slow = Member(bench, "good").come(), Member(bench, "slow").come()
    away = Member(bench, "away").come()
    bench.later(minutes=3)
    for each in (good, slow):
        each.beat()
    up_to(bench, "update_servers", good)
    slow.beat({"host": bench.store.rotation(CaType.HOST).mark.replace("servers", "clients")})
    with pytest.raises(Conflict, match="1 of the hosts that are online") as why:
        rotate(bench, "standby")
    assert why.value.message.endswith("slow")
    assert "--force" in why.value.hint
    [named] = bench.ask("/v1/auth/rotation")["rotations"][0]["hosts"]["away"]
    assert named["name"] == "away"
    assert away.id == named["id"]


def test_who_is_left_behind_is_cut_and_told_and_nobody_else() -> None:
    bench = Bench()
    good, slow = Member(bench, "good").come(), Member(bench, "slow").come()
    up_to(bench, "update_servers", good)
    rotate(bench, "standby", force=True)
    assert not good.gone()
    refusal = slow.refusal()
    assert slow.gone()
    assert refusal is not None
    assert (
        refusal.message
        == "the host CA was rotated on 2026-03-02 12:00 UTC while this host was away"
    )
    assert "tctl tokens add" in refusal.hint
    with pytest.raises(Denied):
        slow.come()
    assert bench.last_event("cert_authority.rotate").facts["force"] == "yes"
    good.come()


def test_who_has_renewed_and_not_told_yet_is_not_cut() -> None:
    bench = Bench()
    member = Member(bench).come()
    up_to(bench, "update_clients")
    member.renew()
    rotate(bench, "update_servers")
    rotate(bench, "standby", force=True)
    assert not member.gone()


@pytest.mark.parametrize("ends_with", ["update_servers", "rollback"])
def test_one_stream_lives_through_rotation_after_rotation(ends_with: str) -> None:
    bench = Bench()
    member = Member(bench).come()
    for _ in range(3):
        up_to(bench, "update_servers", member)
        if ends_with == "rollback":
            rotate(bench, "rollback")
            member.follow()
        rotate(bench, "standby")
        assert not member.gone()
    member.follow()
    assert member.refusal() is None


def test_a_connection_from_before_standby_says_nothing_after_it() -> None:
    bench = Bench()
    member = Member(bench)
    der = ssl.PEM_cert_to_DER_cert(member.welcome.tls_cert)
    doorman = member.doorman()
    peer = Peer("192.0.2.7", der, None, OURS)
    caller = doorman.caller(peer)
    up_to(bench, "standby")
    with pytest.raises(Denied, match="the host CA was rotated on 2026-03-02 12:00 UTC"):
        bench.desks.streams.open(caller, lambda frame: None)
    with pytest.raises(Denied, match=r"the host CA of this certificate was rotated on 2026") as why:
        doorman.caller(peer)
    assert "tctl tokens add" in why.value.hint


def test_a_user_certificate_works_until_the_end_and_not_after() -> None:
    bench = Bench()
    bench.user()
    before = bench.login().tls_cert
    doorman = Member(bench).doorman()

    def caller(pem: str) -> Caller:
        der = ssl.PEM_cert_to_DER_cert(pem)
        return doorman.caller(Peer("192.0.2.7", der, None, OURS))

    for phase in STEPS[:3]:
        rotate(bench, phase, "user")
        assert caller(before).kind is Kind.USER
    after = bench.login(Visitor()).tls_cert
    rotate(bench, "standby", "user")
    with pytest.raises(Denied, match="the user CA of this certificate was rotated on") as why:
        caller(before)
    assert why.value.hint.startswith("tsh login")
    assert caller(after).name == "alice"


def test_a_step_is_in_the_trail_with_who_took_it() -> None:
    bench = Bench()
    rotate(bench, "init", "host", "user")
    event = bench.last_event("cert_authority.rotate")
    assert (event.code, event.outcome) == ("TCA00I", "ok")
    assert event.facts["types"] == "host,user"
    assert event.facts["phase"] == "init"
    assert event.facts["mode"] == "manual"
    assert event.facts["user"] == "admin:root"
    with pytest.raises(Conflict):
        rotate(bench, "standby")
    event = bench.last_event("cert_authority.rotate")
    assert (event.code, event.outcome) == ("TCA00E", "conflict")
    assert "PRIVATE" not in bench.trail_text()


# By itself


def test_an_automatic_rotation_takes_a_third_for_each_phase_and_waits_for_hosts() -> None:
    bench = Bench()
    member = Member(bench).come()
    rotate(bench, "", manual=False, grace_period="3h")

    def after(**span: float) -> str:
        bench.later(**span)
        member.follow() if kept_up else member.beat({})
        bench.desks.rotation.tick()
        return bench.store.rotation(CaType.HOST).phase.value

    kept_up = True
    assert after(minutes=59) == "init"
    kept_up = False
    assert after(minutes=2) == "init", "somebody has not kept up"
    kept_up = True
    assert after(seconds=1) == "update_clients"
    assert after(minutes=59) == "update_clients"
    assert after(minutes=1) == "update_servers"
    assert after(hours=1) == "standby"
    assert not member.gone()
    assert bench.last_event("cert_authority.rotate").facts["user"] == "auth"
    assert after(days=30) == "standby"


def marks(bench: Bench) -> dict[str, str]:
    return {"host": bench.store.rotation(CaType.HOST).mark}


def test_who_is_away_does_not_keep_it_waiting() -> None:
    bench = Bench()
    Member(bench).come()
    rotate(bench, "", "host", "user", manual=False, grace_period="3h")
    for _ in range(3):
        bench.later(hours=1)
        bench.desks.rotation.tick()
    assert bench.store.rotation(CaType.HOST).phase is Phase.STANDBY
    assert bench.store.rotation(CaType.USER).phase is Phase.STANDBY


@pytest.mark.parametrize("to_standby", [True, False])
def test_after_an_outage_of_auth_hosts_have_time_to_come_back(to_standby: bool) -> None:
    bench = Bench()
    member, away = Member(bench, "slow").come(), Member(bench, "away").come()
    bench.later(minutes=3)  # it is long gone when auth goes
    member.follow()
    rotate(bench, "", manual=False, grace_period="3h")
    for minutes in (61, 61) if to_standby else ():
        bench.later(minutes=minutes)
        member.follow()
        bench.desks.rotation.tick()
    phase = bench.store.rotation(CaType.HOST).phase
    bench.desks.presence.flush()
    bench.later(hours=2)
    again = beside(bench, "again")
    again.desks.rotation.tick()
    assert bench.store.rotation(CaType.HOST).phase is phase, (
        "everybody looks offline, to begin with"
    )
    hosts = again.desks.rotation.progress(CaType.HOST)
    assert [each.id for each in hosts.waiting] == [member.id]
    assert [each.id for each in hosts.away] == [away.id]
    bench.later(minutes=2)
    again.desks.rotation.tick()
    assert bench.store.rotation(CaType.HOST).phase is not phase, "and it is not waited for for ever"


def test_a_host_that_restarts_at_a_border_is_waited_for() -> None:
    bench = Bench()
    member = Member(bench).come()
    rotate(bench, "", manual=False, grace_period="3h")
    bench.later(minutes=61)
    member.beat()
    member.say(goodbye=Goodbye(reason="shutdown"))
    member.stream.closed()  # type: ignore[union-attr]
    bench.desks.rotation.tick()
    assert bench.store.rotation(CaType.HOST).phase is Phase.INIT
    bench.later(minutes=3)
    bench.desks.rotation.tick()
    assert bench.store.rotation(CaType.HOST).phase is Phase.UPDATE_CLIENTS


@pytest.mark.parametrize("how", ["manual", "rollback"])
def test_what_is_led_by_hand_does_not_move_by_itself(how: str) -> None:
    bench = Bench()
    rotate(bench, "", manual=how == "manual", grace_period="3h")
    if how == "rollback":
        rotate(bench, "rollback", manual=False)
    before = bench.store.rotation(CaType.HOST)
    bench.later(days=10)
    bench.desks.rotation.tick()
    assert bench.store.rotation(CaType.HOST) == before


def test_without_a_grace_period_it_is_over_at_once_and_everybody_is_out() -> None:
    bench = Bench()
    member = Member(bench).come()
    found = rotate(bench, "", manual=False, grace_period="0s")
    assert found["phase"] == "standby"
    assert len(bench.store.cas(CaType.HOST)) == 1
    assert member.gone()
    with pytest.raises(Denied):
        member.come()


# Joins


@pytest.mark.parametrize("phase", [*STEPS, "rollback"])
def test_joins_work_in_every_phase(phase: str) -> None:
    bench = Bench()
    if phase == "rollback":
        up_to(bench, "update_clients")
        rotate(bench, "rollback")
    else:
        up_to(bench, phase)
    Member(bench).come()


@pytest.mark.parametrize("phase", [*MIDDLE, "rollback"])
def test_auth_shows_what_either_pin_believes(phase: str) -> None:
    """A host that trusts one generation alone, by its pin, gets through TLS."""
    bench = Bench(clock=FakeClock.here())
    member = Member(bench)
    assert bench.desks.local.shown_to_all(member.id, member.who.tls_csr) == ""
    if phase == "rollback":
        up_to(bench, "update_servers")
        rotate(bench, "rollback")
    else:
        up_to(bench, phase)
    key = new_tls_key()
    shown = bench.desks.local.shown_to_all(member.id, csr(key, "x"))
    generations = bench.desks.cas.tls(CaType.HOST)
    other = bench.desks.cas.tls(CaType.USER)
    assert [believes(shown, key, [each]) for each in generations] == [True, True]
    assert not believes(shown, key, other)
    for left in ("standby", "rollback", "standby"):
        if left in bench.ask("/v1/auth/rotation")["rotations"][0]["next"]:
            rotate(bench, left)
    assert bench.desks.local.shown_to_all(member.id, csr(key, "x")) == ""


def believes(shown: str, key: Secret, trusted: list[str]) -> bool:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(shown, key, trusted).wrap_bio(there, back, server_side=True)
    client = client_context(None, None, trusted).wrap_bio(
        back, there, server_hostname="web-1.test.example"
    )
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True


def test_what_was_rotated_away_is_told_to_anybody() -> None:
    bench = Bench()
    [pin] = bench.desks.cas.pins()
    up_to(bench, "update_servers")
    assert bench.desks.joins.bundle().retired == []
    rotate(bench, "standby")
    bundle = bench.desks.joins.bundle()
    [gone] = bundle.retired
    assert (gone.pin, gone.at) == (pin, bench.clock.now().timestamp())
    assert len(bundle.host_cas) == 1
    assert bundle.marks == marks(bench)


def test_a_host_that_was_away_comes_back_with_a_token_and_keeps_its_uuid() -> None:
    bench = Bench()
    member = Member(bench)
    bench.later(days=1)
    up_to(bench, "standby")
    with pytest.raises(Denied):
        member.come()
    who = member.who
    who.text, who.host_id = bench.token(text="another-token-of-the-test"), member.id
    who.changes = {"node_name": "renamed", "principals": ["10.0.0.9"]}
    welcome = bench.join(who)
    assert welcome.host_id == member.id
    [(host, _)] = bench.store.hosts()
    assert (host.name, host.principals) == ("web-1", ("10.0.0.9",))
    assert bench.last_event("instance.join").facts["rejoined"] == "yes"
    member.welcome = welcome
    member.come()


@pytest.mark.parametrize("own", ["ssh_key", "tls_csr", ""])
def test_a_uuid_is_kept_with_both_keys_and_not_with_one(own: str) -> None:
    """The public halves are no secret, and neither is an old request."""
    bench = Bench()
    member = Member(bench)
    thief = Applicant(text=bench.token(text="another-token-of-the-test"), host_id=member.id)
    if own:
        thief.changes = {own: getattr(member.who, own)}
    with pytest.raises(Conflict, match="did not show that host's certificate"):
        bench.join(thief, stranger())
    with pytest.raises(Conflict):
        bench.join(thief, the_host("f52527f9-b260-41d0-bb5a-e23b0cfe0f8f", "Node"))


def test_a_locked_host_does_not_come_back_by_its_keys() -> None:
    bench = Bench()
    member = Member(bench)
    bench.ask("/v1/locks/add", target="node", value=member.id)
    member.who.text, member.who.host_id = bench.token(text="another-token-of-the-test"), member.id
    with pytest.raises(Denied, match="is locked"):
        bench.join(member.who)


# Bots


def test_a_bot_is_waited_for_while_its_certificate_lasts() -> None:
    bench = Bench()
    made = bench.ask("/v1/bots/add", name="deploy", roles=["access"])
    who = Applicant(text=made["token"], roles=("Bot",), name="ci")
    welcome = bench.join(who)
    rotate(bench, "init", "user")

    def hosts() -> dict[str, Any]:
        return dict(bench.ask("/v1/auth/rotation")["rotations"][1]["hosts"])

    assert [each["name"] for each in hosts()["waiting"]] == ["ci"]
    bot = Caller(
        kind=Kind.BOT,
        name="bot-deploy",
        address="192.0.2.7",
        bot_instance=welcome.host_id,
    )
    bench.desks.renewals.renew(bot, Renew(hello=who.hello))
    assert hosts()["waiting"] == []
    rotate(bench, "update_clients", "user")
    assert len(hosts()["waiting"]) == 1
    bench.desks.renewals.renew(bot, Renew(hello=who.hello))
    rotate(bench, "update_servers", "user")
    assert hosts()["waiting"] == [], "it need not come for every phase"
    bench.later(minutes=61)
    assert hosts()["present"] == 0


# Several auth servers, and crashes


def beside(bench: Bench, seed: str) -> Bench:
    """Another auth server on the same store, or the same one after a crash."""
    return Bench(store=bench.store, clock=bench.clock, seed=seed)


def test_another_auth_server_follows_and_never_signs_with_what_is_gone() -> None:
    one = Bench()
    other = beside(one, "other")
    member = Member(other).come()
    for phase in STEPS:
        rotate(one, phase)
        assert other.desks.rotation.look()
        assert not other.desks.rotation.look()
        member.follow()
    assert not member.gone()
    rotate(one, grace_period="0s", manual=False)
    welcome = Member(other, "joins-blindly").welcome  # it has not heard of it yet
    assert issuer_pin(welcome.tls_cert, [one.store.cas(CaType.HOST)[0].public.tls_cert])
    assert other.desks.rotation.look()
    assert member.gone()


def test_of_two_that_take_the_same_step_one_is_refused() -> None:
    one = Bench()
    other = beside(one, "other")
    real = other.desks.cas.refresh
    other.desks.cas.refresh = lambda *_: None  # type: ignore[method-assign]  # it has not heard
    rotate(one, "init")
    with pytest.raises(Conflict, match="was changed a moment ago"):
        rotate(other, "init")
    other.desks.cas.refresh = real  # type: ignore[method-assign]
    assert len(one.store.cas(CaType.HOST)) == 2


class Crash(BaseException):
    """A kill -9: nobody catches it."""


class Fragile(MemoryStore):
    """Dies before or after a commit, as told."""

    dies = ""

    def write(self, change: Callable[[MemoryTx], T]) -> T:
        if self.dies == "before":
            raise Crash
        answer = super().write(change)
        if self.dies == "after":
            raise Crash
        return answer


@pytest.mark.parametrize("dies", ["before", "after"])
@pytest.mark.parametrize("way", [STEPS, ("init", "rollback", "standby"),
    ("init", "update_clients", "update_servers", "rollback", "standby")], ids="-".join)  # fmt: skip
def test_a_crash_at_each_border_leaves_this_phase_or_the_next(
    dies: str, way: tuple[str, ...]
) -> None:
    store = Fragile()
    bench = Bench(store=store)
    member = Member(bench).come()
    seen: set[str] = {keys.id for keys in store.cas(CaType.HOST)}
    for number, phase in enumerate(way):
        before = store.rotation(CaType.HOST)
        store.dies = dies
        with pytest.raises(Crash):
            rotate(bench, phase, force=True)
        store.dies = ""
        bench = beside(bench, f"life-{number}")
        after = store.rotation(CaType.HOST)
        if dies == "before":
            assert after == before
            rotate(bench, phase, force=True)
        assert store.rotation(CaType.HOST).phase == phase
        seen |= {keys.id for keys in store.cas(CaType.HOST)}
        member.bench = bench
        member.come().follow()
    assert len(seen) == 2, "no second key pair"
    assert [keys.active for keys in store.cas(CaType.HOST)] == [True]
    member.come()


def test_a_step_that_was_not_told_is_told_with_the_next_tick() -> None:
    bench = Bench()
    member = Member(bench).come()
    fail = [Unavailable("the disk is full")]

    def own_door() -> None:
        if fail:
            raise fail.pop()

    bench.desks.rotation.follow(own_door)
    assert rotate(bench, "init")["phase"] == "init"
    assert member.knowledge().rotations == []
    bench.desks.rotation.tick()
    assert len(member.knowledge().rotations) == 1


def test_our_own_doors_change_before_hosts_are_told() -> None:
    bench = Bench()
    member = Member(bench).come()
    seen: list[tuple[int, int]] = []
    bench.desks.rotation.follow(
        lambda: seen.append(
            (len(bench.desks.cas.tls(CaType.HOST)), len(member.knowledge().host_cas))
        )
    )
    rotate(bench, "init")
    assert seen == [(2, 1)]


def test_certificates_of_both_generations_are_checked_by_what_hosts_are_told() -> None:
    bench = Bench()
    old, late = Member(bench, "old").come(), Member(bench, "late")
    up_to(bench, "update_clients", old)
    known = old.knowledge()
    for each in (old, late):
        peer = peer_identity(
            ssl.PEM_cert_to_DER_cert(each.welcome.tls_cert),
            host_cas=known.host_cas,
            user_cas=known.user_cas,
            now=bench.clock.now() + timedelta(seconds=1),
        )
        assert peer.name == each.id


def test_an_auth_server_without_an_agent_says_itself_that_it_has_caught_up() -> None:
    bench = Bench()
    me = Member(bench, "auth-1").id
    bench.desks.serve_as(me, "10.0.0.1:3025", shared=True)
    found = rotate(bench, "init")
    assert [each["name"] for each in found["hosts"]["waiting"]] == ["auth-1"]
    bench.desks.sharing.caught_up(marks(bench))
    bench.desks.sharing.tick()
    assert bench.ask("/v1/auth/rotation")["rotations"][0]["hosts"]["waiting"] == []
