"""A store that nobody uses: all of it, and one made of that, whichever kind `storage` names."""

from collections.abc import Iterator
from contextlib import contextmanager

from teleport_lite.secret import Secret
from teleport_lite.store.dump import Fill, fill_sqlite, must_be_free, snapshot_of_file
from teleport_lite.store.opening import Storage, check_type
from teleport_lite.store.protocols import Sealer, Snapshot

# PostgreSQL is imported where it is used: it brings libpq along.


@contextmanager
def snapshot_at_rest(storage: Storage, sealer: Sealer | None, *, alone: bool) -> Iterator[Snapshot]:
    """As of now. A file is never shared; with `alone` no auth server uses a database either.

    Nothing is changed. Raises as `open_store`, but makes nothing.
    """
    if (string := _conn_string(storage)) is None:
        found, release = snapshot_of_file(storage.path / "auth.db", sealer)
        try:
            yield found
        finally:
            found.close()
            release()
        return
    from teleport_lite.store.dump_postgres import snapshot_of_server

    shared = snapshot_of_server(string, sealer, alone=alone)
    try:
        yield shared
    finally:
        shared.close()


def check_free(storage: Storage) -> None:
    """Raises Conflict if there is a store already; as `open_store`."""
    if (string := _conn_string(storage)) is None:
        must_be_free(storage.path / "auth.db")
        return
    from teleport_lite.store.dump_postgres import server_must_be_free

    server_must_be_free(string)


def fill_store(storage: Storage, sealer: Sealer, schema: int, fill: Fill) -> None:
    """Make the store, whole or not at all. Raises Conflict if there is one, what `fill` raises,
    and Unavailable."""
    if (string := _conn_string(storage)) is None:
        fill_sqlite(storage.path / "auth.db", sealer, schema, fill)
        return
    from teleport_lite.store.dump_postgres import fill_postgres

    fill_postgres(string, sealer, schema, fill)


def _conn_string(storage: Storage) -> Secret | None:
    """None for a file."""
    source = check_type(storage)
    return None if source is None else source.read()
