"""tctl backup, export, import and keyring, as people type them on the host of auth."""

import base64
import errno
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.auth.desks import Desks, build
from teleport_lite.auth.start import found_cluster
from teleport_lite.cli.tctl import keyring as keyring_commands
from teleport_lite.daemon import custody
from teleport_lite.pki.seal import Keyring
from teleport_lite.plugin.builtin import builtin_book
from teleport_lite.store.sqlite import SqliteStore, open_sqlite
from tests.auth.tapes import sid
from tests.cli.conftest import Run, Tool
from tests.cli.fake_auth import FakeAuth, Refusal
from tests.cli.real_auth import ADDRESS, CLUSTER, put_behind
from tests.postgres import Postgres
from tests.store.makers import a_recording

WORDS = "correct horse battery staple"


class Site:
    """An auth host: a config, a keyring, a store; auth runs if the test has it run."""

    def __init__(self, home: Path, run: Tool, conn_string: str = "") -> None:
        self.home, self._run = home, run
        self.data, self.keyring, self.config = home / "data", home / "keyring", home / "auth.yaml"
        storage = f"type: postgresql, conn_string: '{conn_string}', " if conn_string else ""
        self.configure(storage)

    def configure(self, storage: str = "", more: str = "") -> None:
        self.config.write_text(
            f"version: v3\nteleport:\n  data_dir: {self.data}\n"
            f"  storage: {{{storage}keyring: {self.keyring}}}\n"
            f"auth_service: {{enabled: yes, cluster_name: {CLUSTER}}}\n"
            f"proxy_service: {{enabled: no}}\nssh_service: {{enabled: no}}\n{more}"
        )

    def open(self) -> SqliteStore:
        ring = Keyring.load_or_make(self.keyring)
        return open_sqlite(self.data / "backend" / "auth.db", ring)

    def founded(self) -> "Site":
        """With a cluster in its store, that nobody uses."""
        self.data.mkdir(mode=0o700)
        store = self.open()
        desks_on(store)
        store.close()
        return self

    def tctl(self, *words: str) -> Run:
        return self._run("tctl", *words, f"--config={self.config}")


def desks_on(store: SqliteStore, refresh: Callable[[], bool] = lambda: False) -> Desks:
    clock, chance = SystemClock(), SystemChance()
    found_cluster(store, name=CLUSTER, clock=clock, chance=chance)
    return build(
        clock=clock,
        chance=chance,
        store=store,
        book=builtin_book(),
        cluster=CLUSTER,
        version="0.1.0",
        auth_address=ADDRESS,
        refresh=refresh,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real cost of a passphrase takes a third of a second; tests/pki has it."""
    monkeypatch.setattr(custody, "Custody", partial(custody.Custody, cost=4))


@pytest.fixture
def site(tmp_path: Path, run: Tool) -> Site:
    home = tmp_path / "site"
    home.mkdir()
    return Site(home, run).founded()


@pytest.fixture
def other(tmp_path: Path, run: Tool) -> Site:
    """A second host: nothing is there but a config."""
    home = tmp_path / "other"
    home.mkdir()
    return Site(home, run)


@pytest.fixture
def running(site: Site, data_dir: Path, auth: FakeAuth) -> Iterator[SqliteStore]:
    """The auth service of `site`, behind a socket that is short enough."""
    ring = Keyring.load(site.keyring)
    store = open_sqlite(site.data / "backend" / "auth.db", ring)
    put_behind(auth, desks_on(store, ring.refresh))
    (site.data / "auth.sock").symlink_to(data_dir / "auth.sock")
    yield store
    (site.data / "auth.sock").unlink()
    store.close()


def ids(site: Site) -> list[str]:
    return [
        key["id"] for key in json.loads(site.tctl("keyring", "ls", "--format=json").out)["keys"]
    ]


# backup


def test_a_backup_of_a_running_cluster_is_one_private_file(site, running, tmp_path):
    file = tmp_path / "b1"
    done = site.tctl("backup", "create", str(file))
    assert (done.code, done.err) == (0, "")
    assert re.match(rf"Backup of cluster {CLUSTER}: \d+ rows, 0 recordings, [\d.]+ KiB\n", done.out)
    assert f"tctl backup verify {file}" in done.out
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["b1"]


def test_a_backup_is_looked_at_with_the_keyring_of_this_host(site, running, tmp_path, run):
    file = tmp_path / "b1"
    site.tctl("backup", "create", str(file))
    done = site.tctl("backup", "verify", str(file))
    assert done.code == 0
    assert re.search(r"Keyring +it made the backup, and opens all 6 secrets in it\n", done.out)
    assert re.search(r"Audit trail +\d+ events, the chain is whole\n", done.out)
    said = json.loads(site.tctl("backup", "verify", str(file), "--format=json").out)
    assert (said["vouched"], said["broken_at"], said["with_keyring"]) == (True, None, False)
    assert said["keys"] == list(Keyring.load(site.keyring).ids)
    elsewhere = run("tctl", "backup", "verify", str(file))
    assert "there is none here: what is sealed was not looked at" in elsewhere.out


def test_a_file_that_is_there_is_not_written_over(site, running, tmp_path):
    file = tmp_path / "b1"
    file.write_text("precious")
    done = site.tctl("backup", "create", str(file))
    assert (done.code, file.read_text()) == (1, "precious")
    assert "a backup is never put over another file" in done.err
    done = site.tctl("backup", "create", str(tmp_path / "no" / "b1"))
    assert (done.code, f"{tmp_path / 'no'} does not exist" in done.err) == (3, True)


def test_recordings_come_along_and_those_that_are_gone_are_told_of(site, other, tmp_path):
    store = site.open()
    for each in (replace(a_recording(), sid=sid(number)) for number in (1, 2)):
        store.write(lambda tx, each=each: tx.add_recording(each))
    store.close()
    records = site.data / "records"
    records.mkdir(mode=0o700)
    (records / f"{sid(1)}.cast.gz").write_bytes(b"said")
    file = tmp_path / "b1"
    done = site.tctl("backup", "create", str(file), "--with-recordings")
    assert "1 recordings are not on this host, and not in the backup" in done.err
    assert " 1 recordings, " in done.out
    other.keyring.write_bytes(site.keyring.read_bytes())
    other.keyring.chmod(0o600)
    done = other.tctl("backup", "restore", str(file))
    assert "\n1 recordings are back.\n" in done.out, done
    assert (other.data / "records" / f"{sid(1)}.cast.gz").read_bytes() == b"said"


def test_a_disk_that_is_full_is_told_as_such_and_keeps_no_half(site, tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as now:
        now.setattr("teleport_lite.client.backup.os.fsync", full)
        done = site.tctl("backup", "create", str(tmp_path / "b1"))
    assert (done.code, f"can not write {tmp_path / 'b1'}: no space left" in done.err) == (5, True)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_a_file_that_turns_up_meanwhile_is_not_written_over(site, tmp_path, monkeypatch):
    file = tmp_path / "b1"
    monkeypatch.setattr(
        "teleport_lite.client.backup.os.fsync", lambda _: file.write_text("precious")
    )
    done = site.tctl("backup", "create", str(file))
    assert (done.code, "has turned up meanwhile" in done.err) == (1, True)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["b1"]
    assert file.read_text() == "precious"


def test_where_nobody_can_type_a_passphrase_has_to_be_named(site, tmp_path):
    done = site.tctl("backup", "create", str(tmp_path / "b1"), "--with-keyring")
    assert (done.code, "--passphrase=env:NAME" in done.err) == (1, True)
    done = site.tctl("backup", "create", str(tmp_path / "b1"), "--with-keyring",
                     f"--passphrase={WORDS}")  # fmt: skip
    assert (done.code, "never by itself" in done.err, WORDS in done.err) == (1, True, False)
    assert not (tmp_path / "b1").exists()


def test_a_disk_that_knows_no_second_name_takes_a_backup_too(site, tmp_path, monkeypatch):
    def links_not(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("teleport_lite.client.backup.os.link", links_not)
    file = tmp_path / "b1"
    assert site.tctl("backup", "create", str(file)).code == 0
    assert (file.stat().st_mode & 0o777, file.stat().st_nlink) == (0o600, 1)
    real = Path.rename

    def late(temporary: Path, target: Path) -> Path:
        assert target.exists(), "the name is taken before it is given"
        return real(temporary, target)

    monkeypatch.setattr(Path, "rename", late)
    assert site.tctl("backup", "create", str(tmp_path / "b2")).code == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"b1", "b2"}


def test_a_backup_is_there_though_auth_ends_right_after_it(site, running, auth, tmp_path):
    auth.answers["/v1/backup/end"] = Refusal(503, "unavailable", "auth is shutting down")
    assert site.tctl("backup", "create", str(tmp_path / "b1")).code == 0


def test_a_trail_with_a_hole_comes_back_and_is_told_of(site, other, tmp_path):
    with sqlite3.connect(site.data / "backend" / "auth.db") as db:
        for [name] in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("UPDATE events SET line = CAST('{}' AS BLOB) WHERE seq = 1")
    db.close()
    file = tmp_path / "b1"
    assert site.tctl("backup", "create", str(file)).code == 0
    other.keyring.write_bytes(site.keyring.read_bytes())
    other.keyring.chmod(0o600)
    done = other.tctl("backup", "restore", str(file))
    assert (done.code, "does not fit from event 1 on" in done.err) == (0, True)


def test_an_auth_service_that_breaks_off_leaves_no_file(site, running, auth, tmp_path):
    real = auth.answers["/v1/backup/read"]
    for answer in (
        Refusal(503, "unavailable", "the database is away"),
        lambda asked: real(asked) | {"data": base64.b64encode(b"junk").decode()},
        lambda asked: real(asked) | {"data": "no base64"},
        lambda asked: real(asked) | {"next": 7},
        lambda asked: {},
    ):
        auth.answers["/v1/backup/read"] = answer
        done = site.tctl("backup", "create", str(tmp_path / "b1"))
        assert done.code in (1, 5), done
        assert not [path for path in tmp_path.iterdir() if path.is_file()]
    auth.answers["/v1/backup/read"] = real
    assert site.tctl("backup", "create", str(tmp_path / "b1")).code == 0


def test_without_auth_a_backup_is_taken_of_the_store_where_c_names_it(site, tmp_path, run):
    file = tmp_path / "b1"
    assert site.tctl("backup", "create", str(file)).code == 0
    assert json.loads(site.tctl("backup", "verify", str(file), "--format=json").out)["vouched"]
    done = run("tctl", "backup", "create", str(tmp_path / "b2"), f"--data-dir={site.data}")
    assert done.code == 5
    assert "tctl backup create -c /etc/teleport-lite.yaml FILE" in done.err


def test_a_backup_without_a_keyring_says_so_and_comes_back_only_on_request(site, other, tmp_path):
    file, kept = tmp_path / "b1", site.keyring.read_bytes()
    site.keyring.unlink()
    done = site.tctl("backup", "create", str(file))
    assert (done.code, "nobody will vouch for this file" in done.err) == (0, True)
    other.keyring.write_bytes(kept)
    other.keyring.chmod(0o600)
    done = other.tctl("backup", "restore", str(file))
    assert (done.code, "was made without the keyring" in done.err) == (5, True)
    assert not other.data.exists()
    assert other.tctl("backup", "restore", str(file), "--unsealed").code == 0


def test_a_cluster_comes_back_elsewhere_with_its_keyring(site, other, tmp_path, monkeypatch):
    file = tmp_path / "b1"
    monkeypatch.setenv("WORDS", WORDS)
    made = site.tctl("backup", "create", str(file), "--with-keyring", "--passphrase=env:WORDS")
    assert made.code == 0
    assert b"teleport-lite sealed keyring v1" in file.read_bytes()
    assert not any(key in file.read_bytes() for key in site.keyring.read_bytes().split()[4:])
    monkeypatch.setenv("WORDS", "another long passphrase")
    done = other.tctl("backup", "restore", str(file), "--passphrase=env:WORDS")
    assert (done.code, "the passphrase is another one" in done.err) == (4, True)
    assert list(other.home.iterdir()) == [other.config]
    monkeypatch.setenv("WORDS", WORDS)
    done = other.tctl("backup", "restore", str(file), "--passphrase=env:WORDS")
    assert (done.code, done.err) == (0, "")
    assert f"Cluster {CLUSTER} is back as of 2" in done.out
    assert Keyring.load(other.keyring).ids == Keyring.load(site.keyring).ids
    store = other.open()
    assert len(store.cas()) == 5
    assert store.verify_trail()[1] is None
    store.close()


def test_without_its_keyring_a_cluster_does_not_come_back(site, other, tmp_path):
    file = tmp_path / "b1"
    site.tctl("backup", "create", str(file))
    done = other.tctl("backup", "restore", str(file))
    assert (done.code, "there is no keyring in" in done.err) == (3, True)
    Keyring.load_or_make(other.keyring)
    done = other.tctl("backup", "restore", str(file))
    assert (done.code, "which the keyring here does not have" in done.err) == (4, True)
    assert not other.data.exists()


def test_nothing_is_restored_over_a_cluster_or_under_a_running_one(site, tmp_path, other, run):
    file = tmp_path / "b1"
    site.tctl("backup", "create", str(file))
    done = site.tctl("backup", "restore", str(file))
    assert (done.code, "nothing is ever put over one" in done.err) == (1, True)
    hint = re.search(r"try: mv (\S+) (\S+)", done.err)
    assert hint is not None
    os.rename(hint[1], hint[2])
    assert site.tctl("backup", "restore", str(file)).code == 0
    other.config.write_text(other.config.read_text().replace(CLUSTER, "other.example.com"))
    other.keyring.write_bytes(site.keyring.read_bytes())
    other.keyring.chmod(0o600)
    done = other.tctl("backup", "restore", str(file))
    assert (done.code, f"set auth_service.cluster_name to {CLUSTER}" in done.err) == (1, True)


def test_a_store_that_was_moved_away_under_auth_is_not_restored(site, running, tmp_path):
    site.tctl("backup", "create", str(tmp_path / "b1"))
    backend = site.data / "backend"
    backend.rename(site.data / "backend.old")
    done = site.tctl("backup", "restore", str(tmp_path / "b1"))
    assert (done.code, "systemctl stop teleport-lite" in done.err) == (1, True)
    assert not backend.exists()


def test_a_damaged_backup_is_refused_before_anything_is_made(site, other, tmp_path):
    file = tmp_path / "b1"
    site.tctl("backup", "create", str(file))
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    other.keyring.write_bytes(site.keyring.read_bytes())
    other.keyring.chmod(0o600)
    for words in (("verify",), ("restore",)):
        done = other.tctl("backup", *words, str(file))
        assert (done.code, "can not be used" in done.err) == (1, True)
    assert not other.data.exists()
    assert other.tctl("backup", "verify", str(tmp_path / "nosuch")).code == 3


def test_where_auth_does_not_run_there_is_nothing_to_restore_into(site, tmp_path, run):
    file = tmp_path / "b1"
    site.tctl("backup", "create", str(file))
    text = site.config.read_text().replace("enabled: yes", "enabled: no")
    site.config.write_text(
        text.replace("ssh_service: {enabled: no}", "ssh_service: {enabled: yes}")
    )
    done = site.tctl("backup", "restore", str(file))
    assert (done.code, "does not run auth on this host" in done.err) == (1, True)


# export and import


def test_a_cluster_moves_to_postgresql_and_back(site, tmp_path, run, postgres: Postgres):
    conn_string = postgres.database()
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    back.mkdir()
    one, two = tmp_path / "x1", tmp_path / "x2"
    shared, home = Site(there, run, conn_string), Site(back, run)
    for each in (shared, home):
        each.keyring.write_bytes(site.keyring.read_bytes())
        each.keyring.chmod(0o600)
    try:
        assert site.tctl("export", str(one)).code == 0
        done = shared.tctl("import", str(one))
        assert (done.code, done.err) == (0, "")
        assert "The old store is as it was" in done.out
        again = shared.tctl("import", str(one))
        assert (again.code, "holds a cluster already" in again.err) == (1, True)
        assert shared.tctl("export", str(two)).code == 0
    finally:
        postgres.drop(conn_string)
    assert home.tctl("import", str(two)).code == 0
    before, after = site.open(), home.open()
    assert (after.cas(), after.roles()) == (before.cas(), before.roles())
    kinds = [event.kind for _, event in after.events()]
    assert kinds == ["cluster.create", "cluster.import", "cluster.import"]
    assert after.verify_trail() == (3, None)
    before.close()
    after.close()


def test_a_running_cluster_is_not_exported_nor_a_backup_imported(site, running, other, tmp_path):
    done = site.tctl("export", str(tmp_path / "x1"))
    assert (done.code, "is open in this process" in done.err) == (5, True)
    site.tctl("backup", "create", str(tmp_path / "b1"))
    done = other.tctl("import", str(tmp_path / "b1"))
    assert (done.code, "tctl backup restore" in done.err) == (1, True)
    assert list(other.home.iterdir()) == [other.config]


# keyring


def test_a_key_is_added_used_and_the_old_one_retired(site, running):
    [old] = ids(site)
    made = site.tctl("keyring", "add")
    [_, fresh] = ids(site)
    assert f"tctl keyring use {fresh}" in made.out
    assert site.tctl("keyring", "use", fresh[:8]).code == 0
    assert ids(site) == [fresh, old]
    done = site.tctl("keyring", "retire", old)
    assert (done.code, f"6 rows are sealed under key {old}" in done.err) == (1, True)
    done = site.tctl("keyring", "reseal")
    assert done.out == f"6 rows have been sealed anew.\n6 rows are sealed under key {fresh}.\n"
    listed = site.tctl("keyring", "ls").out
    assert re.search(rf"{fresh} +seals +6\n{old} +opens +0\n", listed)
    assert site.tctl("keyring", "retire", old).code == 0
    assert ids(site) == [fresh]
    assert len(running.cas()) == 5


def test_the_key_that_seals_stays_and_without_auth_none_goes(site):
    [old] = ids(site)
    done = site.tctl("keyring", "retire", old)
    assert (done.code, "is the one that seals" in done.err) == (1, True)
    site.tctl("keyring", "add", "--use")
    assert site.tctl("keyring", "retire", old).code == 5
    assert site.tctl("keyring", "use", "nosuch").code == 3
    assert len(ids(site)) == 2
    assert re.search(r"opens +\?\n", site.tctl("keyring", "ls").out)


def test_a_keyring_is_sealed_as_the_config_says_and_under_a_new_passphrase(site, monkeypatch):
    [id] = ids(site)
    done = site.tctl("keyring", "seal")
    assert (done.code, "names nothing to seal the keyring with" in done.err) == (1, True)
    monkeypatch.setenv("WORDS", WORDS)
    site.configure("keyring_passphrase: 'env:WORDS', ")
    assert site.tctl("keyring", "seal").out == f"{site.keyring} is sealed by: passphrase\n"
    monkeypatch.setenv("NEW", "another long passphrase")
    assert site.tctl("keyring", "seal", "--passphrase=env:NEW").code == 0
    assert "the passphrase is another one" in site.tctl("keyring", "ls").err
    site.configure("keyring_passphrase: 'env:NEW', ")
    assert ids(site) == [id]
    assert site.tctl("keyring", "seal", "--open").out == f"{site.keyring} is sealed by: plain\n"
    monkeypatch.setenv("NEW", "short")
    before = site.keyring.read_bytes()
    assert "at least 12 characters" in site.tctl("keyring", "seal").err
    assert site.keyring.read_bytes() == before


def test_a_keyring_is_sealed_by_a_plugin(site, tmp_path, monkeypatch):
    [id] = ids(site)
    master = tmp_path / "master"
    master.write_bytes(b"m")
    keeper = Path(__file__).parents[2] / "plugin" / "keeper"
    more = f"plugins: {{directories: [{keeper}], settings: {{keeper: {{master: {master}}}}}}}\n"
    monkeypatch.setattr("teleport_lite.plugin.invited.check_ground", lambda *_, **__: None)
    site.configure("keyring_plugin: keeper, ", more)
    assert site.tctl("keyring", "seal").out == f"{site.keyring} is sealed by: plugin keeper\n"
    assert ids(site) == [id]
    master.write_bytes(b"another")
    done = site.tctl("keyring", "ls")
    assert (done.code, "the keeper does not know this key" in done.err) == (4, True)
    site.configure("keyring_plugin: keeper, ")
    assert "plugin keeper is to keep the key of the keyring, and is not invited" in (
        site.tctl("keyring", "ls").err
    )


def test_no_secret_is_ever_shown(site, monkeypatch):
    monkeypatch.setenv("WORDS", WORDS)
    key = site.keyring.read_text().split()[-1]
    for words in (("ls",), ("add",), ("seal", "--passphrase=env:WORDS"), ("ls", "--debug")):
        done = site.tctl("keyring", *words)
        assert key not in done.out + done.err
        assert WORDS not in done.out + done.err
    assert keyring_commands.app is not None
