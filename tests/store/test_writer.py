"""The writer thread: who shares a commit, and who fails with whom."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.store.changes import SqlTx
from teleport_lite.store.connection import SqliteLedger, make_durable
from teleport_lite.store.head import START, TrailEnd, verify, write_head
from teleport_lite.store.migrations import migrate
from teleport_lite.store.writer import Writer, _Job
from tests.store.makers import a_keyring, an_event
from tests.support import eventually

KEY = b"trail key"


class Fragile(sqlite3.Connection):
    """A connection that fails where a test says so, and counts its commits."""

    fails_at = ""
    commits = 0

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if self.fails_at and statement.startswith(self.fails_at):
            raise sqlite3.OperationalError("disk I/O error")
        self.commits += statement == "COMMIT"
        return super().execute(statement, *values)


class Desk:
    """A writer on a connection within reach of the test."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(
            path, factory=Fragile, isolation_level=None, check_same_thread=False
        )
        migrate(self.db)
        make_durable(self.db)
        write_head(self.db, KEY, START)
        trail = TrailEnd(KEY)
        trail.load(self.db)
        self.told: list[frozenset[str]] = []
        self.writer = Writer(
            SqliteLedger(self.db),
            trail=trail,
            sealer=a_keyring(),
            where=str(path),
            told=self.told.append,
        )
        self.reader = sqlite3.connect(path, isolation_level=None)

    def together(self, *changes: Callable[[SqlTx], Any]) -> list[Any]:
        """Have the changes wait side by side, so that they become one batch; how each ended."""
        started, proceed = threading.Event(), threading.Event()

        def hold(tx: SqlTx) -> None:
            started.set()
            assert proceed.wait(60)

        ends: list[Any] = [None] * len(changes)

        def run(number: int, change: Callable[[SqlTx], Any]) -> None:
            try:
                ends[number] = self.writer.write(change)
            except BaseException as error:
                ends[number] = error

        first = threading.Thread(target=self.writer.write, args=(hold,))
        first.start()
        assert started.wait(60)
        threads = []
        for number, change in enumerate(changes):
            threads.append(threading.Thread(target=run, args=(number, change)))
            threads[-1].start()
            eventually(
                lambda number=number: self.writer._jobs.qsize() == number + 1,
                what="the change to wait in the queue",
            )
        proceed.set()
        for thread in (first, *threads):
            thread.join(60)
        return ends

    def meta(self) -> dict[str, str]:
        rows = "SELECT key, value FROM meta WHERE key != 'readable_by'"  # the schema's own
        return dict(self.reader.execute(rows).fetchall())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "x.db")
    yield made
    made.db.fails_at = ""
    made.writer.close()
    made.reader.close()


def put(key: str) -> Callable[[SqlTx], str]:
    def change(tx: SqlTx) -> str:
        tx.set_meta(key, "kept")
        tx.record(an_event(key=key))
        return key

    return change


def refuse(tx: SqlTx) -> None:
    tx.set_meta("refused", "kept")
    tx.record(an_event(key="refused"))
    raise Denied("no")


def test_those_who_wait_together_share_one_commit(desk: Desk) -> None:
    before = desk.db.commits
    assert desk.together(*(put(f"k{number}") for number in range(20))) == [
        f"k{number}" for number in range(20)
    ]
    assert desk.db.commits - before == 2  # that of the one who held them up, and theirs
    assert len(desk.meta()) == 20


def test_a_batch_has_a_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teleport_lite.store.writer._MAX_BATCH", 4)
    before = desk.db.commits
    desk.together(*(put(f"k{number}") for number in range(8)))
    assert desk.db.commits - before == 3


def test_one_that_fails_in_a_batch_fails_alone(desk: Desk) -> None:
    first, second, third = desk.together(put("a"), refuse, put("b"))
    assert (first, third) == ("a", "b")
    assert isinstance(second, Denied)
    assert desk.meta() == {"a": "kept", "b": "kept"}
    assert verify(desk.reader, KEY) == (2, None)


def test_one_that_uses_sqlite_wrongly_fails_alone(desk: Desk) -> None:
    def wrong(tx: SqlTx) -> None:
        tx.set_meta("wrong", None)  # type: ignore[arg-type]  # the mistake under test

    first, second, third = desk.together(put("a"), wrong, put("b"))
    assert (first, third) == ("a", "b")
    assert isinstance(second, sqlite3.IntegrityError)


@pytest.mark.parametrize("where", ["BEGIN", "COMMIT", "INSERT INTO trail_head", "RELEASE"])
def test_when_the_commit_fails_everybody_is_told_and_nothing_is_kept(
    desk: Desk, where: str
) -> None:
    desk.writer.write(put("before"))
    held: list[str] = []

    def break_it(tx: SqlTx) -> None:
        tx.set_meta("a", "kept")
        tx.record(an_event(key="a"))
        tx.on_commit(lambda: held.append("a"))
        desk.db.fails_at = where

    if where == "BEGIN":
        desk.db.fails_at = where
        ends = []
        for change in (put("a"), refuse):
            with pytest.raises(Unavailable) as caught:
                desk.writer.write(change)
            ends.append(caught.value)
    else:
        ends = desk.together(break_it, refuse, put("b"))
    assert [type(end) for end in ends] == [Unavailable] * len(ends)
    assert len({id(end) for end in ends}) == len(ends)
    assert ends[0].message.endswith("disk I/O error")
    assert desk.meta() == {"before": "kept"}
    assert held == []
    desk.db.fails_at = ""
    assert desk.writer.write(put("after")) == "after"
    assert verify(desk.reader, KEY) == (2, None)


def test_listeners_are_told_before_the_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So who begins to listen after it hears nothing of what led to it."""
    finish, told = _Job.finish, list[int]()

    def answer(job: _Job) -> None:
        told.append(len(desk.told))
        finish(job)

    monkeypatch.setattr(_Job, "finish", answer)
    desk.writer.write(put("a"))
    assert told == [1]


def test_what_a_failed_commit_may_have_kept_is_told_to_listeners(desk: Desk) -> None:
    """When its answer is lost for good, nobody knows; who watches looks."""

    def change(tx: SqlTx) -> None:
        tx.topics.add("roles")
        desk.db.fails_at = "COMMIT"

    with pytest.raises(Unavailable):
        desk.writer.write(change)
    desk.writer.close()  # what is told comes after the answer
    assert desk.told == [frozenset({"roles"})]


def test_what_was_certainly_not_kept_is_told_to_nobody(desk: Desk) -> None:
    def change(tx: SqlTx) -> None:
        tx.topics.add("roles")
        desk.db.fails_at = "RELEASE"

    with pytest.raises(Unavailable):
        desk.writer.write(change)
    desk.writer.close()
    assert desk.told == [frozenset()]


def test_a_failure_of_the_database_cannot_be_swallowed_by_a_change(desk: Desk) -> None:
    def swallow(tx: SqlTx) -> str:
        desk.db.fails_at = "INSERT INTO events"
        try:
            tx.record(an_event())
        except Exception:
            tx.set_meta("swallowed", "kept")
        return "all is well"

    [end] = desk.together(swallow)
    assert isinstance(end, Unavailable)
    assert desk.meta() == {}


def test_close_finishes_what_waits(desk: Desk) -> None:
    closer = threading.Thread(target=desk.writer.close)

    def hold(tx: SqlTx) -> None:
        closer.start()
        eventually(lambda: desk.writer._closed, what="the close to be asked for")

    ends = desk.together(hold, put("a"))
    closer.join(60)
    assert ends == [None, "a"]
    with pytest.raises(Unavailable, match="closed"):
        desk.writer.write(put("late"))


def test_an_interrupt_within_a_change_does_not_kill_the_writer(desk: Desk) -> None:
    def stop(tx: SqlTx) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        desk.writer.write(stop)
    assert desk.writer.write(put("a")) == "a"


def test_a_broken_on_commit_call_is_told_and_the_change_stays(desk: Desk) -> None:
    def change(tx: SqlTx) -> None:
        tx.set_meta("a", "kept")
        tx.on_commit(broken.pop)

    broken: list[None] = []
    with pytest.raises(IndexError):
        desk.writer.write(change)
    assert desk.meta() == {"a": "kept"}
