"""The default store: one SQLite file beside the auth role.

Writes go through one thread (`writer.py`). Reads run where they are called, each on a
connection nobody else uses meanwhile; in WAL mode they wait for no writer and see every commit.
Not for use across a fork.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from teleport_lite.ambient import Chance, SystemChance
from teleport_lite.errors import Unavailable
from teleport_lite.store import connection, files, head
from teleport_lite.store.changes import SqlTx
from teleport_lite.store.dump import SqliteSnapshot
from teleport_lite.store.health import StoreHealth
from teleport_lite.store.migrations import check_version, migrate
from teleport_lite.store.protocols import Sealer
from teleport_lite.store.reads import SqlReads
from teleport_lite.store.watching import Watchers
from teleport_lite.store.writer import Writer

T = TypeVar("T")

_TRAIL_KEY = "trail"
_KEY_PURPOSE = "store/trail-key"
# Connections kept for the next reader; more may be open while more read at once.
_KEEP_READERS = 8


def open_sqlite(path: Path, sealer: Sealer, *, chance: Chance | None = None) -> "SqliteStore":
    """Open the database, making it if there is none; the directory becomes or must be private.

    Raises Unavailable if another process has it, if it is damaged, foreign, from a newer
    version, or sealed under another keyring; Denied if others have access to it. Whatever is
    wrong with it, it is never replaced.
    """
    path = path.absolute()
    claim = files.Claim(path)
    try:
        files.tidy(path)
        with _explained(str(path), "open"):
            if not path.exists() and not path.is_symlink():
                key = (chance or SystemChance()).bytes(32)
                files.make(path, lambda fresh: _fill(fresh, sealer.seal(key, _KEY_PURPOSE), key))
            files.check(path)
            db = connection.connect(path)
            try:
                return SqliteStore(path, sealer, claim, db, _prepare(db, path, sealer))
            except BaseException:
                db.close()
                raise
    except BaseException:
        claim.release()
        raise


def _fill(fresh: Path, sealed_key: bytes, key: bytes) -> None:
    db = connection.connect(fresh)
    try:
        migrate(db)
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO keys (name, sealed) VALUES (?, ?)", (_TRAIL_KEY, sealed_key))
        head.write_head(db, key, head.START)
        db.execute("COMMIT")
    finally:
        db.close()


def _prepare(db: sqlite3.Connection, path: Path, sealer: Sealer) -> head.TrailEnd:
    """Look before touching: nothing is written to a file that is not sound and ours."""
    check_version(db, str(path))
    connection.quick_check(db, str(path))
    row = db.execute("SELECT sealed FROM keys WHERE name = ?", (_TRAIL_KEY,)).fetchone()
    try:
        if row is None:
            raise ValueError("no trail key")
        trail = head.TrailEnd(sealer.unseal(row[0], _KEY_PURPOSE))
    except ValueError as why:
        raise Unavailable(
            f"database {path} was sealed under another keyring", hint=files.PAGE, log=repr(why)
        ) from why
    connection.make_durable(db)
    migrate(db)
    trail.load(db)
    return trail


class SqliteStore(SqlReads):
    """Made by `open_sqlite`."""

    def __init__(
        self,
        path: Path,
        sealer: Sealer,
        claim: files.Claim,
        db: sqlite3.Connection,
        trail: head.TrailEnd,
    ) -> None:
        self._path, self._where, self._sealer, self._claim = path, str(path), sealer, claim
        self._trail_key = trail.key
        self._idle: list[sqlite3.Connection] = []  # list.append and pop are atomic
        self._closed = False
        self._watchers = Watchers()
        self.health = StoreHealth(lambda: files.free(path))
        self._writer = Writer(
            connection.SqliteLedger(db),
            trail=trail,
            sealer=sealer,
            where=self._where,
            told=self._watchers.tell,
        )

    def write(self, change: Callable[[SqlTx], T]) -> T:
        return self.health.write(self._writer.write, change)

    def look(self) -> str:
        return self.health.look(self._writer.write)

    def verify_trail(self) -> tuple[int, int | None]:
        with _explained(self._where, "read"), self._reader() as db:
            db.execute("BEGIN")  # events and head as of one moment
            try:
                return head.verify(db, self._trail_key)
            finally:
                db.execute("ROLLBACK")

    def watch(self, call: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        return self._watchers.add(call)

    def snapshot(self) -> SqliteSnapshot:
        if self._closed:
            raise Unavailable("the store is closed")
        with _explained(self._where, "read"):
            return SqliteSnapshot(connection.for_reading(self._path), self._where, self._sealer)

    def close(self) -> None:
        """Finish the writes that wait, and let others have the database. May be called twice."""
        self._closed = True
        self._writer.close()
        self._watchers.close()
        self._forget_idle()  # readers that still run close theirs themselves
        self._claim.release()

    def _fetch(self, statement: str, values: Sequence[object]) -> list[Any]:
        with _explained(self._where, "read"), self._reader() as db:
            return db.execute(statement, values).fetchall()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own for a moment."""
        if self._closed:
            raise Unavailable("the store is closed")
        try:
            db = self._idle.pop()
        except IndexError:
            db = connection.for_reading(self._path)
        try:
            yield db
        finally:
            if len(self._idle) >= _KEEP_READERS:
                db.close()
            else:
                self._idle.append(db)
            if self._closed:  # and not: looked at before, when it could be closed in between
                self._forget_idle()

    def _forget_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


@contextmanager
def _explained(where: str, verb: str) -> Iterator[None]:
    """Failures of SQLite as Unavailable."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as why:  # damaged text is not even UTF-8
        raise connection.unavailable(where, verb, why) from why
