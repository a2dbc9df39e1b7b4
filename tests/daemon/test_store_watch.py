"""What is said of a store that can not write, and how often."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from teleport_lite.daemon.store_watch import StoreWatch
from teleport_lite.errors import Unavailable
from teleport_lite.store.health import StoreHealth
from teleport_lite.testing.fakes import FakeClock


class Store:
    def __init__(self) -> None:
        self.health, self.cause = StoreHealth(), ""

    def look(self) -> str:
        return self.health.look(self._write)

    def write(self) -> None:
        self.health.write(self._write, lambda tx: tx.set_meta("a", "b"))

    def set_meta(self, key: str, value: str) -> None: ...

    def _write(self, change: Callable[[Any], Any]) -> Any:
        if self.cause:
            raise Unavailable(f"cannot write database /x: {self.cause}")
        return change(self)


def test_it_says_so_once_then_every_ten_seconds_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    store, clock, told = Store(), FakeClock(), list[str]()
    watch = StoreWatch(store, clock, told.append)
    watch.tick()
    store.cause = "the disk is full"
    with pytest.raises(Unavailable):
        store.write()
    for _ in range(60):
        watch.tick()
        clock.tick(seconds=0.5)
        with pytest.raises(Unavailable, match="auth is read-only: the disk is full"):
            store.write()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3, "in half a minute"
    assert lines[0] == "auth is read-only: the disk is full; 0 changes were refused"
    store.cause = ""
    watch.tick()
    watch.tick()
    assert told == ["read-only: the disk is full", ""]
    [_, _, _, last] = [record.getMessage() for record in caplog.records]
    assert last == "auth writes again, after 30 s; 60 changes were refused meanwhile"
    store.write()


def test_what_comes_and_goes_every_second_is_said_every_ten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    store, clock, told = Store(), FakeClock(), list[str]()
    watch = StoreWatch(store, clock, told.append)
    for _ in range(20):
        store.cause = "the disk is full"
        with pytest.raises(Unavailable):
            store.write()
        watch.tick()
        store.cause = ""
        clock.tick(seconds=1)
        watch.tick()
    assert len(told) == 40, "who asks hears how it is now"
    assert len(caplog.records) == 4, "twice that it is so, and that it is over"


def test_another_cause_is_told(caplog: pytest.LogCaptureFixture) -> None:
    store, clock, told = Store(), FakeClock(), list[str]()
    watch = StoreWatch(store, clock, told.append)
    for cause in ("the disk is full", "disk I/O error"):
        store.cause = cause
        with pytest.raises(Unavailable):
            store.write()
        watch.tick()
    assert told == ["read-only: the disk is full", "read-only: disk I/O error"]


def test_it_is_said_before_a_look_that_takes_long() -> None:
    store, told = Store(), list[str]()
    watch = StoreWatch(store, FakeClock(), told.append)
    watch.tick()
    store.cause = "another process has locked it"
    with pytest.raises(Unavailable):
        store.write()
    heard_at_the_look: list[str] = []
    look = store.look
    store.look = lambda: heard_at_the_look.extend(told) or look()  # type: ignore[method-assign, func-returns-value]
    watch.tick()
    assert heard_at_the_look == ["read-only: another process has locked it"]
