"""Five wrong passwords in a row, at however many auth servers."""

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import pytest

from teleport_lite.auth.lockout import Lockout
from teleport_lite.errors import Denied
from teleport_lite.model.user import User
from teleport_lite.store.memory import MemoryStore
from teleport_lite.store.protocols import Store
from teleport_lite.testing.fakes import T0, FakeClock

HOME, AWAY = "192.0.2.1", "203.0.113.1"
KEY = b"names"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> Store:
    store = MemoryStore()
    store.write(lambda tx: tx.add_user(User(name="alice", roles=())))
    for source in (HOME, "2001:db8:1:2::/64"):
        store.write(lambda tx, source=source: tx.note_login("alice", source, T0))  # type: ignore[misc]  # mypy can not infer a lambda with a default
    return store


@pytest.fixture
def locks(clock: FakeClock, store: Store) -> Lockout:
    return Lockout(clock, store, KEY)


def fail(locks: Lockout, times: int, user: str = "alice", address: str = AWAY) -> list[bool]:
    """For each, whether it locked."""
    told = []
    for _ in range(times):
        with locks.take(user, address) as guess:
            told.append(locks.wrong(guess, stranger=user != "alice"))
    return told


def succeed(locks: Lockout, store: Store, address: str = AWAY) -> None:
    with locks.take("alice", address) as guess:
        store.write(lambda tx: locks.right(tx, guess))


def test_the_fifth_is_the_last(locks: Lockout) -> None:
    assert fail(locks, 5) == [False] * 4 + [True]
    asks: list[Callable[[str, str], Any]] = [locks.check, lambda *who: fail(locks, 1)]
    for ask in asks:
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
    tries = [locks.take("alice", AWAY) for _ in range(5)]
    for each in tries:
        each.__enter__()
    with pytest.raises(Denied):
        fail(locks, 1)
    tries[0].__exit__(None, None, None)  # right, or broken off
    fail(locks, 1)


def test_the_right_one_ends_the_row_where_it_was_typed(locks: Lockout, store: Store) -> None:
    fail(locks, 5)
    fail(locks, 4, address=HOME)
    succeed(locks, store, HOME)
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
            fail(locks, 1)
    clock.tick(minutes=1)
    locks.check("alice", AWAY)


def test_a_row_that_was_broken_off_half_an_hour_ago_is_none(
    locks: Lockout, clock: FakeClock
) -> None:
    fail(locks, 4)
    clock.tick(minutes=30)
    assert fail(locks, 4) == [False] * 4


def test_what_is_left_is_told_and_can_be_lifted(locks: Lockout, clock: FakeClock) -> None:
    assert locks.left(["alice", "bob"]) == {"alice": 0, "bob": 0}
    assert not locks.lift("alice")
    fail(locks, 4)
    assert locks.left(["alice"]) == {"alice": 0}
    assert not locks.lift("alice")
    fail(locks, 5)
    fail(locks, 5, address=HOME)
    clock.tick(minutes=10)
    assert locks.left(["alice", "bob"]) == {"alice": 20 * 60, "bob": 0}
    assert locks.lift("alice")
    for address in (HOME, AWAY):
        locks.check("alice", address)
    assert locks.left(["alice"]) == {"alice": 0}


def test_a_name_that_nobody_can_have_is_not_repeated(locks: Lockout, store: Store) -> None:
    name = "\x1b[2J" + "x" * 10_000
    fail(locks, 5, user=name)
    with pytest.raises(Denied) as why:
        locks.check(name, AWAY)
    assert "login of this user is locked" in why.value.message
    assert why.value.hint == "wait, or ask an administrator: tctl users unlock"


def test_what_was_typed_for_a_name_is_not_in_the_store(locks: Lockout, store: Store) -> None:
    """It may be a password."""
    fail(locks, 1, user="my-secret-phrase")
    [row] = store.guesses()
    assert row.stranger
    assert "secret" not in repr(row)


def test_nothing_is_kept_of_who_gets_it_right(locks: Lockout, store: Store) -> None:
    succeed(locks, store)
    assert not locks._flying
    assert store.guesses() == []


def test_guesses_at_one_auth_server_count_at_the_other_at_once(
    locks: Lockout, clock: FakeClock, store: Store
) -> None:
    other = Lockout(clock, store, KEY)
    assert fail(locks, 3) + fail(other, 2) == [False] * 4 + [True]
    for each in (locks, other):
        with pytest.raises(Denied, match="is locked"):
            each.check("alice", AWAY)
    assert other.lift("alice")
    locks.check("alice", AWAY)
    fail(locks, 4)
    succeed(other, store)
    assert fail(locks, 4) == [False] * 4


def test_a_right_password_that_comes_after_five_wrong_ones_elsewhere_is_refused(
    locks: Lockout, clock: FakeClock, store: Store
) -> None:
    """Looked at by one server while the other one was counting: no sixth guess, not even right."""
    other = Lockout(clock, store, KEY)
    with locks.take("alice", AWAY) as guess:
        fail(other, 5)
        with pytest.raises(Denied, match="is locked"):
            store.write(lambda tx: locks.right(tx, guess))
        with pytest.raises(Denied, match="is locked"):
            locks.wrong(guess, stranger=False)


def test_of_twenty_at_once_at_two_servers_five_hear_that_they_are_wrong(
    locks: Lockout, clock: FakeClock, store: Store
) -> None:
    servers = [locks, Lockout(clock, store, KEY)]
    start, told = Barrier(20), list[str]()

    def guess(number: int) -> None:
        start.wait()
        try:
            fail(servers[number % 2], 1)
            told.append("wrong")
        except Denied:
            told.append("locked")

    threads = [Thread(target=guess, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count("wrong") <= 5
    assert [row.count for row in store.guesses()] == [told.count("wrong")]
