"""Fakes promise what the real ones do, where a test can tell."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from teleport_lite.ambient import Chance, Clock, SystemChance, SystemClock
from teleport_lite.testing.fakes import T0, FakeChance, FakeClock


@pytest.mark.parametrize("clock", [FakeClock(), SystemClock()], ids=["fake", "real"])
def test_a_clock_tells_utc_and_never_runs_backwards(clock: Clock) -> None:
    assert clock.now().tzinfo is UTC
    first = clock.monotonic()
    assert clock.monotonic() >= first


def test_time_passes_when_told_to() -> None:
    clock = FakeClock()
    clock.tick(minutes=30, seconds=1)
    assert clock.now() - T0 == timedelta(minutes=30, seconds=1)
    assert clock.monotonic() == 1801


def test_setting_the_clock_is_not_time_passing() -> None:
    clock = FakeClock()
    clock.set(T0 - timedelta(days=1))
    assert clock.now() == T0 - timedelta(days=1)
    assert clock.monotonic() == 0
    with pytest.raises(ValueError, match="backwards"):
        clock.tick(seconds=-1)


def test_a_clock_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        FakeClock(datetime(2026, 1, 1))
    assert abs(FakeClock.here().now() - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("chance", [FakeChance(), SystemChance()], ids=["fake", "real"])
def test_chance_keeps_its_forms(chance: Chance) -> None:
    assert len(chance.bytes(16)) == 16
    assert len(chance.token(16)) == 32
    assert set(chance.token(16)) <= set("0123456789abcdef")
    assert uuid.UUID(chance.uuid()).version == 4
    assert 2 <= chance.uniform(2, 5) <= 5
    assert chance.token(16) != chance.token(16)


def test_fake_chance_is_the_same_in_every_run_and_another_for_another_seed() -> None:
    def some(seed: str) -> list[str]:
        chance = FakeChance(seed)
        return [chance.uuid(), chance.token(4), chance.bytes(4).hex()]

    assert some("") == some("") != some("x")
    assert FakeChance().uniform(0, 10) == 5


def test_no_value_comes_twice_whoever_asks() -> None:
    chance, found = FakeChance(), []

    def ask() -> None:
        found.extend(chance.uuid() for _ in range(200))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1600
