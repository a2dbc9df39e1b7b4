"""Five wrong passwords in a row."""

import pytest

from teleport_lite.auth import lockout
from teleport_lite.auth.lockout import Lockout
from teleport_lite.errors import Denied
from teleport_lite.testing.fakes import FakeClock

HOME, AWAY = "192.0.2.1", "203.0.113.1"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def locks(clock: FakeClock) -> Lockout:
    return Lockout(clock, lambda user: {HOME, "2001:db8:1:2::/64"} if user == "alice" else ())


def fail(locks: Lockout, times: int, user: str = "alice", address: str = AWAY) -> list[bool]:
    return [locks.take(user, address).last for _ in range(times)]


def test_the_fifth_is_the_last(locks: Lockout) -> None:
    assert fail(locks, 5) == [False] * 4 + [True]
    for ask in (locks.check, locks.take):
        with pytest.raises(Denied, match="login of alice is locked for 30 minutes more"):
            ask("alice", AWAY)
    locks.check("bob", AWAY)


def test_all_strange_places_together_are_one(locks: Lockout) -> None:
    for number in range(5):
        fail(locks, 1, address=f"203.0.113.{number}")
    with pytest.raises(Denied):
        locks.check("alice", "198.51.100.77")


@pytest.mark.parametrize("home", [HOME, "2001:db8:1:2::9", f"::ffff:{HOME}"])
def test_a_known_place_has_a_count_of_its_own(locks: Lockout, home: str) -> None:
    fail(locks, 5)
    locks.check("alice", home)
    fail(locks, 5, address=home)
    with pytest.raises(Denied):
        locks.check("alice", home)


def test_a_wrong_password_counts_before_it_is_known_to_be_wrong(locks: Lockout) -> None:
    """Or a hundred that are looked at together would all be the first."""
    guesses = [locks.take("alice", AWAY) for _ in range(5)]
    with pytest.raises(Denied):
        locks.take("alice", AWAY)
    locks.right(guesses[0])
    locks.check("alice", AWAY)


def test_the_right_one_ends_the_row_where_it_was_typed(locks: Lockout) -> None:
    fail(locks, 5)
    fail(locks, 4, address=HOME)
    locks.right(locks.take("alice", HOME))
    fail(locks, 4, address=HOME)
    with pytest.raises(Denied):
        locks.check("alice", AWAY)


def test_half_an_hour_later_it_is_forgotten(locks: Lockout, clock: FakeClock) -> None:
    fail(locks, 5)
    clock.tick(minutes=29, seconds=59)
    with pytest.raises(Denied, match="for 1 minute more"):
        locks.check("alice", AWAY)
    clock.tick(seconds=1)
    locks.check("alice", AWAY)
    assert fail(locks, 5) == [False] * 4 + [True]


def test_trying_while_locked_does_not_prolong_it(locks: Lockout, clock: FakeClock) -> None:
    fail(locks, 5)
    for _ in range(29):
        clock.tick(minutes=1)
        with pytest.raises(Denied):
            locks.take("alice", AWAY)
    clock.tick(minutes=1)
    locks.check("alice", AWAY)


def test_a_row_that_was_broken_off_half_an_hour_ago_is_none(
    locks: Lockout, clock: FakeClock
) -> None:
    fail(locks, 4)
    clock.tick(minutes=30)
    assert fail(locks, 4) == [False] * 4


def test_what_is_left_is_told_and_can_be_lifted(locks: Lockout, clock: FakeClock) -> None:
    assert locks.left("alice") == 0
    assert not locks.lift("alice")
    fail(locks, 4)
    assert locks.left("alice") == 0
    assert not locks.lift("alice")
    fail(locks, 5)
    fail(locks, 5, address=HOME)
    clock.tick(minutes=10)
    assert locks.left("alice") == 20 * 60
    assert locks.lift("alice")
    for address in (HOME, AWAY):
        locks.check("alice", address)
    assert locks.left("alice") == 0


def test_a_name_that_nobody_can_have_is_not_repeated(locks: Lockout) -> None:
    name = "\x1b[2J" + "x" * 10_000
    fail(locks, 5, user=name)
    with pytest.raises(Denied) as why:
        locks.check(name, AWAY)
    assert "login of this user is locked" in why.value.message
    assert why.value.hint == "wait, or ask an administrator: tctl users unlock"


def test_memory_is_bounded(locks: Lockout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "MAX_NAMES", 10)
    for number in range(30):
        fail(locks, 1, user=f"name-{number}")
    assert len(locks._counts) == 10


def test_nothing_is_kept_of_who_gets_it_right(locks: Lockout) -> None:
    for user in ("alice", "bob"):
        locks.right(locks.take(user, AWAY))
    assert not locks._counts
