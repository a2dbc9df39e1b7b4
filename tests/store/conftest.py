"""A store of each kind for the contract suite, a file store for the rest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from teleport_lite.store.protocols import Store
from teleport_lite.store.sqlite import SqliteStore, open_sqlite
from tests.store.makers import OPENERS, a_keyring


@pytest.fixture(params=OPENERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = OPENERS[request.param](tmp_path)
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
