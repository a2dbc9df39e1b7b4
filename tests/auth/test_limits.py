"""How often a stranger may guess."""

from contextlib import suppress

import pytest

from teleport_lite.auth import limits
from teleport_lite.auth.limits import GuessLimit
from teleport_lite.errors import Unavailable
from teleport_lite.testing.fakes import FakeClock


def use_up(limit: GuessLimit, address: str) -> None:
    for _ in range(20):
        limit.check(address)
        limit.failed(address)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limit(clock: FakeClock) -> GuessLimit:
    return GuessLimit(clock, "joins")


def test_twenty_failures_and_then_ten_a_minute(limit: GuessLimit, clock: FakeClock) -> None:
    use_up(limit, "192.0.2.1")
    with pytest.raises(Unavailable, match="too many failed joins") as why:
        limit.check("192.0.2.1")
    assert why.value.hint == "try again in 7 s"
    clock.tick(seconds=6)
    limit.check("192.0.2.1")
    limit.failed("192.0.2.1")
    with pytest.raises(Unavailable):
        limit.check("192.0.2.1")
    clock.tick(minutes=1)
    for _ in range(10):
        limit.check("192.0.2.1")
        limit.failed("192.0.2.1")
    with pytest.raises(Unavailable):
        limit.check("192.0.2.1")


def test_patience_is_not_saved_up_beyond_twenty(limit: GuessLimit, clock: FakeClock) -> None:
    clock.tick(days=1)
    use_up(limit, "192.0.2.1")
    with pytest.raises(Unavailable):
        limit.check("192.0.2.1")


def test_asking_without_failing_costs_nothing(limit: GuessLimit) -> None:
    for _ in range(1000):
        limit.check("192.0.2.1")


def test_others_are_not_concerned(limit: GuessLimit) -> None:
    use_up(limit, "192.0.2.1")
    limit.check("192.0.2.2")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("local", "local"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_one_network_is_one_source(limit: GuessLimit, one: str, other: str) -> None:
    use_up(limit, one)
    with pytest.raises(Unavailable):
        limit.check(other)


def test_another_network_is_another(limit: GuessLimit) -> None:
    use_up(limit, "2001:db8:1:2::1")
    limit.check("2001:db8:1:3::1")


def test_each_of_several_servers_allows_its_share(clock: FakeClock) -> None:
    alive = [2]
    one, other = (GuessLimit(clock, "joins", lambda: alive[0]) for _ in range(2))
    allowed = 0
    for limit in (one, other) * 20:
        with suppress(Unavailable):
            limit.check("192.0.2.1")
            limit.failed("192.0.2.1")
            allowed += 1
    assert allowed == 20
    with pytest.raises(Unavailable) as why:
        one.check("192.0.2.1")
    assert why.value.hint == "try again in 13 s"
    clock.tick(seconds=12)
    one.check("192.0.2.1")
    alive[0] = 1  # the other one has died
    clock.tick(minutes=2)
    use_up(one, "192.0.2.1")


def test_memory_is_bounded_and_the_oldest_source_is_forgotten(
    limit: GuessLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_SOURCES", 100)
    use_up(limit, "192.0.2.1")
    for n in range(100):
        limit.failed(f"10.0.0.{n}")
    assert len(limit._left) == 100
    limit.check("192.0.2.1")
