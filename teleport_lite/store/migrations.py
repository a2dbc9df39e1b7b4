"""The tables, and how a database of an older version gets to them.

A step never changes once it was released; what it got wrong, a later step puts right. Number n
in the list leads from schema n to n+1, inside one transaction. Times are microseconds, UTC.

An upgrade that fails is rolled back to a program that knows fewer steps, and it must be able to
start. So a step adds: tables, indices, columns with a default. What is to go is first left alone
for a release, and goes in the next. A step after which older programs could go wrong, be it that
they would not see a restriction, is one of `BREAKS`: they refuse what it has touched.
"""

import sqlite3
from collections.abc import Collection, Sequence

from teleport_lite.errors import Unavailable
from teleport_lite.store.dialect import Database

# "tplt": says whose file this is (https://sqlite.org/pragma.html#pragma_application_id).
APPLICATION_ID = 0x74706C74
# Later than every date: a token that does not expire dies then.
NEVER = (1 << 63) - 1

_FIRST = (
    # `sealed` holds the text and the SCRAM verifier. From `dies_at` on nobody may use it:
    # its expiry, or the end of the replay window of a spent one. `dead`: that time was seen.
    """CREATE TABLE tokens (
        name TEXT PRIMARY KEY NOT NULL,
        roles TEXT NOT NULL,
        once INTEGER NOT NULL CHECK (once IN (0, 1)),
        expires_at INTEGER,
        dies_at INTEGER NOT NULL,
        dead INTEGER NOT NULL DEFAULT 0 CHECK (dead IN (0, 1)),
        spent_at INTEGER,
        spent_by TEXT,
        document TEXT NOT NULL,
        sealed BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX tokens_alive ON tokens (dies_at) WHERE dead = 0",
    """CREATE TABLE hosts (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT NOT NULL,
        ssh_key TEXT NOT NULL,
        joined_at INTEGER NOT NULL,
        document TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX hosts_by_key ON hosts (ssh_key)",
    """CREATE TABLE reports (
        host_id TEXT PRIMARY KEY NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
        document TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE users (name TEXT PRIMARY KEY NOT NULL, document TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE roles (name TEXT PRIMARY KEY NOT NULL, document TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE locks (
        id TEXT PRIMARY KEY NOT NULL,
        expires_at INTEGER,
        document TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE cas (
        type TEXT NOT NULL,
        id TEXT NOT NULL,
        document TEXT NOT NULL,
        sealed BLOB NOT NULL,
        PRIMARY KEY (type, id)
    ) WITHOUT ROWID""",
    "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY NOT NULL,
        line BLOB NOT NULL,
        hash TEXT NOT NULL
    )""",
    # What should be last, so that a missing end shows; `mac` is made with the sealed trail key.
    """CREATE TABLE trail_head (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        seq INTEGER NOT NULL,
        hash TEXT NOT NULL,
        mac BLOB NOT NULL
    )""",
    "CREATE TABLE keys (name TEXT PRIMARY KEY NOT NULL, sealed BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TRIGGER events_stay BEFORE DELETE ON events
       BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
    """CREATE TRIGGER events_keep BEFORE UPDATE ON events
       BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
)

# What belongs to a user goes with the user.
_PASSWORDS = (
    # `sealed` holds the SCRAM verifier of the stretched password.
    """CREATE TABLE passwords (
        user TEXT PRIMARY KEY NOT NULL REFERENCES users (name) ON DELETE CASCADE,
        document TEXT NOT NULL,
        sealed BLOB NOT NULL
    ) WITHOUT ROWID""",
    # One a user. `sealed` holds the token.
    """CREATE TABLE invites (
        user TEXT PRIMARY KEY NOT NULL REFERENCES users (name) ON DELETE CASCADE,
        name TEXT NOT NULL UNIQUE,
        expires_at INTEGER NOT NULL,
        document TEXT NOT NULL,
        sealed BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX invites_by_end ON invites (expires_at)",
    """CREATE TABLE login_sources (
        user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
        source TEXT NOT NULL,
        last_at INTEGER NOT NULL,
        PRIMARY KEY (user, source)
    ) WITHOUT ROWID""",
)

# The recordings themselves are files. They stay when their user or host goes.
_RECORDINGS = (
    """CREATE TABLE recordings (
        sid TEXT PRIMARY KEY NOT NULL,
        user TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        stored_at INTEGER NOT NULL,
        stored INTEGER NOT NULL,
        document TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX recordings_by_start ON recordings (started_at, sid)",
    "CREATE INDEX recordings_by_age ON recordings (stored_at, sid)",
)

# For CAs that are rotated, clusters that trust each other, and several auth servers.
_CLUSTERS = (
    "CREATE TABLE rotations (type TEXT PRIMARY KEY NOT NULL, serial INTEGER NOT NULL, "
    "document TEXT NOT NULL) WITHOUT ROWID",
    # `sealed` holds the private key that this cluster shows to its root.
    """CREATE TABLE trusted (
        name TEXT PRIMARY KEY NOT NULL,
        document TEXT NOT NULL,
        sealed BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE remotes (name TEXT PRIMARY KEY NOT NULL, document TEXT NOT NULL) WITHOUT ROWID",
    # Holder '': nobody has it. The row stays, so that the next fence is higher.
    """CREATE TABLE leases (
        name TEXT PRIMARY KEY NOT NULL,
        holder TEXT NOT NULL,
        fence INTEGER NOT NULL,
        ends_at INTEGER NOT NULL
    ) WITHOUT ROWID""",
)

# Wrong passwords, counted by all auth servers together. `name` is a hash.
_GUESSES = (
    """CREATE TABLE guesses (
        name TEXT NOT NULL,
        source TEXT NOT NULL,
        count INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        stranger INTEGER NOT NULL CHECK (stranger IN (0, 1)),
        PRIMARY KEY (name, source)
    ) WITHOUT ROWID""",
    "CREATE INDEX guesses_by_age ON guesses (last_at)",
    "CREATE INDEX guesses_of_strangers ON guesses (last_at) WHERE stranger = 1",
)

MIGRATIONS: Sequence[Sequence[str]] = (_FIRST, _PASSWORDS, _RECORDINGS, _CLUSTERS, _GUESSES)
# Schemas whose step does more than add, by the number it leads to. The first release had all
# before.
BREAKS: Collection[int] = (1, 2, 3)

# In `meta`: how many steps a program has to know to work with this database.
_READABLE_BY = "readable_by"
_PUT_READABLE_BY = (
    "INSERT INTO meta (key, value) VALUES (?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


def check_version(
    db: sqlite3.Connection, where: str, steps: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Raises Unavailable for a database that is not ours, or from a newer version of us that has
    done more to it than add. What it has added stays, for the time when it comes back."""
    [application] = db.execute("PRAGMA application_id").fetchone()
    [version] = db.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or version < 1:
        raise Unavailable(f"{where} is not a database of teleport-lite", hint="docs/storage.md")
    refuse_newer(db, where, version, len(steps))


def refuse_newer(db: Database, where: str, version: int, known: int) -> None:
    if version > known and _readable_by(db, version) > known:
        raise Unavailable(
            f"database {where} was written by a newer version: its schema is {version}, "
            f"this program knows {known}",
            hint="install the newer version again, or restore the backup made before it: "
            "docs/storage.md",
        )


def note_readable_by(db: Database, number: int, breaks: Collection[int]) -> None:
    """After step `number`."""
    least = max((each for each in breaks if each <= number + 1), default=1)
    db.execute(_PUT_READABLE_BY, (_READABLE_BY, str(least)))


def _readable_by(db: Database, version: int) -> int:
    [found] = db.execute("SELECT max(value) FROM meta WHERE key = ?", (_READABLE_BY,)).fetchone()
    return int(found) if str(found).isdecimal() else version


def migrate(
    db: sqlite3.Connection,
    steps: Sequence[Sequence[str]] = MIGRATIONS,
    breaks: Collection[int] = BREAKS,
) -> None:
    """Take `db` to the newest schema, one transaction a step: a crash leaves a whole schema."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    for number in range(version, len(steps)):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in steps[number]:
                db.execute(statement)
            note_readable_by(db, number, breaks)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {number + 1}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
