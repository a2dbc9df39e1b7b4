"""Backups of a running cluster, and what is made of them."""

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.auth.backup import IDLE, MAX_OPEN, _Job
from teleport_lite.auth.life import born, life_of
from teleport_lite.auth.restore import Found, Loader, check_fits, look, must_be_whole
from teleport_lite.auth.shelf import Shelf
from teleport_lite.errors import Conflict, Denied, Malformed, NotFound, Unavailable
from teleport_lite.model.event import Event
from teleport_lite.model.user import Condition, Role, Rule
from teleport_lite.pki.seal import Keyring
from teleport_lite.proto import backup
from teleport_lite.proto.backup_file import Draft, Header, Piece, Reader, Rows, Table
from teleport_lite.store.dump import fill_sqlite
from teleport_lite.store.protocols import Store
from teleport_lite.store.sqlite import SqliteStore, open_sqlite
from teleport_lite.testing.fakes import T0, FakeChance, FakeClock
from tests.auth.bench import CLUSTER, ROOT, Applicant, Bench, Visitor
from tests.auth.tapes import Archive, a_tape, person, sid
from tests.store.makers import a_token
from tests.support import eventually

RING, OTHER = Keyring([b"k" * 32]), Keyring([b"o" * 32])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = open_sqlite(tmp_path / "data" / "auth.db", RING)
    yield made
    made.close()


@pytest.fixture
def archive(tmp_path: Path, store: SqliteStore) -> Archive:
    return Archive(tmp_path, store=store)


def joined(archive: Archive) -> str:
    """A node joins; its UUID."""
    bench = Bench(store=archive.store, seed=str(len(archive.store.hosts())))
    return bench.join(Applicant()).host_id


def taken(archive: Archive, **asked: Any) -> bytes:
    """A whole file, as tctl makes it."""
    begun = archive.ask("/v1/backup/begin", **asked)
    draft, raw, at = Draft(), b"", 0
    while at is not None:
        piece = archive.ask("/v1/backup/read", id=begun["id"], at=at)
        raw, at = raw + draft.passed(base64.b64decode(piece["data"])), piece["next"]
    archive.ask("/v1/backup/end", id=begun["id"])
    return raw + draft.last_line()


def looked(raw: bytes, ring: Keyring | None = RING) -> Found:
    return look(Reader(io.BytesIO(raw), "b1"), ring)


def restored(
    raw: bytes, path: Path, *, shelf: Shelf | None = None, uses: bool = False, digest: bytes = b""
) -> Store:
    reader = Reader(io.BytesIO(raw), "b1")
    loader = Loader(
        event=lambda facts: Event(
            kind="backup.restore", code="TLB01I", at=T0, outcome="ok", facts=facts
        ),
        life=lambda before: born(before, FakeClock(), FakeChance("restored")),
        digest=digest,
        shelf=shelf,
        uses=uses,
    )
    fill_sqlite(
        path, RING, reader.header.schema, lambda filling: loader.load(reader, RING, filling)
    )
    return open_sqlite(path, RING)


# taking one


def test_a_backup_is_whole_and_says_what_is_in_it(archive):
    archive.token()
    joined(archive)
    found = looked(taken(archive))
    assert (found.header.cluster, found.header.origin) == (CLUSTER, "backup")
    assert (found.vouched, found.broken_at) == (True, None)
    assert found.opened == len(archive.store.cas()) + 2 + 3  # token, key of the trail, 3 links
    assert found.events == len(archive.store.events())
    [(_, last)] = archive.store.events(after=found.events - 1)
    assert (last.kind, last.code, last.facts["user"]) == ("backup.create", "TLB00I", "admin:root")


def test_what_is_made_of_a_backup_is_another_life_of_the_cluster(archive, tmp_path):
    raw, ours = taken(archive), archive.desks.life.life
    assert looked(raw).header.life == ours.word
    store = restored(raw, tmp_path / "restored" / "auth.db")
    theirs = life_of(store, FakeClock(), FakeChance("later"))
    assert (theirs.number, theirs.began) == (ours.number + 1, FakeClock().now())
    assert theirs.id != ours.id
    [(_, last)] = store.events(after=len(archive.store.events()))
    assert (last.facts["life"], last.facts["life_before"]) == (theirs.word, ours.word)
    store.close()


def test_a_backup_is_one_moment_however_busy_auth_is(archive, monkeypatch):
    monkeypatch.setattr("teleport_lite.auth.backup.MAX_PIECE", 2_000)
    archive.token()
    stop, hosts = threading.Event(), []

    def join() -> None:
        while not stop.is_set():
            hosts.append(joined(archive))

    busy = threading.Thread(target=join)
    busy.start()
    try:
        eventually(lambda: len(hosts) >= 3)
        raw = taken(archive)
        more = len(hosts)
        eventually(lambda: len(hosts) > more)
    finally:
        stop.set()
        busy.join()
    rows: dict[str, list[Any]] = {}
    for part in Reader(io.BytesIO(raw), "b1").parts():
        if isinstance(part, Rows):
            rows.setdefault(part.table, []).extend(part.rows)
    assert looked(raw).broken_at is None
    told = [row for row in rows["events"] if b"instance.join" in row[1]]
    # Each join is a host and an event, in one transaction: both are there, or neither.
    assert len(told) == len(rows["hosts"]) - 2 >= 3


def test_no_secret_stands_in_a_backup(archive):
    text = archive.token(text="a-token-that-nobody-else-has")
    link = archive.ask("/v1/users/add", name="bob", roles=["access"])["invite"]["token"]
    raw = taken(archive)
    every = b"".join(
        repr(part.rows).encode()
        for part in Reader(io.BytesIO(raw), "b1").parts()
        if isinstance(part, Rows)
    )
    assert b"PRIVATE KEY" not in every
    assert text.encode() not in every
    assert link.encode() not in every


def test_an_answer_that_was_lost_is_given_again(archive, monkeypatch):
    monkeypatch.setattr("teleport_lite.auth.backup.MAX_PIECE", 1_000)
    id = archive.ask("/v1/backup/begin")["id"]
    first = archive.ask("/v1/backup/read", id=id)
    assert archive.ask("/v1/backup/read", id=id, at=0) == first
    second = archive.ask("/v1/backup/read", id=id, at=first["next"])
    assert archive.ask("/v1/backup/read", id=id, at=first["next"]) == second
    for at in (0, second["next"] + 1):
        with pytest.raises(Malformed, match="the next piece of this backup begins at"):
            archive.ask("/v1/backup/read", id=id, at=at)


def test_a_backup_is_for_who_began_it(archive):
    keeper = Role(
        name="keeper",
        allow=Condition(rules=(Rule(resources=("backup",), verbs=("create",)),)),
    )
    archive.store.write(lambda tx: tx.add_role(keeper))
    archive.ask("/v1/users/add", name="kim", roles=["keeper"])
    id = archive.ask("/v1/backup/begin", person("kim", "keeper"))["id"]
    with pytest.raises(NotFound, match="this backup is not under way"):
        archive.ask("/v1/backup/read", id=id)
    archive.ask("/v1/backup/end", id=id)
    assert archive.ask("/v1/backup/read", person("kim", "keeper"), id=id)["next"] is None
    for role in ("editor", "auditor", "access"):
        with pytest.raises(Denied):
            archive.ask("/v1/backup/begin", person("ed", role))


def test_who_goes_away_holds_nothing_up(archive):
    ids = [archive.ask("/v1/backup/begin")["id"] for _ in range(MAX_OPEN)]
    with pytest.raises(Conflict, match="2 backups are being taken"):
        archive.ask("/v1/backup/begin")
    [event] = [e for e in archive.told("backup.create") if e.code == "TLB00E"]
    assert event.outcome == "conflict"
    archive.clock.tick(seconds=IDLE - 1)
    archive.ask("/v1/backup/read", id=ids[1])
    archive.clock.tick(seconds=1)
    archive.desks.backups.tidy()
    with pytest.raises(NotFound):
        archive.ask("/v1/backup/read", id=ids[0])
    archive.ask("/v1/backup/begin")


def test_who_reads_a_piece_for_long_has_not_gone_away(archive, monkeypatch):
    id = archive.ask("/v1/backup/begin")["id"]
    piece, tidying = _Job.piece, threading.Thread(target=archive.desks.backups.tidy)

    def slow(job, at):
        archive.clock.tick(seconds=IDLE)
        tidying.start()
        tidying.join(0.1)  # it comes now if it can, else later
        return piece(job, at)

    monkeypatch.setattr(_Job, "piece", slow)
    archive.ask("/v1/backup/read", id=id)
    tidying.join(60)
    monkeypatch.setattr(_Job, "piece", piece)
    assert archive.ask("/v1/backup/read", id=id)["data"]  # the same again: its answer was lost


def test_a_backup_that_can_not_be_read_further_is_over(archive, monkeypatch):
    def away(*_):
        raise Unavailable("the database is away")

    id = archive.ask("/v1/backup/begin")["id"]
    monkeypatch.setattr("teleport_lite.auth.backup.Draft.rows", away)
    with pytest.raises(Unavailable, match="the database is away"):
        archive.ask("/v1/backup/read", id=id)
    with pytest.raises(NotFound):
        archive.ask("/v1/backup/read", id=id)


def test_two_who_begin_at_once_are_not_one_too_many(archive, monkeypatch):
    real = archive.store.snapshot

    def meanwhile():
        monkeypatch.setattr(archive.store, "snapshot", real)
        for _ in range(MAX_OPEN):
            archive.ask("/v1/backup/begin")
        return real()

    monkeypatch.setattr(archive.store, "snapshot", meanwhile)
    with pytest.raises(Conflict, match="2 backups are being taken"):
        archive.ask("/v1/backup/begin")


def test_while_the_disk_is_full_root_gets_a_backup_and_nobody_else(archive, monkeypatch, caplog):
    keeper = Role(
        name="keeper",
        allow=Condition(rules=(Rule(resources=("backup",), verbs=("create",)),)),
    )
    archive.store.write(lambda tx: tx.add_role(keeper))
    archive.ask("/v1/users/add", name="kim", roles=["keeper"])
    rows = len(archive.store.events())

    def full(change):
        raise Unavailable("auth is read-only: the disk is full")

    monkeypatch.setattr(archive.store, "write", full)
    with pytest.raises(Unavailable, match="the disk is full"):
        archive.ask("/v1/backup/begin", person("kim", "keeper"))
    assert looked(taken(archive)).events == rows
    assert "a backup is taken, and the trail can not have it: auth is read-only" in caplog.text


def test_a_backup_that_is_ended_is_over(archive, store):
    id = archive.ask("/v1/backup/begin")["id"]
    archive.ask("/v1/backup/end", id=id)
    archive.ask("/v1/backup/end", id=id)
    with pytest.raises(NotFound):
        archive.ask("/v1/backup/read", id=id)
    snapshot = store.snapshot()  # as of now: nothing that was written since is held back
    assert snapshot.tables["events"].rows == len(store.events())
    snapshot.close()


def test_recordings_come_along_when_they_are_asked_for(archive, tmp_path):
    for number in (1, 2, 3):
        archive.send(a_tape(f"said {number}"), sid(number))
    (archive.records / f"{sid(2)}.cast.gz").unlink()
    assert looked(taken(archive)).recordings == 0
    raw = taken(archive, recordings=True)
    found = looked(raw)
    assert (found.recordings, found.missing, found.header.recordings) == (2, 1, 3)
    shelf = Shelf(tmp_path / "other", reserve=0)
    restored(raw, tmp_path / "new" / "auth.db", shelf=shelf).close()
    for number in (1, 3):
        name = f"{sid(number)}.cast.gz"
        assert (tmp_path / "other" / name).read_bytes() == (archive.records / name).read_bytes()
    assert len(list((tmp_path / "other").iterdir())) == 2


# looking at one


def test_a_backup_of_another_keyring_is_told_apart(archive):
    raw = taken(archive)
    assert looked(raw, None).vouched is None
    with pytest.raises(Denied, match="does not open with this keyring"):
        looked(raw, OTHER)
    header = Reader(io.BytesIO(raw), "b1").header
    with pytest.raises(Denied, match=f"sealed under key {RING.ids[0]}, which the keyring here"):
        check_fits(header, cluster=CLUSTER, keys=OTHER.ids, where="b1")
    with pytest.raises(Malformed, match=r"b1 is of cluster test\.example, the configuration says"):
        check_fits(header, cluster="x.example", keys=RING.ids, where="b1")


def changed(raw: bytes, change: Any, *, vouch: Keyring | None = None) -> bytes:
    """As somebody makes it who has the file and not the keyring: whole, but for the seal."""
    reader, draft = Reader(io.BytesIO(raw), "b1"), Draft()
    tables = dict(reader.header.tables)
    parts = [part for part in reader.parts() if isinstance(part, Rows | Piece)]
    rows = {name: [r for p in parts if isinstance(p, Rows) and p.table == name for r in p.rows]
            for name in tables}  # fmt: skip
    change(rows)
    said = {
        name: getattr(reader.header, name)
        for name in ("cluster", "version", "schema", "made", "origin", "keys")
    }
    counted = {
        name: Table(columns=table.columns, rows=len(rows[name])) for name, table in tables.items()
    }
    out = draft.header(Header(tables=counted, **said))
    for name, found in rows.items():
        out += b"".join(draft.rows(name, found))
    out += draft.end(vouch.seal(draft.digest, "backup") if vouch else b"")
    return out + draft.last_line()


def another_admin(rows: dict[str, list[Any]]) -> None:
    rows["users"].append(["mallory", '{"name":"mallory","roles":["editor"]}'])


def test_a_backup_that_somebody_has_changed_is_not_taken(archive):
    raw = taken(archive)
    with pytest.raises(Denied, match="changed by somebody who does not have the keyring"):
        looked(changed(raw, another_admin, vouch=OTHER))
    found = looked(changed(raw, another_admin))
    assert found.vouched is False
    with pytest.raises(Unavailable, match="made without the keyring"):
        must_be_whole(found, "b1")


def test_a_sealed_row_can_not_stand_in_for_another(archive):
    archive.ask("/v1/tokens/add", types="node")
    archive.ask("/v1/tokens/add", types="proxy")

    def swap(rows: dict[str, list[Any]]) -> None:
        one, two = rows["tokens"]
        one[-1], two[-1] = two[-1], one[-1]

    with pytest.raises(Denied, match="a row of tokens does not open"):
        looked(changed(taken(archive), swap, vouch=RING))


@pytest.mark.parametrize(
    ("change", "at"),
    [
        (lambda rows: rows["events"].pop(), "last"),
        (lambda rows: rows["events"].pop(1), 2),
        (lambda rows: rows["events"][2].__setitem__(1, b"{}"), 3),
        (lambda rows: rows["trail_head"][0].__setitem__(1, 1), 2),
    ],
)
def test_a_hole_in_the_trail_is_named(archive, change, at):
    raw = taken(archive)
    last = looked(raw).events
    found = looked(changed(raw, change, vouch=RING))
    assert found.broken_at == (last if at == "last" else at)


# making a store of one


def test_a_cluster_is_back_as_it_was(archive, tmp_path):
    archive.token()
    host_id = joined(archive)
    archive.user("bob")
    raw = taken(archive)
    again = restored(raw, tmp_path / "new" / "auth.db")
    try:
        assert again.hosts() == archive.store.hosts()
        assert again.cas() == archive.store.cas()
        assert again.password("bob") == archive.store.password("bob")
        assert again.host(host_id) is not None
        checked, broken = again.verify_trail()
        assert broken is None
        [(_, last)] = again.events(after=checked - 1)
        assert last.kind == "backup.restore"
        Bench(store=again).login(Visitor("bob"))  # a password of before is good
    finally:
        again.close()


def test_what_is_good_once_does_not_come_back_to_life(archive, tmp_path):
    archive.ask("/v1/bots/add", name="robot", roles=["access"])
    archive.token("node", text="a-token-for-many-hosts")
    spent = archive.ask("/v1/bots/add", name="other", roles=["access"])
    assert spent
    raw = taken(archive)
    once = [token.name for token in archive.store.tokens() if token.once]
    assert len(once) == 2
    assert len(archive.store.invites()) == 3
    again = restored(raw, tmp_path / "new" / "auth.db")
    assert [(t.once, t.text.reveal()) for t in again.tokens()] == [
        (False, "a-token-for-many-hosts")
    ]
    assert again.invites() == []
    [(_, last)] = again.events(after=again.verify_trail()[0] - 1)
    assert (last.facts["dropped_tokens"], last.facts["dropped_invites"]) == ("2", "3")
    again.close()
    moved = restored(raw, tmp_path / "moved" / "auth.db", uses=True)
    assert [token.name for token in moved.tokens()] == [t.name for t in archive.store.tokens()]
    assert len(moved.invites()) == 3
    moved.close()


def test_a_file_that_is_another_one_since_it_was_looked_at_leaves_no_store(archive, tmp_path):
    seen, path = looked(taken(archive)), tmp_path / "new" / "auth.db"
    with pytest.raises(Malformed, match="is another one than a moment ago"):
        restored(changed(taken(archive), another_admin), path, digest=seen.digest)
    assert not path.exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_breaks_off_in_the_middle_leaves_no_store(archive, tmp_path, share):
    raw, path = taken(archive), tmp_path / "new" / "auth.db"
    with pytest.raises(Malformed):
        restored(raw[: int(len(raw) * share)], path)
    assert not path.exists()
    restored(raw, path).close()


def test_a_disk_that_fills_up_leaves_no_store_and_no_half_recording(archive, tmp_path):
    archive.send(a_tape("one"), sid(1))
    raw = taken(archive, recordings=True)
    shelf = Shelf(tmp_path / "other", reserve=1 << 62)
    with pytest.raises(Unavailable, match="no room for recordings"):
        restored(raw, tmp_path / "new" / "auth.db", shelf=shelf)
    assert not (tmp_path / "new" / "auth.db").exists()
    assert list((tmp_path / "other").iterdir()) == []


def test_a_recording_by_another_name_is_not_written_elsewhere(archive, tmp_path):
    archive.send(a_tape("one"), sid(1))
    draft = Draft()
    header = Header(
        cluster=CLUSTER, version="1", schema=4, made="", origin="backup", keys=(), tables={},
        recordings=1,
    )  # fmt: skip
    raw = draft.header(header) + draft.piece("../../evil", 0, b"x") + draft.end(b"")
    with pytest.raises(Malformed, match="session id"):
        looked(raw + draft.last_line())


# keys of the keyring


def test_auth_says_what_is_sealed_under_which_key_and_seals_anew(tmp_path):
    path = tmp_path / "keyring"
    ring = Keyring.load_or_make(path)
    store = open_sqlite(tmp_path / "data" / "auth.db", ring)
    archive = Archive(tmp_path, store=store)
    desk = archive.desks.reseals
    desk._refresh = ring.refresh
    old = ring.ids[0]
    rows = archive.ask("/v1/keyring/look")["rows"]
    assert list(rows) == [old]
    fresh = Keyring.new()
    ring.added(fresh).preferring(fresh.ids[0]).save(path)
    answer = archive.ask("/v1/keyring/reseal")
    assert answer == {"resealed": rows[old], "rows": {fresh.ids[0]: rows[old]}}
    [event] = archive.told("keyring.reseal")
    assert (event.code, event.outcome, event.facts["user"]) == ("TLB03I", "ok", "admin:root")
    assert archive.store.cas()
    store.close()


def test_what_was_sealed_before_the_look_is_counted_when_it_is_written(tmp_path):
    """Else a key could be taken out while a row that needs it is on its way."""
    path = tmp_path / "keyring"
    ring = Keyring.load_or_make(path)
    store = open_sqlite(tmp_path / "data" / "auth.db", ring)
    archive = Archive(tmp_path, store=store)
    archive.desks.reseals._refresh = ring.refresh
    old, fresh = ring.ids[0], Keyring.new()
    before = archive.ask("/v1/keyring/look")["rows"][old]
    sealed, go_on = threading.Event(), threading.Event()

    def change(tx):
        tx.add_token(a_token())
        sealed.set()
        assert go_on.wait(60)

    found = []
    looking = threading.Thread(target=lambda: found.append(archive.ask("/v1/keyring/look")["rows"]))
    writing = threading.Thread(target=store.write, args=(change,))
    writing.start()
    assert sealed.wait(60)
    ring.added(fresh).preferring(fresh.ids[0]).save(path)
    looking.start()
    looking.join(0.1)  # it answers now if it can, else later
    go_on.set()
    for thread in (writing, looking):
        thread.join(60)
    assert found == [{old: before + 1}]
    store.close()


@pytest.mark.parametrize("news", ["somebody looks", "another auth server has sealed all anew"])
def test_a_running_auth_seals_under_the_key_that_the_file_names_now(tmp_path, news):
    path = tmp_path / "keyring"
    ring = Keyring.load_or_make(path)
    store = open_sqlite(tmp_path / "data" / "auth.db", ring)
    archive = Archive(tmp_path, store=store)
    archive.desks.reseals._refresh = ring.refresh
    fresh = Keyring.new()
    ring.added(fresh).preferring(fresh.ids[0]).save(path)
    if news == "somebody looks":
        before = archive.ask("/v1/keyring/look")["rows"]
        assert fresh.ids[0] not in before
    else:
        archive.desks.heed(frozenset({"keyring"}))
    archive.token()
    assert archive.ask("/v1/keyring/look")["rows"][fresh.ids[0]] == 1
    store.close()


def test_messages_are_read_strictly(archive):
    with pytest.raises(Malformed):
        archive.ask("/v1/backup/begin", recording=True)
    assert backup.BackupBegin().recordings is False
    assert ROOT.label == "admin:root"
