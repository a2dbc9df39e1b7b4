"""One thread writes. Those who wait at the same time share one transaction and one fsync.

    callers -> queue -> BEGIN SAVEPOINT (change RELEASE SAVEPOINT) (change RELEASE ...) ... COMMIT
       ^------------------------ answers, once all of it is on disk ------------------------'

Each change has its own savepoint, so one that fails undoes itself alone. When the database
fails, nobody in the batch is told that all is well.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from teleport_lite.errors import Unavailable
from teleport_lite.store.changes import SqlTx, burial
from teleport_lite.store.dialect import Ledger
from teleport_lite.store.head import TrailEnd
from teleport_lite.store.protocols import Sealer

T = TypeVar("T")

# The longest anybody waits behind others, some 10 ms; past 100 the fsync is shared well enough.
_MAX_BATCH = 256


class _Job:
    """One change and how it ended."""

    __slots__ = ("answer", "change", "done", "error", "landed", "topics")

    def __init__(self, change: Callable[[SqlTx], Any]) -> None:
        self.change = change
        self.answer: Any = None
        self.error: BaseException | None = None
        self.landed: list[Callable[[], None]] = []
        self.topics: set[str] = set()
        self.done = threading.Lock()  # held until the job is over; cheaper than an Event
        self.done.acquire()

    def finish(self) -> None:
        self.change = _forgotten
        self.done.release()


class Writer:
    """Owns the ledger it is given, and closes it."""

    def __init__(
        self,
        db: Ledger,
        *,
        trail: TrailEnd,
        sealer: Sealer,
        where: str,
        told: Callable[[frozenset[str]], None],
    ) -> None:
        """`told` hears what each batch has changed, once that is on disk; and what one may have
        changed, of which the database did not say whether it is."""
        self._told = told
        self._db, self._trail, self._sealer, self._where = db, trail, sealer, where
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()  # guards _closed, so that no job follows the last one
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def write(self, change: Callable[[SqlTx], T]) -> T:
        if threading.current_thread() is self._thread:
            raise RuntimeError("write was called from within a change")
        job = _Job(change)
        with self._gate:
            if self._closed:
                raise Unavailable("the store is closed")
            self._jobs.put(job)
        job.done.acquire()
        if job.error is not None:
            raise job.error
        answer: T = job.answer
        return answer

    def close(self) -> None:
        """Finish what is waiting, then stop. May be called twice."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._next_batch()
            if batch:
                self._settle(batch)
        self._db.close()

    def _next_batch(self) -> tuple[list[_Job], bool]:
        """Wait for one job, take what else is there, and say whether it was the last batch."""
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == _MAX_BATCH or self._jobs.empty():
                return batch, False
            job = self._jobs.get()
        return batch, True

    def _settle(self, batch: list[_Job]) -> None:
        topics = frozenset[str]()
        try:
            self._db.begin()
            for job in batch:
                self._make(job)
            self._trail.save(self._db)
            topics = frozenset[str]().union(*(job.topics for job in batch))
            self._db.commit(sorted(topics))
            self._trail.settle(durable=True)
        except BaseException as why:
            batch += self._waiting()
            self._undo(batch, why)
        for job in batch:
            _land(job)
        self._told(
            topics
        )  # first: who begins to watch after an answer is not told of what led to it
        for job in batch:
            job.finish()

    def _waiting(self) -> list[_Job]:
        """Those behind a batch that has failed: they would wait as long, for the same answer."""
        found: list[_Job] = []
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is None:  # the end, and nothing comes after it
                self._jobs.put(None)
                break
            found.append(job)
        return found

    def _make(self, job: _Job) -> None:
        """Make one change. Raises only what concerns the whole batch."""
        before = self._trail.head
        tx = SqlTx(self._db, self._trail, self._sealer)
        try:
            job.answer = job.change(tx)
            job.landed, job.topics = tx.landed, tx.topics
        except BaseException as error:
            job.error = error
        tx.over = True
        if tx.failure is not None:
            raise tx.failure
        undo: tuple[str, ...] = ()
        if job.error is not None:
            undo, self._trail.head = ("ROLLBACK TO change",), before
        # Outside the savepoint: a refusal does not turn back the clock.
        buried = () if tx.seen is None else burial(tx.seen)
        self._db.script(*undo, "RELEASE change", *buried, "SAVEPOINT change")

    def _undo(self, batch: list[_Job], why: BaseException) -> None:
        try:
            self._db.rollback()
        except self._db.dialect.error as also:
            why.add_note(f"and rolling back failed: {also}")
        self._trail.settle(durable=False)
        for job in batch:
            job.landed = []
            # To each its own: threads that raise one exception mix up their tracebacks.
            job.error = self._meaning(why)

    def _meaning(self, why: BaseException) -> Unavailable:
        if isinstance(why, Unavailable):
            return Unavailable(why.message, hint=why.hint, log=why.log)
        return self._db.dialect.unavailable(self._where, "write", why)


def _land(job: _Job) -> None:
    try:
        for call in job.landed:
            call()
    except Exception as error:
        job.error = error


def _forgotten(tx: SqlTx) -> None:
    """Stands in for a change that was made, so that what it held on to can go."""
