"""A store of each kind for the contract suite, a file store for the rest."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from teleport_lite.secret import Secret
from teleport_lite.store.postgres import PostgresStore, open_postgres
from teleport_lite.store.protocols import Store
from teleport_lite.store.sqlite import SqliteStore, open_sqlite
from tests.postgres import Postgres
from tests.store.makers import OPENERS, a_keyring


class Slate:
    """A database that is wiped for the next test: making one takes a tenth of a second."""

    def __init__(self, conn_string: str) -> None:
        self.conn_string = conn_string
        open_postgres(Secret(conn_string), a_keyring()).close()
        self._db = psycopg.connect(conn_string, autocommit=True)
        # Without this the trail could not be taken back.
        self._db.execute("SET session_replication_role = replica")
        found = self._db.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' "
            "AND table_name NOT IN ('keys', 'schema_version', 'trail_head')"
        ).fetchall()
        self._wipe = "; ".join(f"DELETE FROM {name}" for [name] in found)
        self._kept = [
            (table, self._db.execute(f"SELECT * FROM {table}").fetchall())
            for table in ("keys", "meta", "trail_head")
        ]

    def wipe(self) -> None:
        self._db.execute(self._wipe)
        for table, rows in self._kept:
            self._db.execute(f"DELETE FROM {table}")
            for row in rows:
                marks = ", ".join(["%s"] * len(row))
                self._db.execute(f"INSERT INTO {table} VALUES ({marks})", row)

    def close(self) -> None:
        self._db.close()


@pytest.fixture(scope="session")
def slate(postgres: Postgres) -> Iterator[Slate]:
    made = Slate(postgres.database())
    yield made
    made.close()
    postgres.drop(made.conn_string)


@pytest.fixture(params=OPENERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a store of each kind may be made: nothing is there yet."""
    if request.param != "postgres":
        return tmp_path
    slate: Slate = request.getfixturevalue("slate")
    slate.wipe()
    return slate.conn_string


@pytest.fixture
def store(request: pytest.FixtureRequest, place: Path | str) -> Iterator[Store]:
    made = OPENERS[request.node.callspec.params["place"]](place)
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "auth.db"


@pytest.fixture
def file_store(path: Path) -> Iterator[SqliteStore]:
    made = open_sqlite(path, a_keyring())
    yield made
    made.close()


@pytest.fixture
def shared_store(slate: Slate) -> Iterator[PostgresStore]:
    """One in PostgreSQL."""
    slate.wipe()
    made = open_postgres(Secret(slate.conn_string), a_keyring())
    yield made
    made.close()
