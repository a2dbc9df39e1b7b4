"""The tables in PostgreSQL: those of `migrations.py`, in its words.

One of several auth servers makes them, or takes them a step further, while the others wait for
an advisory lock.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from teleport_lite.errors import Unavailable
from teleport_lite.store.migrations import BREAKS, MIGRATIONS, note_readable_by, refuse_newer
from teleport_lite.store.postgres_link import PAGE, Session

# What belongs to this database and not to the cluster in it; no backup takes it along.
OWN_TABLES = frozenset({"schema_version", "batches"})

_OWN = (
    "CREATE TABLE schema_version (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL)",
    "INSERT INTO schema_version VALUES (1, 0)",
    # The last batch of changes each writer has committed: what to look at when the answer to a
    # commit is lost. `noted_at` is by the clock of the server.
    "CREATE TABLE batches (writer TEXT PRIMARY KEY, number BIGINT NOT NULL, "
    "noted_at TIMESTAMPTZ NOT NULL DEFAULT now())",
    """CREATE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS
       'BEGIN RAISE EXCEPTION ''the audit trail is append-only''; END'""",
)
_EVENTS_STAY = (
    "CREATE TRIGGER {name} BEFORE {what} ON events FOR EACH STATEMENT "
    "EXECUTE FUNCTION events_stay()"
)
# SQLite compares text byte by byte; so does the collation "C", whatever the database has.
_WORDS = (
    (re.compile(r"\) WITHOUT ROWID$"), ")"),
    (re.compile(r"\bTEXT\b"), 'TEXT COLLATE "C"'),
    (re.compile(r"\bINTEGER\b"), "BIGINT"),
    (re.compile(r"\bBLOB\b"), "BYTEA"),
    (re.compile(r'(?<!")\buser\b(?!")'), '"user"'),
)
_TRIGGER = re.compile(r"CREATE TRIGGER (\w+) BEFORE (DELETE|UPDATE) ON events\b")
# "tplt" and the schema: advisory locks are those of the whole database.
_LOCK = "SELECT pg_advisory_lock(1953524852, hashtext(current_schema()))"
_UNLOCK = "SELECT pg_advisory_unlock(1953524852, hashtext(current_schema()))"


def in_postgres(statement: str) -> str:
    """A statement of a migration step as PostgreSQL wants it."""
    if trigger := _TRIGGER.match(statement):
        what = "DELETE OR TRUNCATE" if trigger[2] == "DELETE" else "UPDATE"
        return _EVENTS_STAY.format(name=trigger[1], what=what)
    for pattern, words in _WORDS:
        statement = pattern.sub(words, statement)
    return statement


@contextmanager
def alone(db: Session) -> Iterator[None]:
    """Nobody else changes the tables meanwhile."""
    db.execute(_LOCK)
    try:
        yield
    finally:
        if not db.lost:
            db.execute(_UNLOCK)


def version(db: Session, where: str) -> int:
    """Of the schema; 0 if the database is empty. Raises Unavailable if it is not ours."""
    row = db.execute("SELECT to_regclass('schema_version'), to_regclass('events')").fetchone()
    if row[0] is None:
        if row[1] is not None:
            raise Unavailable(f"{where} is not a database of teleport-lite", hint=PAGE)
        return 0
    [number] = db.execute("SELECT number FROM schema_version").fetchone()
    return int(number)


def check_version(db: Session, where: str, steps: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """As that of SQLite."""
    refuse_newer(db, where, version(db, where), len(steps))


def make(
    db: Session,
    fill: Callable[[], None],
    steps: Sequence[Sequence[str]] = MIGRATIONS,
) -> None:
    """All tables in an empty schema and what `fill` puts there, whole or not at all."""
    with db.raw.transaction():
        db.script(*_OWN)
        for number in range(len(steps)):
            _step(db, steps, number, BREAKS)
        fill()


def migrate(
    db: Session,
    where: str,
    steps: Sequence[Sequence[str]] = MIGRATIONS,
    breaks: Collection[int] = BREAKS,
) -> None:
    """Take it to the newest schema, one transaction a step. The caller is `alone`."""
    for number in range(version(db, where), len(steps)):
        with db.raw.transaction():
            _step(db, steps, number, breaks)


def _step(
    db: Session, steps: Sequence[Sequence[str]], number: int, breaks: Collection[int]
) -> None:
    for statement in steps[number]:
        db.script(in_postgres(statement))
    note_readable_by(db, number, breaks)
    db.execute("UPDATE schema_version SET number = ?", (number + 1,))
