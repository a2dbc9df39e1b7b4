"""All of a store in PostgreSQL as of one moment. What both kinds have in common is in `dump.py`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

from teleport_lite.proto.backup_file import SEAL_PURPOSE, Row, Table
from teleport_lite.store.dump import BATCH, in_order, only, quoted
from teleport_lite.store.postgres_link import Session, unavailable
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


class PostgresSnapshot:
    """Closes the connection it is given."""

    def __init__(self, db: Session, where: str, sealer: Sealer | None) -> None:
        self._db, self._where, self._sealer = db, where, sealer
        try:
            with self._explained():
                # A backup takes as long as it takes.
                db.script(
                    "SET statement_timeout = 0",
                    "SET idle_in_transaction_session_timeout = 0",
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                )
                [self.schema] = db.execute("SELECT number FROM schema_version").fetchone()
                found = (name for [name] in db.execute(_TABLES).fetchall())
                names = in_order(name for name in found if name not in OWN_TABLES)
                self.tables: Mapping[str, Table] = {name: self._table(name) for name in names}
        except BaseException:
            db.close()
            raise

    def rows(self, table: str) -> Iterator[Row]:
        columns = ", ".join(map(quoted, self.tables[table].columns))
        statement = f"SELECT {columns} FROM {quoted(table)}{only(table)}"  # noqa: S608  # names of the catalogue
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
        try:
            yield
        except psycopg.Error as why:
            raise unavailable(self._where, "read", why) from why
