"""All of a store in PostgreSQL as of one moment, and one made of that. What both kinds have in
common is in `dump.py`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg

from teleport_lite.errors import Conflict, Unavailable
from teleport_lite.model.event import Event
from teleport_lite.proto.backup_file import SEAL_PURPOSE, Row, Table
from teleport_lite.secret import Secret
from teleport_lite.store import postgres_schema
from teleport_lite.store.dump import (
    BATCH,
    Fill,
    check_schema,
    in_order,
    only,
    quoted,
    record_last,
)
from teleport_lite.store.migrations import MIGRATIONS
from teleport_lite.store.postgres_link import PAGE, Link, Session, unavailable
from teleport_lite.store.postgres_schema import OWN_TABLES
from teleport_lite.store.protocols import Sealer

_TABLES = (
    "SELECT table_name FROM information_schema.tables "
    "WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
)
_COLUMNS = (
    "SELECT column_name FROM information_schema.columns "
    "WHERE table_schema = current_schema() AND table_name = ? ORDER BY ordinal_position"
)
_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name LIKE 'teleport-lite %' AND pid <> pg_backend_pid()"
)


class PostgresSnapshot:
    """Closes the connection it is given, a patient one."""

    def __init__(self, db: Session, where: str, sealer: Sealer | None) -> None:
        self._db, self._where, self._sealer = db, where, sealer
        try:
            with self._explained():
                db.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                [self.schema] = db.execute("SELECT number FROM schema_version").fetchone()
                found = (name for [name] in db.execute(_TABLES).fetchall())
                names = in_order(name for name in found if name not in OWN_TABLES)
                self.tables: Mapping[str, Table] = {name: self._table(name) for name in names}
        except BaseException:
            db.close()
            raise

    def rows(self, table: str) -> Iterator[Row]:
        columns = ", ".join(map(quoted, self.tables[table].columns))
        # In order: a scan of a large table may begin anywhere, and the trail is a chain.
        statement = f"SELECT {columns} FROM {quoted(table)}{only(table)} ORDER BY 1"  # noqa: S608  # names of the catalogue
        # Named, so that the server keeps the answer: a trail may be larger than the memory.
        with self._explained(), self._db.raw.cursor("rows") as found:
            found.execute(statement)
            while batch := found.fetchmany(BATCH):
                yield from batch

    def sealed_under(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        with self._explained():
            for name, table in self.tables.items():
                if "sealed" in table.columns:
                    statement = (
                        f"SELECT substring(sealed FROM 2 FOR 8), count(*) FROM {quoted(name)} "  # noqa: S608  # a name of the catalogue
                        "GROUP BY 1"
                    )
                    found = self._db.execute(statement).fetchall()
                    counts.update({bytes(id).hex(): count for id, count in found})
        return dict(counts)

    def vouch(self, digest: bytes) -> bytes:
        return b"" if self._sealer is None else self._sealer.seal(digest, SEAL_PURPOSE)

    def close(self) -> None:
        """May be called twice."""
        self._db.close()

    def _table(self, name: str) -> Table:
        columns = self._db.execute(_COLUMNS, (name,)).fetchall()
        [count] = self._db.execute(f"SELECT count(*) FROM {quoted(name)}{only(name)}").fetchone()  # noqa: S608  # a name of the catalogue
        return Table(columns=tuple(column for [column] in columns), rows=count)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with explained(self._where, "read"):
            yield


class _OfPostgres:
    """A filling of a schema that is made in the same transaction."""

    def __init__(self, db: Session, where: str, sealer: Sealer) -> None:
        self._db, self._where, self._sealer = db, where, sealer

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        names = ", ".join(map(quoted, columns))
        statement = f"COPY {quoted(table)} ({names}) FROM STDIN"
        with (
            explained(self._where, "fill"),
            self._db.raw.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def record(self, event: Event) -> None:
        with explained(self._where, "fill"):
            record_last(self._db, self._sealer, event)


def snapshot_of_server(
    conn_string: Secret, sealer: Sealer | None, *, alone: bool
) -> PostgresSnapshot:
    """Of a cluster whose auth service does not run here; `alone`: nor anywhere else.

    It is not changed. Raises as `open_postgres`, Unavailable too for a database that is empty.
    """
    link = Link(conn_string)
    db = link.connect("snapshot", reading=True, patient=True)
    try:
        with explained(link.where, "open"):
            if postgres_schema.version(db, link.where) == 0:
                raise Unavailable(f"database {link.where} is empty", hint=PAGE)
            postgres_schema.check_version(db, link.where)
            [others] = db.execute(_OTHERS).fetchone()
        if alone and others:
            raise Unavailable(
                f"database {link.where} is in use by auth servers, {others} connections",
                hint="systemctl stop teleport-lite, on each of them",
            )
    except BaseException:
        db.close()
        raise
    return PostgresSnapshot(db, link.where, sealer)


def server_must_be_free(conn_string: Secret) -> None:
    """Raises Conflict if there is a cluster already; as `open_postgres`."""
    link = Link(conn_string)
    db = link.connect("import", reading=True)
    try:
        with explained(link.where, "open"):
            _must_be_free(db, link.where)
    finally:
        db.close()


def fill_postgres(conn_string: Secret, sealer: Sealer, schema: int, fill: Fill) -> None:
    """Make the tables and what is in them by `fill`, whole or not at all. `schema` is that of the
    rows.

    Raises Conflict if they are there, what `fill` raises, and Unavailable.
    """
    check_schema(schema, "the backup")
    link = Link(conn_string)
    db = link.connect("import", patient=True)
    try:
        with explained(link.where, "fill"), postgres_schema.alone(db):
            _must_be_free(db, link.where)
            # As it was when the rows were written: what later steps do to rows, they do to
            # these.
            with db.raw.transaction():
                postgres_schema.make(
                    db,
                    lambda: fill(_OfPostgres(db, link.where, sealer)),
                    MIGRATIONS[:schema],
                )
                postgres_schema.migrate(db, link.where)
    finally:
        db.close()


def _must_be_free(db: Session, where: str) -> None:
    if postgres_schema.version(db, where):
        raise Conflict(
            f"database {where} holds a cluster already, and nothing is ever put over one",
            hint="createdb NAME, and name it in teleport.storage.conn_string",
        )


@contextmanager
def explained(where: str, verb: str) -> Iterator[None]:
    """Failures of PostgreSQL as Unavailable, also values of a file that it does not take."""
    try:
        yield
    except (psycopg.Error, UnicodeError) as why:
        raise unavailable(where, verb, why) from why
