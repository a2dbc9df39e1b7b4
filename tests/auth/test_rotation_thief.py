"""Who has the key of the CA that goes can pass for any host until it is gone. Not after that."""

import ssl
from copy import copy
from typing import Any

import pytest

from teleport_lite.auth.caller import Kind
from teleport_lite.auth.issue import Issuer
from teleport_lite.errors import Conflict, Denied
from teleport_lite.model.authority import CaType
from teleport_lite.net.accept import Peer
from teleport_lite.proto.codec import MAX_FRAME, read
from teleport_lite.proto.join import Renew
from teleport_lite.proto.stream import ToAgent
from tests.auth.bench import OURS, Applicant, Bench
from tests.auth.fleet import Member
from tests.auth.test_rotation import STEPS, beside, rotate, up_to


def thief_of(member: Member) -> Member:
    """A machine that passes for `member`: what it shows is of the CA that goes."""
    thief = copy(member)
    thief.heard, thief.stream = [], None
    return thief


def claims(bench: Bench, thief: Member) -> None:
    thief.beat({"host": bench.store.rotation(CaType.HOST).mark})


def test_a_stream_that_has_not_renewed_is_cut_whatever_it_says_of_itself() -> None:
    bench = Bench()
    thief = thief_of(Member(bench, "web-1")).come()
    for step in STEPS[:3]:
        rotate(bench, step)
        claims(bench, thief)
    with pytest.raises(Conflict, match=r"have not caught up .* web-1"):
        rotate(bench, "standby")
    rotate(bench, "standby", force=True)
    assert thief.gone()
    with pytest.raises(Denied):
        thief.come()


def test_a_host_that_has_renewed_gets_its_place_back_from_who_passed_for_it() -> None:
    bench = Bench()
    member = Member(bench, "web-1")
    thief = thief_of(member)
    member.come()
    up_to(bench, "update_servers", member)
    member.stream.closed()  # type: ignore[union-attr]  # it has one
    thief.come()
    claims(bench, thief)
    rotate(bench, "standby", force=True)
    assert thief.gone()
    thief.stream.closed()  # type: ignore[union-attr]
    assert not member.come().gone()


def test_what_is_told_of_a_new_stream_is_believed_by_its_certificate() -> None:
    bench = Bench()
    member = Member(bench, "web-1").come()
    up_to(bench, "update_clients", member)
    member.come()
    claims(bench, member)
    [host, *_] = bench.ask("/v1/auth/rotation")["rotations"]
    assert host["hosts"]["waiting"] == []


@pytest.mark.parametrize("grace", ["0s", "48h"])
def test_no_renewal_with_a_retired_ca_at_an_auth_server_that_has_not_heard(grace: str) -> None:
    """Between the step, by whichever auth server, and the end of the stream."""
    one = Bench()
    other = beside(one, "other")
    thief = Member(other, "web-1").come()
    before = one.store.host(thief.id)
    if grace == "0s":
        rotate(one, grace_period=grace, manual=False)
    else:
        up_to(one, "standby")
    thief.say(renew=Renew(hello=Applicant(text="", name="web-1").hello))
    refusal = thief.refusal()
    assert thief.gone()
    assert refusal is not None
    assert "the host CA was rotated on 2026" in refusal.message
    assert one.store.host(thief.id) == before, "the host can come back with the keys it has"


def test_a_step_between_the_look_and_the_signature_hands_nothing_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    thief = Member(bench, "web-1").come()
    other, plan = beside(bench, "other"), Issuer.plan

    def meanwhile(*words: Any) -> Any:
        rotate(other, grace_period="0s", manual=False)
        return plan(*words)

    monkeypatch.setattr(Issuer, "plan", meanwhile)
    thief.heard.clear()
    thief.say(renew=Renew(hello=thief.who.hello))
    assert thief.refusal() is not None
    said = [read(ToAgent, each, limit=MAX_FRAME) for each in thief.heard if each is not None]
    assert not any(each.welcome for each in said)


def test_a_bot_of_a_retired_user_ca_renews_no_more() -> None:
    bench = Bench()
    made = bench.ask("/v1/bots/add", name="deploy", roles=["access"])
    who = Applicant(text=made["token"], roles=("Bot",), name="ci")
    welcome = bench.join(who)
    der = ssl.PEM_cert_to_DER_cert(welcome.tls_cert)
    caller = Member(bench).doorman().caller(Peer("192.0.2.7", der, None, OURS))
    assert caller.kind is Kind.BOT
    bench.desks.renewals.renew(caller, Renew(hello=who.hello))
    rotate(bench, "", "user", grace_period="0s", manual=False)
    with pytest.raises(Denied, match="the user CA of this certificate was rotated on 2026"):
        bench.desks.renewals.renew(caller, Renew(hello=who.hello))
