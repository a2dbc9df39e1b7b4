"""Counting strangers: pure, so every number can be looked at."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.model.source import source_of
from teleport_lite.net.ssh_limits import Limits, Penalties, Startups, Step
from teleport_lite.net.ssh_line import Outcome

NOBODY_EXEMPT = Limits(exempt=())


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_who_counts_as_one(address: str, source: str) -> None:
    assert source_of(address) == source


def test_few_get_in_and_more_of_one_source_wait() -> None:
    startups = Startups(Limits(per_source=2, queue_per_source=1))
    steps = [startups.arrive("a", 50) for _ in range(4)]
    assert steps == [Step.START, Step.START, Step.WAIT, Step.DROP]
    assert startups.arrive("b", 50) is Step.START


def test_who_leaves_makes_room_for_who_waits() -> None:
    startups = Startups(Limits(per_source=1, queue_per_source=1))
    assert startups.arrive("a", 50) is Step.START
    assert startups.arrive("a", 50) is Step.WAIT
    startups.leave("a")
    assert startups.start_waiting("a", 50) is Step.START
    assert startups.started == 1
    startups.leave("a")
    assert startups.started == 0


def test_all_who_wait_together_are_limited_too() -> None:
    startups = Startups(Limits(per_source=1, queue=3, begin=100))
    for source in "abcd":
        assert startups.arrive(source, 50) is Step.START
    assert [startups.arrive(source, 50) for source in "abcd"] == [Step.WAIT] * 3 + [Step.DROP]


@pytest.mark.parametrize(
    ("started", "share"),
    [(9, 0), (10, 30), (55, 65), (99, 99), (100, 100), (150, 100)],
)
def test_drops_grow_from_30_to_100_percent(started: int, share: int) -> None:
    """sshd(8): MaxStartups 10:30:100."""
    startups = Startups(Limits())
    for number in range(started):
        startups._started[str(number)] += 1
    assert startups._unlucky(share - 1) is (share > 0)
    assert startups._unlucky(share + 1) is (share == 100)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200))
def test_counts_never_go_astray(moves: list[tuple[str, bool]]) -> None:
    limits = Limits(per_source=3, queue_per_source=2, begin=5, full=7)
    startups = Startups(limits)
    inside: list[str] = []
    waiting: list[str] = []
    for source, arrives in moves:
        if arrives:
            step = startups.arrive(source, 50)
            inside += [source] * (step is Step.START)
            waiting += [source] * (step is Step.WAIT)
        elif source in inside:
            inside.remove(source)
            startups.leave(source)
            if source in waiting:
                waiting.remove(source)
                inside += [source] * (startups.start_waiting(source, 50) is Step.START)
        assert startups.started == len(inside) <= limits.full
        assert all(inside.count(each) <= limits.per_source for each in "abc")


def test_small_penalties_add_up_to_one_that_counts() -> None:
    penalties = Penalties(NOBODY_EXEMPT)
    for _ in range(2):
        penalties.punish("192.0.2.7", Outcome.AUTH_FAILED, 0.0)
        assert not penalties.refuses("192.0.2.7", 0.0)
    penalties.punish("192.0.2.7", Outcome.AUTH_FAILED, 0.0)
    assert penalties.refuses("192.0.2.7", 0.0)
    assert penalties.refuses("192.0.2.7", 14.9)
    assert not penalties.refuses("192.0.2.7", 15.1)
    assert not penalties.refuses("192.0.2.8", 0.0)


def test_a_crash_costs_a_minute_and_a_half_at_once() -> None:
    penalties = Penalties(NOBODY_EXEMPT)
    penalties.punish("192.0.2.7", Outcome.CRASH, 0.0)
    assert penalties.refuses("192.0.2.7", 89.0)
    assert not penalties.refuses("192.0.2.7", 91.0)


def test_a_penalty_has_an_end_however_often_it_was_earned() -> None:
    penalties = Penalties(NOBODY_EXEMPT)
    for _ in range(1000):
        penalties.punish("192.0.2.7", Outcome.CRASH, 0.0)
    assert penalties.refuses("192.0.2.7", 599.0)
    assert not penalties.refuses("192.0.2.7", 601.0)


def test_who_waits_it_out_starts_from_nothing() -> None:
    penalties = Penalties(NOBODY_EXEMPT)
    penalties.punish("192.0.2.7", Outcome.GRACE, 0.0)
    penalties.punish("192.0.2.7", Outcome.GRACE, 11.0)
    assert not penalties.refuses("192.0.2.7", 11.0)


def test_the_exempt_are_never_kept_out() -> None:
    penalties = Penalties(Limits(exempt=(ipaddress.ip_network("2001:db8::/32"),)))
    for source in ("2001:db8:1:2::/64", "127.0.0.1"):
        penalties.punish(source, Outcome.CRASH, 0.0)
    assert not penalties.refuses("2001:db8:1:2::/64", 0.0)
    assert penalties.refuses("127.0.0.1", 0.0)


def test_loopback_is_exempt_unless_said_otherwise() -> None:
    penalties = Penalties(Limits())
    penalties.punish("127.0.0.1", Outcome.CRASH, 0.0)
    penalties.punish("::/64", Outcome.CRASH, 0.0)
    assert not penalties.refuses("127.0.0.1", 0.0)


def test_what_is_remembered_has_a_limit() -> None:
    penalties = Penalties(Limits(exempt=(), penalty_sources=100))
    for number in range(1000):
        penalties.punish(f"10.0.{number // 256}.{number % 256}", Outcome.CRASH, float(number))
    assert len(penalties._until) <= 100
    assert penalties.refuses("10.0.3.231", 1000.0)  # the newest


def test_every_outcome_has_a_price() -> None:
    assert set(Limits().penalties) == set(Outcome)
