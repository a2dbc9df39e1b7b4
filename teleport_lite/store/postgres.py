"""The store of several auth servers: a PostgreSQL database that they share.

Writes go through one thread of each (`writer.py`), and among them one batch at a time
(`postgres_ledger.py`). Reads run where they are called, each on a connection nobody else uses
meanwhile, and see every commit. Not for use across a fork.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from teleport_lite.ambient import Chance, SystemChance
from teleport_lite.errors import Unavailable
from teleport_lite.secret import Secret
from teleport_lite.store import head, postgres_schema
from teleport_lite.store.changes import SqlTx
from teleport_lite.store.dialect import Answer
from teleport_lite.store.dump_postgres import PostgresSnapshot
from teleport_lite.store.health import StoreHealth
from teleport_lite.store.postgres_ear import Ear
from teleport_lite.store.postgres_ledger import PostgresLedger
from teleport_lite.store.postgres_link import PAGE, Link, Session, unavailable
from teleport_lite.store.protocols import Sealer
from teleport_lite.store.reads import SqlReads
from teleport_lite.store.sealed import TRAIL_KEY, TRAIL_PURPOSE
from teleport_lite.store.watching import Watchers
from teleport_lite.store.writer import Writer

T = TypeVar("T")
log = logging.getLogger("teleport_lite.store")

# Connections kept for the next reader, and how many there may be at once: a server has 100 by
# default, for all auth servers together.
_KEEP_READERS = 8
_MOST_READERS = 16
# How long a reader waits for one of them, in seconds.
_READER_WAIT = 10.0
# Rows that are fetched at once where all of them are looked at.
_PAGE_ROWS = 2000


def open_postgres(
    conn_string: Secret, sealer: Sealer, *, chance: Chance | None = None
) -> "PostgresStore":
    """Open the database, making its tables if there are none.

    Raises Malformed if `conn_string` is none; Unavailable if the server can not be reached,
    refuses us or takes no writes, and if the database is foreign, from a newer version, or
    sealed under another keyring. Whatever is wrong with it, it is never replaced.
    """
    chance, link = chance or SystemChance(), Link(conn_string)
    if link.unverified:
        log.warning(
            "the server of database %s is not verified, so somebody on the way could pose as it: "
            "add sslmode=verify-full to teleport.storage.conn_string",
            link.where,
        )
    db = link.connect("open", patient=True)
    try:
        trail = _prepare(db, link.where, sealer, chance)
        [schema] = db.execute("SELECT current_schema()").fetchone()
    except psycopg.Error as why:
        raise unavailable(link.where, "open", why) from why
    finally:
        db.close()
    channel = f"teleport_lite_{hashlib.sha256(schema.encode()).hexdigest()[:16]}"
    writer = chance.uuid()
    ledger = PostgresLedger(link, trail=trail, writer=writer, channel=channel)
    return PostgresStore(link, sealer, ledger, trail, writer=writer, channel=channel)


def _prepare(db: Session, where: str, sealer: Sealer, chance: Chance) -> head.TrailEnd:
    """Look before touching: nothing is written to a database that is not ours."""
    with postgres_schema.alone(db):
        if postgres_schema.version(db, where) == 0:
            key = chance.bytes(32)
            postgres_schema.make(db, lambda: _fill(db, sealer.seal(key, TRAIL_PURPOSE), key))
        postgres_schema.check_version(db, where)
        row = db.execute("SELECT sealed FROM keys WHERE name = ?", (TRAIL_KEY,)).fetchone()
        try:
            if row is None:
                raise ValueError("no trail key")
            trail = head.TrailEnd(sealer.unseal(row[0], TRAIL_PURPOSE))
        except ValueError as why:
            raise Unavailable(
                f"database {where} was sealed under another keyring", hint=PAGE, log=repr(why)
            ) from why
        postgres_schema.migrate(db, where)
    return trail


def _fill(db: Session, sealed_key: bytes, key: bytes) -> None:
    db.execute("INSERT INTO keys (name, sealed) VALUES (?, ?)", (TRAIL_KEY, sealed_key))
    head.write_head(db, key, head.START)


class PostgresStore(SqlReads):
    """Made by `open_postgres`."""

    def __init__(
        self,
        link: Link,
        sealer: Sealer,
        ledger: PostgresLedger,
        trail: head.TrailEnd,
        *,
        writer: str,
        channel: str,
    ) -> None:
        self._link, self._where, self._sealer = link, link.where, sealer
        self._trail_key = trail.key
        self._idle: list[Session] = []  # list.append and pop are atomic
        self._free = threading.BoundedSemaphore(_MOST_READERS)
        self._closed = False
        self._watchers = Watchers()
        self._ear = Ear(link, writer=writer, channel=channel, told=self._watchers.tell)
        self.health = StoreHealth()
        self._writer = Writer(
            ledger, trail=trail, sealer=sealer, where=self._where, told=self._watchers.tell
        )

    def write(self, change: Callable[[SqlTx], T]) -> T:
        return self.health.write(self._writer.write, change)

    def look(self) -> str:
        return self.health.look(self._writer.write, doubt=self._link.lost)

    def verify_trail(self) -> tuple[int, int | None]:
        with self._explained(), self._reader() as db:
            db.script(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SET LOCAL statement_timeout = 0"
            )  # events and head as of one moment, however many there are
            try:
                with _Paged(db) as paged:
                    return head.verify(paged, self._trail_key)
            finally:
                if not db.lost:
                    db.script("ROLLBACK")

    def watch(self, call: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        end = self._watchers.add(call)
        self._ear.start()
        return end

    def snapshot(self) -> PostgresSnapshot:
        if self._closed:
            raise Unavailable("the store is closed")
        return PostgresSnapshot(
            self._link.connect("snapshot", reading=True, patient=True), self._where, self._sealer
        )

    def close(self) -> None:
        """Finish the writes that wait. May be called twice."""
        self._closed = True
        self._link.close()
        self._writer.close()
        self._ear.close()
        self._watchers.close()
        self._forget_idle()  # readers that still run close theirs themselves

    def _fetch(self, statement: str, values: Sequence[object]) -> list[Any]:
        """A connection that died while nobody used it is no reason to fail."""
        try:
            with self._reader() as db:
                return db.execute(statement, values).fetchall()
        except psycopg.Error as why:
            if not db.lost:
                raise unavailable(self._where, "read", why) from why
        self._forget_idle()
        with self._explained(), self._reader() as db:
            return db.execute(statement, values).fetchall()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as why:
            raise unavailable(self._where, "read", why) from why

    @contextmanager
    def _reader(self) -> Iterator[Session]:
        """A connection of one's own for a moment."""
        if self._closed:
            raise Unavailable("the store is closed")
        if not self._free.acquire(timeout=_READER_WAIT):
            raise Unavailable(f"cannot read database {self._where}: too many read at once")
        try:
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._link.connect_soon("reader", reading=True)
            try:
                yield db
            finally:
                if db.lost or len(self._idle) >= _KEEP_READERS:
                    db.close()
                else:
                    self._idle.append(db)
                if self._closed:  # and not: looked at before, when it could be closed in between
                    self._forget_idle()
        finally:
            self._free.release()

    def _forget_idle(self) -> None:
        """What has ended one has ended most of them, and nobody needs them in a closed store."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


class _Paged:
    """A database whose answers come in pages: the trail may be larger than the memory. Inside a
    transaction."""

    def __init__(self, db: Session) -> None:
        self._db, self._cursors, self._count = db, ExitStack(), 0

    def __enter__(self) -> "_Paged":
        return self

    def __exit__(self, *_: object) -> None:
        self._cursors.close()

    def execute(self, statement: str, values: Any = (), /) -> Answer:
        self._count += 1
        cursor = self._cursors.enter_context(self._db.raw.cursor(f"page{self._count}"))
        cursor.itersize = _PAGE_ROWS
        cursor.execute(statement, values or None)
        return cursor
