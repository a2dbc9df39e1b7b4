"""The one place that picks the store."""

from pathlib import Path
from typing import Protocol

from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.secret import Secret
from teleport_lite.store.protocols import Sealer, Store
from teleport_lite.store.sqlite import open_sqlite


class _ConnString(Protocol):
    def read(self) -> Secret: ...


class Storage(Protocol):
    """As `config/model.py: StorageConfig`."""

    @property
    def type(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def conn_string(self) -> _ConnString | None: ...


def open_store(storage: Storage, sealer: Sealer) -> Store:
    """Raises what `open_sqlite` or `open_postgres` raises, and what reading the conn_string does;
    Malformed for a type that there is not, Unavailable without libpq."""
    source = check_type(storage)
    if source is None:
        return open_sqlite(storage.path / "auth.db", sealer)
    try:
        # Not for everybody: libpq is the system's, 5 MB for each Python would be in our file.
        from teleport_lite.store.postgres import open_postgres
    except ImportError as why:
        raise Unavailable(
            "storage of type postgresql needs PostgreSQL's client library libpq on this host",
            hint="apt install libpq5, or dnf install libpq",
            log=str(why),
        ) from why
    return open_postgres(source.read(), sealer)


def check_type(storage: Storage) -> _ConnString | None:
    """Where the server is; None for a file. Raises Malformed for a type that there is not."""
    if storage.type == "sqlite":
        return None
    if storage.type != "postgresql" or storage.conn_string is None:
        raise Malformed(
            f"storage type {storage.type} is not one that there is",
            hint="set teleport.storage.type to sqlite or postgresql",
        )
    return storage.conn_string
