"""How we open SQLite, and what its failures mean in our words."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Unavailable
from teleport_lite.store.dialect import Answer, Dialect

# How long another process (a backup, somebody's sqlite3 shell) may hold us up: who asked for a
# change is told within five seconds, of which a busy machine needs some for the way there and back.
_BUSY_SECONDS = 4.0
# SQLite adds up the pauses that it meant to make. On a busy machine they are longer, and 5 s become
# 6.5; so it is asked to wait for this long only, again and again, by the clock.
_BUSY_STEP = 0.05
_CLOCK = SystemClock()
# After a burst the journal shrinks back to this at the next checkpoint.
_JOURNAL_LIMIT = 64 * 1024 * 1024

# secure_delete: what was deleted is overwritten. trusted_schema, cell_size_check: the file may
# have been in other hands (https://sqlite.org/security.html).
_ALWAYS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that exists. Transactions are ours to begin and end."""
    db = sqlite3.connect(
        path.absolute().as_uri() + "?mode=rw",  # rw: never makes a file
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    for pragma in _ALWAYS:
        db.execute(pragma)
    return db


def for_reading(path: Path) -> sqlite3.Connection:
    db = connect(path)
    db.execute("PRAGMA query_only = ON")
    return db


def make_durable(db: sqlite3.Connection) -> None:
    """A commit is on disk when it returns. With synchronous=NORMAL a power cut loses some."""
    [mode] = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"journal mode is {mode}, not wal")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT}")


class SqliteLedger:
    """Owns the connection it is given, and closes it. The file is this process's alone."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self.dialect = db, SQLITE
        # BEGIN IMMEDIATE is all that waits for others: whoever has begun has what a commit takes.
        db.execute(f"PRAGMA busy_timeout = {round(_BUSY_STEP * 1000)}")

    def begin(self) -> None:
        ends = _CLOCK.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self.script("BEGIN IMMEDIATE", "SAVEPOINT change")
                return
            except sqlite3.OperationalError as why:
                if not _is_busy(why) or _CLOCK.monotonic() >= ends:
                    raise

    def execute(self, statement: str, values: Any = (), /) -> Answer:
        return self._db.execute(statement, values)

    def script(self, *statements: str) -> None:
        for statement in statements:
            self._db.execute(statement)

    def commit(self, topics: Sequence[str]) -> None:
        """There is nobody else to tell."""
        del topics
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        if self._db.in_transaction:  # after a full disk SQLite has rolled back by itself
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        self._db.close()


def _is_busy(why: sqlite3.Error) -> bool:
    return getattr(why, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def quick_check(db: sqlite3.Connection, where: str) -> None:
    """Raises Unavailable if the file's structure is damaged. Reads all of it once."""
    [found] = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Unavailable(f"database {where} is damaged: {_plain(found)}", hint="docs/storage.md")


def unavailable(where: str, verb: str, why: BaseException) -> Unavailable:
    """What a failure of SQLite means to the one who waits. `verb`: read, write, open."""
    # The low byte is the primary code, https://sqlite.org/rescode.html
    damaged = sqlite3.SQLITE_CORRUPT if isinstance(why, UnicodeDecodeError) else 0
    code = getattr(why, "sqlite_errorcode", damaged) & 0xFF
    cause, hint = _CAUSES.get(code, (_plain(str(why)) or type(why).__name__, ""))
    return Unavailable(f"cannot {verb} database {where}: {cause}", hint=hint, log=repr(why))


_CAUSES = {
    sqlite3.SQLITE_FULL: ("the disk is full", "df -h"),
    # Also what a full disk looks like while the journal's index is made.
    sqlite3.SQLITE_IOERR: ("disk I/O error", "df -h"),
    sqlite3.SQLITE_BUSY: ("another process has locked it", ""),
    sqlite3.SQLITE_LOCKED: ("another process has locked it", ""),
    sqlite3.SQLITE_READONLY: ("it is read-only", ""),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "docs/storage.md"),
    sqlite3.SQLITE_NOTADB: ("it is not a database", "docs/storage.md"),
}


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:200]


_BUGS = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.NotSupportedError,
)
SQLITE = Dialect(
    error=sqlite3.Error, is_bug=lambda why: isinstance(why, _BUGS), unavailable=unavailable
)
