"""All of a store as of one moment, and a store made of that: rows as they stand in it.

What both kinds of database need is here; how SQLite does it is below, PostgreSQL is in
`dump_postgres.py`. Tables and columns are called the same in both. Secrets stay sealed.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from teleport_lite.errors import Conflict, Unavailable
from teleport_lite.model.event import Event
from teleport_lite.proto.backup_file import SEAL_PURPOSE, Row, Table
from teleport_lite.store import connection, files, head
from teleport_lite.store.dialect import Database
from teleport_lite.store.migrations import MIGRATIONS, check_version, migrate
from teleport_lite.store.protocols import Sealer
from teleport_lite.store.sealed import TRAIL_KEY, TRAIL_PURPOSE

# Those that others refer to come first.
ORDER = (
    "meta",
    "keys",
    "cas",
    "rotations",
    "trusted",
    "remotes",
    "roles",
    "users",
    "passwords",
    "invites",
    "login_sources",
    "tokens",
    "hosts",
    "reports",
    "locks",
    "recordings",
    "events",
    "trail_head",
)
# What belongs to a database and not to the cluster in it: who does a chore
# at the moment, who is guessing.
LEFT_OUT = frozenset({"guesses", "leases"})
# In `meta`, about the schema. The store that is filled knows better.
OWN_META = "readable_by"
# Rows that are fetched at once.
BATCH = 500


class Filling(Protocol):
    """A store that is being made, in one transaction."""

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Raises Unavailable for what the store does not take."""

    def record(self, event: Event) -> None:
        """At the end of the trail that was filled in. Raises Unavailable if that was sealed under
        another keyring."""


Fill = Callable[[Filling], None]


def in_order(names: Iterable[str]) -> list[str]:
    """What a newer program has added comes last."""
    known = {name: at for at, name in enumerate(ORDER)}
    wanted = (name for name in names if name not in LEFT_OUT)
    return sorted(wanted, key=lambda name: (known.get(name, len(ORDER)), name))


def check_schema(schema: int, where: str) -> None:
    """Raises Unavailable for a backup that a newer program has made."""
    if not 1 <= schema <= len(MIGRATIONS):
        raise Unavailable(
            f"{where} was made by a newer version: its schema is {schema}, this program knows "
            f"{len(MIGRATIONS)}",
            hint="install the version that made it: teleport-lite upgrade",
        )


# --- SQLite


class SqliteSnapshot:
    """Closes the connection it is given."""

    def __init__(self, db: sqlite3.Connection, where: str, sealer: Sealer | None) -> None:
        self._db, self._where, self._sealer = db, where, sealer
        try:
            with explained(where, "read"):
                db.execute("BEGIN")
                # The first read, not BEGIN, is the moment.
                [self.schema] = db.execute("PRAGMA user_version").fetchone()
                found = db.execute(
                    "SELECT name FROM sqlite_schema WHERE type = 'table' "
                    "AND name NOT LIKE 'sqlite_%'"
                ).fetchall()
                names = in_order(name for [name] in found)
                self.tables: Mapping[str, Table] = {name: self._table(name) for name in names}
        except BaseException:
            db.close()
            raise

    def rows(self, table: str) -> Iterator[Row]:
        columns = ", ".join(map(quoted, self.tables[table].columns))
        with explained(self._where, "read"):
            found = self._db.execute(f"SELECT {columns} FROM {quoted(table)}{only(table)}")  # noqa: S608  # names of the catalogue
            while batch := found.fetchmany(BATCH):
                yield from batch

    def sealed_under(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        with explained(self._where, "read"):
            for name, table in self.tables.items():
                if "sealed" in table.columns:
                    found = self._db.execute(
                        f"SELECT substr(sealed, 2, 8), count(*) FROM {quoted(name)} GROUP BY 1"  # noqa: S608  # a name of the catalogue
                    )
                    counts.update({bytes(id).hex(): count for id, count in found.fetchall()})
        return dict(counts)

    def vouch(self, digest: bytes) -> bytes:
        return b"" if self._sealer is None else self._sealer.seal(digest, SEAL_PURPOSE)

    def close(self) -> None:
        """May be called twice."""
        self._db.close()

    def _table(self, name: str) -> Table:
        columns = self._db.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
        [count] = self._db.execute(f"SELECT count(*) FROM {quoted(name)}{only(name)}").fetchone()  # noqa: S608  # a name of the catalogue
        return Table(columns=tuple(column[1] for column in columns), rows=count)


class _OfSqlite:
    """A filling of a fresh file."""

    def __init__(self, db: sqlite3.Connection, where: str, sealer: Sealer) -> None:
        self._db, self._where, self._sealer = db, where, sealer

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        names, marks = ", ".join(map(quoted, columns)), ", ".join("?" * len(columns))
        with explained(self._where, "fill"):
            self._db.executemany(
                f"INSERT INTO {quoted(table)} ({names}) VALUES ({marks})",  # noqa: S608  # quoted
                rows,
            )

    def record(self, event: Event) -> None:
        with explained(self._where, "fill"):
            record_last(self._db, self._sealer, event)


def snapshot_of_file(
    path: Path, sealer: Sealer | None
) -> tuple[SqliteSnapshot, Callable[[], None]]:
    """Of a database that no process uses; nobody can before the second of the two is called.

    It is not changed: nothing is brought forward, nothing is made. Raises as `open_sqlite`.
    """
    path = path.absolute()
    claim = files.Claim(path)
    try:
        with explained(str(path), "open"):
            files.check(path)
            db = connection.for_reading(path)
            try:
                check_version(db, str(path))
            except BaseException:
                db.close()
                raise
            return SqliteSnapshot(db, str(path), sealer), claim.release
    except BaseException:
        claim.release()
        raise


def fill_sqlite(path: Path, sealer: Sealer, schema: int, fill: Fill) -> None:
    """Make the database by `fill`, whole or not at all. `schema` is that of the rows.

    Raises Conflict if there is one, what `fill` raises, and Unavailable.
    """
    path = path.absolute()
    check_schema(schema, "the backup")
    claim = files.Claim(path)
    try:
        files.tidy(path)
        must_be_free(path)
        with explained(str(path), "fill"):
            files.make(path, lambda fresh: _fill(fresh, str(path), sealer, schema, fill))
    finally:
        claim.release()


def must_be_free(path: Path) -> None:
    """Raises Conflict."""
    if path.exists() or path.is_symlink():
        raise Conflict(
            f"there is a database in {path} already, and nothing is ever put over one",
            hint=f"mv {path.parent} {path.parent}.old",
        )


def _fill(fresh: Path, where: str, sealer: Sealer, schema: int, fill: Fill) -> None:
    with closing(connection.connect(fresh)) as db:
        # As it was when the rows were written: what later steps do to rows, they do to these.
        migrate(db, MIGRATIONS[:schema])
        db.execute("BEGIN IMMEDIATE")
        fill(_OfSqlite(db, where, sealer))
        db.execute("COMMIT")
        migrate(db)


# --- both


def record_last(db: Database, sealer: Sealer, event: Event) -> None:
    """After the trail that was filled in. Raises Unavailable if that was sealed by others."""
    row = db.execute("SELECT sealed FROM keys WHERE name = ?", (TRAIL_KEY,)).fetchone()
    try:
        if row is None:
            raise ValueError("no trail key")
        end = head.TrailEnd(sealer.unseal(row[0], TRAIL_PURPOSE))
    except ValueError as why:
        raise Unavailable(
            "the backup is of a cluster whose keyring is another one",
            hint="docs/backup.md",
            log=repr(why),
        ) from why
    end.load(db)
    end.append(db, event)
    end.save(db)


def quoted(name: str) -> str:
    """Raises Unavailable: names come out of a file, too."""
    if not name.isidentifier() or not name.isascii():
        raise Unavailable(f"{name[:40]!a} is no name of a table or column of ours")
    return f'"{name}"'


def only(table: str) -> str:
    """A condition for rows of the cluster: those about the schema are no part of it."""
    return f" WHERE key <> '{OWN_META}'" if table == "meta" else ""


@contextmanager
def explained(where: str, verb: str) -> Iterator[None]:
    """Failures of SQLite as Unavailable, also values of a file that it does not take."""
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError) as why:
        raise connection.unavailable(where, verb, why) from why
