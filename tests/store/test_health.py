"""A store that can not write says so once, refuses at once, and gets well by itself."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.store import files
from teleport_lite.store.health import FLOOR, StoreHealth
from teleport_lite.store.sqlite import SqliteStore, open_sqlite
from teleport_lite.testing.fakes import FakeClock
from tests.store.makers import a_keyring
from tests.support import eventually


class Disk:
    """What a change is made on."""

    def __init__(self) -> None:
        self.broken: Unavailable | None = None
        self.tried: int = 0
        self.meta: dict[str, str] = {}

    def set_meta(self, key: str, value: str) -> None:
        self.meta[key] = value

    def write(self, change: Callable[[Any], Any]) -> Any:
        self.tried += 1
        answer = change(self)
        if self.broken is not None:
            raise self.broken
        return answer


def full() -> Unavailable:
    return Unavailable("cannot write database /a/b.db: the disk is full", hint="df -h")


def test_the_first_failure_is_tried_and_the_rest_is_refused_at_once() -> None:
    health, disk = StoreHealth(), Disk()
    assert health.look(disk.write) == ""
    assert health.write(disk.write, lambda tx: 7) == 7
    disk.broken = full()
    with pytest.raises(Unavailable, match="cannot write database"):
        health.write(disk.write, lambda tx: 7)
    tried = disk.tried
    with pytest.raises(Unavailable, match=r"^auth is read-only: the disk is full$"):
        health.write(disk.write, lambda tx: 7)
    assert (disk.tried, health.refused, health.trouble) == (tried, 1, "the disk is full")


def test_it_is_well_again_when_a_probe_has_written() -> None:
    health, disk = StoreHealth(), Disk()
    disk.broken = full()
    with pytest.raises(Unavailable):
        health.write(disk.write, lambda tx: 7)
    assert health.look(disk.write) == "the disk is full"
    disk.broken = Unavailable("cannot write database /a/b.db: disk I/O error")
    assert health.look(disk.write) == "disk I/O error"
    disk.broken = None
    assert health.look(disk.write) == ""
    assert disk.meta, "and it has written something"
    assert health.write(disk.write, lambda tx: 7) == 7


def test_what_a_change_says_is_no_trouble_of_the_store() -> None:
    health, disk = StoreHealth(), Disk()

    def refuse(tx: object) -> None:
        raise Unavailable("no room for recordings")

    def deny(tx: object) -> None:
        raise Denied("no")

    for change, kind in ((refuse, Unavailable), (deny, Denied)):
        with pytest.raises(kind):
            health.write(disk.write, change)
    assert health.look(disk.write) == ""


def test_a_store_that_nobody_looks_after_tries_every_write() -> None:
    health, disk = StoreHealth(), Disk()
    disk.broken = full()
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot write database"):
            health.write(disk.write, lambda tx: 7)
    disk.broken = None
    assert health.write(disk.write, lambda tx: 7) == 7
    assert health.trouble == ""


def test_a_disk_with_next_to_nothing_left_is_full_before_it_fails() -> None:
    left = FLOOR
    health, disk = StoreHealth(lambda: left), Disk()
    assert health.look(disk.write) == ""
    left = FLOOR - 1
    assert health.look(disk.write) == "the disk is full"
    with pytest.raises(Unavailable, match="read-only"):
        health.write(disk.write, lambda tx: 7)
    assert disk.tried == 0
    left = FLOOR
    assert health.look(disk.write) == ""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    monkeypatch.setattr("teleport_lite.store.connection._BUSY_SECONDS", 0.1)
    made = open_sqlite(tmp_path / "auth.db", a_keyring())
    yield made
    made.close()


def test_a_database_that_somebody_locks_is_read_only_until_it_is_free(
    store: SqliteStore, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "auth.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="another process has locked it"):
        store.write(lambda tx: tx.set_meta("a", "1"))
    assert store.look() == "another process has locked it"
    with pytest.raises(Unavailable, match="auth is read-only"):
        store.write(lambda tx: tx.set_meta("a", "1"))
    assert store.meta("a") is None, "reads go on"
    other.execute("ROLLBACK")
    assert store.look() == ""
    store.write(lambda tx: tx.set_meta("a", "1"))
    assert store.meta("a") == "1"
    other.close()


def test_a_lock_is_waited_for_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite adds up the pauses it meant to make, and on a busy machine each takes longer."""
    store, looks = open_sqlite(tmp_path / "auth.db", a_keyring()), list[float]()

    class Hasty(FakeClock):
        """A second passes between two looks at it."""

        def monotonic(self) -> float:
            self.tick(seconds=1)
            looks.append(super().monotonic())
            return looks[-1]

    monkeypatch.setattr("teleport_lite.store.connection._CLOCK", Hasty())
    other = sqlite3.connect(tmp_path / "auth.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="another process has locked it"):
        store.write(lambda tx: tx.set_meta("a", "1"))
    assert looks[-1] - looks[0] == 4, "seconds by the clock, whatever SQLite has counted"
    other.close()
    store.write(lambda tx: tx.set_meta("a", "1"))
    store.close()


def test_how_much_is_free(tmp_path: Path) -> None:
    free = files.free(tmp_path / "auth.db")
    assert free is not None
    assert free > 0
    assert files.free(tmp_path / "nowhere" / "auth.db") is None


def test_who_waits_behind_a_lock_waits_no_longer_than_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty come while somebody else has the database, and the first of them waits for it."""
    store = open_sqlite(tmp_path / "auth.db", a_keyring())
    other = sqlite3.connect(tmp_path / "auth.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits, told = list[float](), list[Unavailable]()

    class Patient(FakeClock):
        """It stands still until all the others wait behind the first; then an hour is a moment."""

        def monotonic(self) -> float:
            if len(waits) == 1:
                eventually(lambda: store._writer._jobs.qsize() == 19, what="all to wait")
            if waits:
                self.tick(seconds=3600)
            waits.append(super().monotonic())
            return waits[-1]

    monkeypatch.setattr("teleport_lite.store.connection._CLOCK", Patient())

    def write(number: int) -> None:
        with pytest.raises(Unavailable) as why:
            store.write(lambda tx: tx.set_meta(f"key-{number}", "1"))
        told.append(why.value)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    writers[0].start()
    eventually(lambda: waits, what="the first to wait")
    for writer in writers[1:]:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(told) == 20
    assert len(waits) == 2, "a second batch would begin to wait anew"
    other.execute("ROLLBACK")
    other.close()
    store.look()
    store.write(lambda tx: tx.set_meta("after", "1"))
    assert [store.meta(f"key-{number}") for number in range(20)] == [None] * 20
    store.close()
