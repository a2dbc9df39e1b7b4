"""All of a store as of one moment, and the store that is made of it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from teleport_lite.errors import Conflict, Unavailable
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.host import Report
from teleport_lite.model.lock import Lock
from teleport_lite.model.rotation import Rotation
from teleport_lite.model.trust import RemoteCluster, TrustedCluster
from teleport_lite.model.user import Role, User
from teleport_lite.pki.seal import Keyring
from teleport_lite.store import dump
from teleport_lite.store.dump import fill_sqlite, snapshot_of_file
from teleport_lite.store.migrations import MIGRATIONS
from teleport_lite.store.protocols import Snapshot, Store
from teleport_lite.store.sealed import SEALED, purpose_of
from teleport_lite.store.sqlite import SqliteStore, open_sqlite
from tests.store.makers import (
    T0,
    a_host,
    a_keyring,
    a_password,
    a_recording,
    a_token,
    an_event,
    an_invite,
    filled,
)

_NOUNS = {
    Lock: "put_lock",
    Role: "put_role",
    CaKeys: "add_ca",
    TrustedCluster: "put_trusted",
    RemoteCluster: "put_remote",
}


def fill_up(store: Store) -> None:
    """Something in every table."""

    def change(tx):
        tx.add_user(User(name="alice", roles=("access",)))
        tx.put_password(a_password())
        tx.put_invite(an_invite())
        tx.note_login("alice", "192.0.2.0/24", T0)
        tx.add_token(a_token())
        tx.put_host(a_host())
        tx.put_report("h1", Report())
        tx.add_recording(a_recording())
        for kind, put in _NOUNS.items():
            getattr(tx, put)(filled(kind))
        tx.put_rotation(filled(Rotation), after=0)
        tx.take_lease("sweep", "a", now=T0, until=T0)
        tx.add_meta("cluster_name", "tele.example.com")
        tx.record(an_event())

    store.write(change)


def everything(snapshot: Snapshot) -> dict[str, list[tuple]]:
    return {name: [tuple(row) for row in snapshot.rows(name)] for name in snapshot.tables}


def copied(snapshot: Snapshot, path: Path, sealer: Keyring) -> None:
    def fill(filling: dump.Filling) -> None:
        for name, table in snapshot.tables.items():
            filling.insert(name, table.columns, snapshot.rows(name))

    fill_sqlite(path, sealer, snapshot.schema, fill)


@pytest.fixture
def full(file_store: SqliteStore) -> Iterator[SqliteStore]:
    fill_up(file_store)
    return file_store


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tmp_path / "other" / "auth.db"


def test_a_snapshot_has_every_table_but_those_of_the_database_itself(full):
    snapshot = full.snapshot()
    assert list(snapshot.tables) == list(dump.ORDER)
    assert [name for name, table in snapshot.tables.items() if not table.rows] == []
    snapshot.close()


def test_a_copy_is_the_same_to_whoever_reads_it(full, other):
    snapshot = full.snapshot()
    before = everything(snapshot)
    copied(snapshot, other, a_keyring())
    snapshot.close()
    copy = open_sqlite(other, a_keyring())
    try:
        assert everything(copy.snapshot()) == before
        assert copy.tokens() == full.tokens()
        assert copy.cas() == full.cas()
        assert copy.password("alice") == full.password("alice")
        assert copy.invites() == full.invites()
        assert copy.trusted_clusters() == full.trusted_clusters()
        assert copy.verify_trail() == full.verify_trail() == (1, None)
        copy.write(lambda tx: tx.record(an_event("next")))
        assert copy.verify_trail() == (2, None)
        assert copy.lease("sweep") is None
    finally:
        copy.close()


def test_a_snapshot_is_one_moment_however_much_is_written_meanwhile(full):
    snapshot = full.snapshot()
    stop = threading.Event()

    def write() -> None:
        count = 0
        while not stop.is_set():
            count += 1
            full.write(lambda tx, n=count: (tx.put_host(a_host(f"x{n}")), tx.record(an_event())))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = everything(snapshot)
        again = everything(snapshot)
    finally:
        stop.set()
        writer.join()
        snapshot.close()
    assert found == again
    [head] = found["trail_head"]
    assert head[1] == len(found["events"]) == 1
    assert [len(rows) for rows in found.values()] == [t.rows for t in snapshot.tables.values()]


def test_secrets_stay_sealed_and_every_sealed_column_is_known(full):
    snapshot = full.snapshot()
    assert {name for name, t in snapshot.tables.items() if "sealed" in t.columns} == set(SEALED)
    for name, rows in everything(snapshot).items():
        for row in rows:
            assert "text-of-t1" not in repr(row)
            sealed = purpose_of(name, snapshot.tables[name].columns, row)
            assert sealed is None or a_keyring().unseal(*sealed)
    assert sum(snapshot.sealed_under().values()) == 6
    snapshot.close()


def test_a_database_is_never_put_over_another(full, other):
    snapshot = full.snapshot()
    copied(snapshot, other, a_keyring())
    before = other.read_bytes()
    with pytest.raises(Conflict, match="there is a database in"):
        copied(snapshot, other, a_keyring())
    assert other.read_bytes() == before
    snapshot.close()


@pytest.mark.parametrize("after", range(len(dump.ORDER)))
def test_a_filling_that_fails_leaves_nothing(full, other, after):
    snapshot = full.snapshot()

    def fill(filling: dump.Filling) -> None:
        for number, (name, table) in enumerate(snapshot.tables.items()):
            if number == after:
                raise KeyboardInterrupt
            filling.insert(name, table.columns, snapshot.rows(name))

    with pytest.raises(KeyboardInterrupt):
        fill_sqlite(other, a_keyring(), snapshot.schema, fill)
    assert [each.name for each in other.parent.iterdir()] == ["auth.db.lock"]
    snapshot.close()


def test_a_row_twice_and_a_name_of_a_stranger_are_refused(full, other):
    def twice(filling: dump.Filling) -> None:
        filling.insert("meta", ("key", "value"), [("a", "1"), ("a", "2")])

    with pytest.raises(Unavailable, match="cannot fill database"):
        fill_sqlite(other, a_keyring(), 1, twice)
    for table, columns in (('users" --', ("name",)), ("users", ("name) --",)), ("a b", ("c",))):
        with pytest.raises(Unavailable, match="is no name of a table or column"):
            fill_sqlite(
                other,
                a_keyring(),
                1,
                lambda filling, t=table, c=columns: filling.insert(t, c, [("x",)]),
            )
    assert not other.exists()


@pytest.mark.parametrize("value", ["\ud800", 1 << 64, float("nan")], ids=repr)
def test_a_value_that_no_database_takes_is_refused(other, value):
    with pytest.raises(Unavailable, match="cannot fill database"):
        fill_sqlite(
            other,
            a_keyring(),
            1,
            lambda filling: filling.insert("meta", ("key", "value"), [("a", value)]),
        )
    assert not other.exists()


def test_rows_of_an_older_schema_come_forward(full, other):
    def fill(filling: dump.Filling) -> None:
        filling.insert("users", ("name", "document"), [("bob", '{"name":"bob","roles":[]}')])

    fill_sqlite(other, a_keyring(), 1, fill)
    with pytest.raises(Unavailable, match="sealed under another keyring"):
        open_sqlite(other, a_keyring())  # brought forward, and without a key of the trail
    snapshot, release = snapshot_of_file(other, None)
    assert snapshot.schema == len(MIGRATIONS)
    assert everything(snapshot)["users"] == [("bob", '{"name":"bob","roles":[]}')]
    snapshot.close()
    release()


def test_rows_of_a_newer_schema_are_refused(other):
    for schema in (0, len(MIGRATIONS) + 1):
        with pytest.raises(Unavailable, match="made by a newer version"):
            fill_sqlite(other, a_keyring(), schema, lambda filling: None)


def test_a_database_that_is_in_use_is_not_taken_from_behind(full, path):
    with pytest.raises(Unavailable, match="is open in this process"):
        snapshot_of_file(path, None)


def test_a_database_at_rest_is_read_and_not_changed(path):
    open_sqlite(path, a_keyring()).close()
    before = path.read_bytes()
    snapshot, release = snapshot_of_file(path, a_keyring())
    with pytest.raises(Unavailable, match="is open in this process"):
        open_sqlite(path, a_keyring())
    assert a_keyring().unseal(snapshot.vouch(b"x"), "backup") == b"x"
    snapshot.close()
    release()
    assert path.read_bytes() == before
    open_sqlite(path, a_keyring()).close()


def test_an_event_after_a_restore_is_chained_to_the_trail(full, other):
    snapshot = full.snapshot()

    def fill(filling: dump.Filling) -> None:
        for name, table in snapshot.tables.items():
            filling.insert(name, table.columns, snapshot.rows(name))
        filling.record(an_event("backup.restore"))

    fill_sqlite(other, a_keyring(), snapshot.schema, fill)
    copy = open_sqlite(other, a_keyring())
    assert copy.verify_trail() == (2, None)
    assert [event.kind for _, event in copy.events()] == ["instance.join", "backup.restore"]
    copy.close()
    with pytest.raises(Unavailable, match="whose keyring is another one"):
        fill_sqlite(other.with_name("b.db"), a_keyring(b"x"), snapshot.schema, fill)
    snapshot.close()


def test_everything_is_sealed_anew_under_the_first_key(path):
    old = a_keyring()
    store = open_sqlite(path, old)
    fill_up(store)
    tokens, cas = store.tokens(), store.cas()
    store.close()
    new = a_keyring(b"n").added(old)
    store = open_sqlite(path, new)
    assert store.write(lambda tx: tx.reseal()) == 6
    assert store.write(lambda tx: tx.reseal()) == 0
    snapshot = store.snapshot()
    assert snapshot.sealed_under() == {a_keyring(b"n").ids[0]: 6}
    snapshot.close()
    store.close()
    store = open_sqlite(path, a_keyring(b"n"))
    assert (store.tokens(), store.cas()) == (tokens, cas)
    assert store.cas(CaType.HOST) == [each for each in cas if each.type is CaType.HOST]
    assert store.verify_trail() == (1, None)
    store.close()


def test_a_row_that_does_not_open_stops_the_sealing_of_all(path):
    store = open_sqlite(path, a_keyring())
    fill_up(store)
    store.close()
    store = open_sqlite(path, a_keyring(b"n").added(a_keyring()))
    db = dump.connection.connect(path)
    db.execute("UPDATE tokens SET sealed = ?", (b"\1" + bytes(60),))
    db.close()
    with pytest.raises(Unavailable, match="a row of tokens does not open"):
        store.write(lambda tx: tx.reseal())
    snapshot = store.snapshot()
    assert snapshot.sealed_under()[a_keyring().ids[0]] == 5
    snapshot.close()
    store.close()
