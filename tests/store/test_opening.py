"""Which store a config means."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.config.conn_string import ConnString
from teleport_lite.config.model import StorageConfig
from teleport_lite.errors import Malformed, NotFound, Unavailable
from teleport_lite.store.opening import open_store
from teleport_lite.store.postgres import PostgresStore
from teleport_lite.store.sqlite import SqliteStore
from tests.store.makers import a_keyring


def test_a_file_is_opened_by_its_directory(tmp_path: Path) -> None:
    store = open_store(StorageConfig(path=tmp_path / "db"), a_keyring())
    assert isinstance(store, SqliteStore)
    assert (tmp_path / "db" / "auth.db").exists()
    store.close()


def test_a_database_is_opened_by_the_string_in_a_file(database: str, tmp_path: Path) -> None:
    secret = tmp_path / "database"
    secret.write_text(f"{database}\n")
    secret.chmod(0o600)
    place = ConnString.parse(str(secret))
    store = open_store(StorageConfig(type="postgresql", conn_string=place), a_keyring())
    assert isinstance(store, PostgresStore)
    store.close()


def test_a_place_without_a_string_is_named(tmp_path: Path) -> None:
    storage = StorageConfig(type="postgresql", conn_string=ConnString.parse(f"{tmp_path}/none"))
    with pytest.raises(NotFound, match=f"{tmp_path}/none"):
        open_store(storage, a_keyring())


def test_a_server_that_is_away_is_named_and_the_password_is_not(tmp_path: Path) -> None:
    place = ConnString.parse(f"host={tmp_path} dbname=d user=x password=hidden")
    storage = StorageConfig(type="postgresql", conn_string=place)
    with pytest.raises(Unavailable) as refused:
        open_store(storage, a_keyring())
    assert refused.value.message == f"cannot open database d on {tmp_path}: nobody listens there"
    assert "hidden" not in refused.value.log


def test_a_storage_that_there_is_not_is_refused() -> None:
    for storage in (StorageConfig(type="etcd"), StorageConfig(type="postgresql")):
        with pytest.raises(Malformed, match=f"storage type {storage.type} is not one"):
            open_store(replace(storage), a_keyring())


def test_without_libpq_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "teleport_lite.store.postgres", None)
    secret = tmp_path / "database"
    secret.write_text("postgresql://nowhere.example/db\n")
    secret.chmod(0o600)
    storage = StorageConfig(type="postgresql", conn_string=ConnString.parse(str(secret)))
    with pytest.raises(Unavailable, match="libpq on this host") as refused:
        open_store(storage, a_keyring())
    assert "apt install libpq5" in refused.value.hint
