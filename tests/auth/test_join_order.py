"""Joining: what is asked before what, what stands together, and whose word is not enough."""

from collections.abc import Callable
from typing import Any

import pytest

from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.errors import Conflict, Denied, Malformed, Unavailable
from tests.auth.bench import CLUSTER, OURS, Applicant, Bench, stranger

TOO_MANY = "too many failed joins"


def guess(bench: Bench, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Denied):
            bench.join(Applicant("no-such-token"))


def test_who_has_guessed_too_often_is_not_even_asked_for_a_proof() -> None:
    bench = Bench()
    bench.token()
    guess(bench, 20)
    with pytest.raises(Unavailable, match=TOO_MANY):
        bench.desks.joins.start(stranger(), Applicant().first(bench.clock.now().timestamp()))


def test_a_talk_from_before_the_guesses_has_to_wait_too() -> None:
    """Else a thousand talks could be begun first, and be guessed in afterwards."""
    bench = Bench()
    bench.token()
    who = Applicant()
    last = bench.begin(who)
    guess(bench, 20)
    with pytest.raises(Unavailable, match=TOO_MANY):
        bench.finish(who, last)
    assert bench.hosts() == []


def test_a_cluster_that_joins_has_to_wait_too() -> None:
    bench = Bench()
    guess(bench, 20)
    hello = {"cluster": "leaf.test"}
    with pytest.raises(Unavailable, match=TOO_MANY):
        bench.ask("/v1/trust/finish", stranger(), session="x", client_final="x", hello=hello)


def test_who_is_changed_by_others_each_time_is_told_so_and_gets_nothing() -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    last = bench.begin(who)
    bench.store.write = lambda change: False  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="can not join the cluster now, it is being changed"):
        bench.finish(who, last)
    assert bench.hosts() == []


def test_a_wrong_clock_counts_as_a_guess() -> None:
    """It writes to the trail, so it can not be free."""
    bench = Bench()
    wrong = Applicant().first(bench.clock.now().timestamp() + 600)
    for _ in range(20):
        with pytest.raises(Denied, match="its clock is"):
            bench.desks.joins.start(stranger(), wrong)
    with pytest.raises(Unavailable, match=TOO_MANY):
        bench.desks.joins.start(stranger(), wrong)
    event = bench.last_event("instance.join")
    assert (event.facts["node_name"], event.facts["addr.remote"]) == ("web-1", "192.0.2.7")


def test_the_use_of_the_token_the_host_and_the_event_are_one_transaction() -> None:
    bench = Bench()
    bench.token()
    who = Applicant()
    last = bench.begin(who)
    write, writes = bench.store.write, 0

    def counted(change: Callable[[Any], Any]) -> Any:
        nonlocal writes
        writes += 1
        return write(change)

    bench.store.write = counted  # type: ignore[method-assign]
    bench.finish(who, last)
    assert writes == 1
    assert bench.last_event("instance.join").code == "TJ002I"


def test_the_same_keys_with_another_token_are_no_second_answer() -> None:
    """That one is for who has lost the first, with the token it was asked for."""
    bench = Bench()
    bench.token(text="0123456789abcdef-one")
    bench.token(text="0123456789abcdef-two")
    who = Applicant("0123456789abcdef-one")
    bench.join(who)
    who.text = "0123456789abcdef-two"
    with pytest.raises(Conflict, match="this SSH key belongs to another host"):
        bench.join(who)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.HOST])
def test_a_name_alone_is_no_host(kind: Kind) -> None:
    """Somebody who is called like a host: kind and name together are who somebody is."""
    bench = Bench()
    bench.token("node,app")
    host_id = bench.join().host_id
    caller = Caller(kind=kind, name=host_id, address="192.0.2.7", our_certificate=OURS)
    with pytest.raises(Conflict, match="did not show that host's certificate"):
        bench.join(Applicant(roles=("App",), host_id=host_id), caller)


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"node_name": "a b"}, "node name"), ({"principals": ["a b"]}, "principal")],
)
def test_a_bad_name_is_refused_as_what_it_is(changes: dict[str, Any], what: str) -> None:
    bench = Bench()
    bench.token()
    with pytest.raises(Malformed, match=f"^{what} 'a b'"):
        bench.join(Applicant(changes=changes))


def test_what_a_stranger_says_is_cut_before_it_is_written_down() -> None:
    bench = Bench()
    bench.token()
    who = Applicant(roles=("Node", "x" * 300), changes={"node_name": "ä" * 300})
    with pytest.raises(Malformed):
        bench.join(who)
    facts = bench.last_event("instance.join").facts
    assert facts["node_name"] == ascii("ä" * 64)
    assert facts["roles"] == "Node," + "x" * 195


def test_the_bundle_names_the_cas_that_are_no_more() -> None:
    bench = Bench()
    before = bench.desks.joins.bundle()
    bench.ask("/v1/auth/rotate", types=["host"], grace_period="0")
    after = bench.desks.joins.bundle()
    assert after.cluster == CLUSTER
    assert after.host_cas != before.host_cas
    [gone] = after.retired
    assert (gone.pin[:7], gone.at) == ("sha256:", bench.clock.now().timestamp())
    assert after.marks != before.marks
