"""From one kind of database to the other and back: the same cluster, whole or not at all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from teleport_lite.config.conn_string import ConnString
from teleport_lite.errors import Conflict, Malformed, Unavailable
from teleport_lite.store import dump
from teleport_lite.store.migrations import MIGRATIONS
from teleport_lite.store.moving import check_free, fill_store, snapshot_at_rest
from teleport_lite.store.opening import open_store
from teleport_lite.store.protocols import Snapshot, Store
from tests.postgres import Postgres
from tests.store.makers import a_keyring, an_event
from tests.store.test_dump import everything, fill_up
from tests.support import eventually

OTHER_WAY = {"sqlite": "postgresql", "postgresql": "sqlite"}


@dataclass(frozen=True)
class Storage:
    type: str
    path: Path
    conn_string: ConnString | None = None


@pytest.fixture
def storage(tmp_path: Path, postgres: Postgres) -> Iterator[Callable[[str], Storage]]:
    """A place for a store of a kind; nothing is there."""
    made: list[str] = []

    def place(kind: str) -> Storage:
        if kind == "sqlite":
            return Storage(kind, tmp_path / f"store-{len(list(tmp_path.iterdir()))}")
        made.append(postgres.database())
        return Storage(kind, tmp_path, ConnString.parse(made[-1]))

    yield place
    for each in made:
        postgres.drop(each)


@pytest.fixture(params=OTHER_WAY)
def full(request: pytest.FixtureRequest, storage: Callable[[str], Storage]) -> Storage:
    """A store with something in every table, that nobody uses."""
    found = storage(request.param)
    store = open_store(found, a_keyring())
    fill_up(store)
    store.close()
    return found


def copy(snapshot: Snapshot) -> dump.Fill:
    def fill(filling: dump.Filling) -> None:
        for name, table in snapshot.tables.items():
            filling.insert(name, table.columns, snapshot.rows(name))

    return fill


def facts(store: Store) -> list[object]:
    return [
        store.tokens(),
        store.hosts(),
        store.users(),
        store.password("alice"),
        store.invites(),
        store.login_sources("alice"),
        store.roles(),
        store.locks(),
        store.recordings(),
        store.cas(),
        store.trusted_clusters(),
        store.remote_clusters(),
        store.events(),
        store.meta("cluster_name"),
        store.verify_trail(),
    ]


def test_a_cluster_moves_and_nothing_is_another(full, storage):
    to = storage(OTHER_WAY[full.type])
    check_free(to)
    with snapshot_at_rest(full, a_keyring(), alone=True) as snapshot:
        rows = everything(snapshot)
        assert [name for name, table in snapshot.tables.items() if not table.rows] == []
        fill_store(to, a_keyring(), snapshot.schema, copy(snapshot))
    with snapshot_at_rest(to, a_keyring(), alone=True) as snapshot:
        assert {name: sorted(map(repr, each)) for name, each in everything(snapshot).items()} == {
            name: sorted(map(repr, each)) for name, each in rows.items()
        }
    old, new = open_store(full, a_keyring()), open_store(to, a_keyring())
    try:
        assert facts(new) == facts(old)
        new.write(lambda tx: tx.record(an_event("next")))
        assert new.verify_trail() == (2, None)
    finally:
        old.close()
        new.close()


def test_a_cluster_that_went_there_and_back_is_the_same(full, storage):
    there, back = storage(OTHER_WAY[full.type]), storage(full.type)
    with snapshot_at_rest(full, None, alone=True) as snapshot:
        before = everything(snapshot)
        fill_store(there, a_keyring(), snapshot.schema, copy(snapshot))
    with snapshot_at_rest(there, None, alone=True) as snapshot:
        fill_store(back, a_keyring(), snapshot.schema, copy(snapshot))
    with snapshot_at_rest(back, None, alone=True) as snapshot:
        assert everything(snapshot) == before


def test_a_store_that_is_not_empty_is_refused(full):
    with snapshot_at_rest(full, None, alone=True) as snapshot:
        before = everything(snapshot)
    with pytest.raises(Conflict, match="nothing is ever put over one"):
        check_free(full)
    with pytest.raises(Conflict, match="nothing is ever put over one"):
        fill_store(full, a_keyring(), len(MIGRATIONS), lambda filling: None)
    with snapshot_at_rest(full, None, alone=True) as snapshot:
        assert everything(snapshot) == before


@pytest.mark.parametrize("kind", OTHER_WAY)
def test_a_filling_that_fails_leaves_a_store_that_is_free(storage, kind):
    to = storage(kind)

    def fill(filling: dump.Filling) -> None:
        filling.insert("users", ("name", "document"), [("bob", "{}")])
        raise Malformed("the file is damaged")

    with pytest.raises(Malformed, match="the file is damaged"):
        fill_store(to, a_keyring(), len(MIGRATIONS), fill)
    check_free(to)
    with pytest.raises(Unavailable), snapshot_at_rest(to, None, alone=True):
        pass


@pytest.mark.parametrize("kind", OTHER_WAY)
def test_rows_that_a_store_does_not_take_are_told(storage, kind):
    to = storage(kind)
    for table, columns, rows in (
        ("meta", ("key", "value"), [("a", "1"), ("a", "2")]),
        ("passwords", ("user", "document", "sealed"), [("nobody", "{}", b"")]),
        ("users", ("name", "surprise"), [("bob", "{}")]),
        ("users", ("name", "document"), [("bob", None)]),
    ):
        with pytest.raises(Unavailable, match="cannot fill database"):
            fill_store(
                to,
                a_keyring(),
                len(MIGRATIONS),
                lambda filling, said=(table, columns, rows): filling.insert(*said),
            )
    check_free(to)


@pytest.mark.parametrize("kind", OTHER_WAY)
def test_a_store_in_use_is_not_exported(storage, kind):
    found = storage(kind)
    store = open_store(found, a_keyring())
    fill_up(store)
    try:
        with (
            pytest.raises(Unavailable, match=r"is open in this process|in use by auth servers"),
            snapshot_at_rest(found, None, alone=True),
        ):
            pass
    finally:
        store.close()


def test_a_shared_store_is_backed_up_while_another_auth_server_uses_it(storage):
    found = storage("postgresql")
    store = open_store(found, a_keyring())
    fill_up(store)
    try:
        with snapshot_at_rest(found, a_keyring(), alone=False) as snapshot:
            store.write(lambda tx: tx.record(an_event("later")))
            rows = everything(snapshot)
            assert [len(rows["events"]), rows["trail_head"][0][1]] == [1, 1]
            assert a_keyring().unseal(snapshot.vouch(b"x"), "backup") == b"x"
    finally:
        store.close()


def test_all_is_sealed_anew_in_both(full):
    both = a_keyring(b"n").added(a_keyring())
    store = open_store(full, both)
    before = facts(store)
    assert store.write(lambda tx: tx.reseal()) == 6
    store.close()
    store = open_store(full, a_keyring(b"n"))
    assert facts(store) == before
    store.close()


def test_a_kind_that_there_is_not_is_refused(tmp_path):
    for work in (check_free, lambda s: fill_store(s, a_keyring(), 1, lambda filling: None)):
        with pytest.raises(Malformed, match="storage type etcd"):
            work(Storage("etcd", tmp_path))


def test_who_shares_a_store_hears_that_all_was_sealed_anew(storage):
    found, heard = storage("postgresql"), []
    both = a_keyring(b"n").added(a_keyring())
    first = open_store(found, a_keyring())
    fill_up(first)
    second = open_store(found, both)
    first.watch(heard.append)
    assert second.write(lambda tx: tx.reseal()) == 6
    eventually(lambda: frozenset({"keyring"}) in heard, what=str(heard))
    first.close()
    second.close()
