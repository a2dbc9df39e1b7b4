"""What the file store promises beyond the contract: secrecy on disk, durability, recovery."""

import json
import random
import sqlite3
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.model.authority import CaKeys
from teleport_lite.model.token import JoinToken
from teleport_lite.secret import Secret
from teleport_lite.store.sqlite import SqliteStore, open_sqlite
from tests.store.makers import a_host, a_keyring, a_token, an_event, filled, spend

ROOT = Path(__file__).parents[2]


def on_disk(path: Path) -> bytes:
    """The database and its journal as a thief would find them.

    Read by another process: closing the file in this one would drop SQLite's locks.
    """
    names = [str(file) for file in sorted(path.parent.iterdir()) if file.name != "auth.db.lock"]
    return subprocess.run(["cat", *names], check=True, capture_output=True).stdout


# Secrecy


def test_no_secret_is_readable_in_the_files(path: Path, file_store: SqliteStore) -> None:
    token = filled(JoinToken)
    token_text, keys = "tok-5ecret-5ecret", filled(CaKeys)
    keys_with_pem = {
        "ssh_private": Secret("-----BEGIN OPENSSH PRIVATE KEY-----\nc3No\n"),
        "tls_private": Secret("-----BEGIN PRIVATE KEY-----\ndGxz\n"),
        "jwt_private": Secret("-----BEGIN PRIVATE KEY-----\nand0\n"),
    }
    changed = {"text": Secret(token_text), "spent_at": None}
    fields = {name: getattr(token, name) for name in JoinToken.__dataclass_fields__}
    ca = {name: getattr(keys, name) for name in CaKeys.__dataclass_fields__}
    file_store.write(lambda tx: tx.add_token(JoinToken(**(fields | changed))))
    file_store.write(lambda tx: tx.add_ca(CaKeys(**(ca | keys_with_pem))))
    file_store.write(lambda tx: tx.put_host(a_host("in-the-clear")))
    while_open = on_disk(path)
    file_store.close()
    for found in (while_open, on_disk(path)):
        assert b"in-the-clear" in found  # the search does find what is there
        assert b"5ecret" not in found
        assert b"PRIVATE KEY" not in found
        assert token.verifier.stored_key.hex().encode() not in found
        assert token.verifier.stored_key not in found
        assert json.dumps(token_text)[1:-1].encode().hex().encode() not in found


def test_a_removed_token_leaves_nothing_in_the_file(path: Path, file_store: SqliteStore) -> None:
    file_store.write(lambda tx: tx.add_token(a_token("name-to-be-forgotten")))
    assert b"name-to-be-forgotten" in on_disk(path)
    file_store.write(lambda tx: tx.remove_token("name-to-be-forgotten"))
    file_store.close()
    assert b"name-to-be-forgotten" not in on_disk(path)


def test_errors_about_damaged_secrets_do_not_show_them(path: Path, file_store: SqliteStore) -> None:
    file_store.write(lambda tx: tx.add_token(a_token("t1", text=Secret("tok-5ecret-5ecret"))))
    other = sqlite3.connect(path)
    other.execute("UPDATE tokens SET document = '{\"roles\": 5}'")
    other.commit()
    other.close()
    with pytest.raises(Unavailable) as caught:
        file_store.token("t1")
    assert "5ecret" not in f"{caught.value!r} {caught.value.log} {caught.value.__cause__!r}"


# Durability


def test_every_commit_waits_for_the_disk(file_store: SqliteStore) -> None:
    """synchronous=NORMAL lost acknowledged rows in every power cut that was tried."""
    found = file_store.write(
        lambda tx: [
            tx._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "trusted_schema",
                "cell_size_check",
                "secure_delete",
                "busy_timeout",
            )
        ]
    )
    assert found == ["wal", 2, 1, 0, 1, 1, 50]


WRITER = """
import os, sys, threading
from pathlib import Path
from teleport_lite.pki.seal import Keyring
from teleport_lite.store.sqlite import open_sqlite
from tests.store.makers import a_host, a_token, an_event, T0

store = open_sqlite(Path(sys.argv[1]), Keyring([b"k" * 32]))

def join(name):
    def change(tx):
        assert tx.add_token(a_token(name, once=True))
        tx.record(an_event("join_token.create", token=name))
        assert tx.spend_token(name, roles=("Node",), key=name, now=T0)
        tx.put_host(a_host(name))
        tx.record(an_event(host=name))
    store.write(change)
    os.write(1, (name + "\\n").encode())  # acknowledged: from here on it may not be lost

def work(worker):
    number = 0
    while True:
        join(f"{sys.argv[2]}-{worker}-{number}")
        number += 1

for worker in range(8):
    threading.Thread(target=work, args=(worker,)).start()
"""


def test_kill_9_at_random_moments_loses_no_acknowledged_join(path: Path) -> None:
    moments = random.Random(20)
    acknowledged: set[str] = set()
    for number in range(6):
        acknowledged |= _joins_until_killed(path, number, moments.randint(11, 60))
        _check_joins(path, acknowledged)
    assert len(acknowledged) > 60


def _joins_until_killed(path: Path, number: int, joins: int) -> set[str]:
    """Killed right after so many are told, while others are being written."""
    command = [sys.executable, "-c", WRITER, str(path), str(number)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    first = b"".join(child.stdout.readline() for _ in range(joins))
    child.kill()
    rest, _ = child.communicate()
    # A last line without its end was not delivered, so nobody has relied on it.
    return set((first + rest[: rest.rfind(b"\n") + 1]).decode().split())


def _check_joins(path: Path, acknowledged: set[str]) -> None:
    store = open_sqlite(path, a_keyring())
    hosts = {host.id for host, _ in store.hosts()}
    events = [event for _, event in store.events(limit=1_000_000)]
    joined = [event.facts["host"] for event in events if event.kind == "instance.join"]
    spent = {token.name for token in store.tokens() if token.spent_at is not None}
    checked, broken_at = store.verify_trail()
    store.close()
    assert acknowledged <= hosts
    assert sorted(joined) == sorted(hosts)  # no host without its event, no event twice
    assert spent == hosts
    assert (checked, broken_at) == (2 * len(hosts), None)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


# A full disk


# Two megabytes of memory as a disk, in a mount namespace that ends with the process in it.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=2m,mode=0700 tmpfs "$1" && echo mounted && exec "$2" -c "
import pathlib, sys
from tests.store.test_sqlite import fill_and_empty
fill_and_empty(pathlib.Path(sys.argv[1]))
print('passed')
" "$1"
"""


def test_on_a_full_disk_writes_fail_whole_reads_go_on_and_space_heals_it(tmp_path: Path) -> None:
    command = ["unshare", "-m", "sh", "-c", ON_A_SMALL_DISK, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if not done.stdout.startswith("mounted"):
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    assert done.stdout == "mounted\npassed\n", done.stderr


def fill_and_empty(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    store = open_sqlite(small_disk / "data" / "auth.db", a_keyring())
    _fill_until_full(store)
    ballast.unlink()
    store.write(lambda tx: tx.put_host(a_host("after")))
    assert store.host("after") is not None
    assert store.verify_trail()[1] is None
    store.close()
    again = open_sqlite(small_disk / "data" / "auth.db", a_keyring())
    assert again.host("after") is not None
    assert again.verify_trail()[1] is None
    again.close()


def test_where_no_disk_can_be_mounted_a_page_limit_shows_the_same(file_store: SqliteStore) -> None:
    file_store.write(lambda tx: tx._db.execute("PRAGMA max_page_count = 60"))
    _fill_until_full(file_store)
    file_store.write(lambda tx: tx._db.execute("PRAGMA max_page_count = 100000"))
    file_store.write(lambda tx: tx.put_host(a_host("after")))
    assert file_store.host("after") is not None
    assert file_store.verify_trail()[1] is None


def _fill_until_full(store: SqliteStore) -> None:
    """Write until it fails; see that what was acknowledged is there, and nothing else is."""
    kept: list[str] = []
    with pytest.raises(Unavailable, match="the disk is full") as caught:
        _join_many(store, kept)
    assert caught.value.hint == "df -h"
    assert len(kept) > 10
    for _ in range(3):  # and it goes on failing the same way
        with pytest.raises(Unavailable, match="the disk is full"):
            store.write(lambda tx: [tx.set_meta(f"m{i}", "x" * 900) for i in range(4000)])
    assert sorted(host.id for host, _ in store.hosts()) == sorted(kept)
    assert sorted(token.name for token in store.tokens()) == sorted(kept)
    assert [event.facts["host"] for _, event in store.events(limit=10_000)] == kept
    assert store.verify_trail() == (len(kept), None)
    assert store.meta("m0") is None


def _join_many(store: SqliteStore, kept: list[str]) -> None:
    while len(kept) < 10_000:
        host = a_host(f"h{len(kept)}", tls_key="PEM" * 300)

        def join(tx, host=host) -> None:
            tx.add_token(a_token(host.id, once=True))
            tx.spend_token(host.id, roles=("Node",), key="k", now=host.joined_at)
            tx.put_host(host)
            tx.record(an_event(host=host.id))

        store.write(join)
        kept.append(host.id)


# Odds


def test_a_transaction_is_over_when_its_change_is(file_store: SqliteStore) -> None:
    kept = file_store.write(lambda tx: tx)
    with pytest.raises(RuntimeError, match="after its end"):
        kept.set_meta("key", "value")
    assert file_store.meta("key") is None


def test_a_time_without_a_zone_is_a_bug_that_undoes_itself(file_store: SqliteStore) -> None:
    file_store.write(lambda tx: tx.add_token(a_token()))
    naive = datetime(2026, 1, 1)
    with pytest.raises(TypeError):
        spend(file_store, at=naive)
    with pytest.raises(TypeError):
        file_store.write(lambda tx: tx.record(an_event(at=naive)))
    assert spend(file_store)
    assert file_store.events() == []


def test_reading_after_the_close_says_so(file_store: SqliteStore) -> None:
    file_store.close()
    with pytest.raises(Unavailable, match="closed"):
        file_store.tokens()


def test_a_reader_that_ends_while_the_store_is_closed_leaves_no_connection(
    file_store: SqliteStore,
) -> None:
    class Idle(list[sqlite3.Connection]):
        def append(self, db: sqlite3.Connection) -> None:
            file_store.close()
            super().append(db)
            left.append(db)

    left: list[sqlite3.Connection] = []
    file_store._idle = Idle()
    assert file_store.tokens() == []
    for db in left:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            db.execute("SELECT 1")
    assert len(left) == 1


def test_it_starts_with_the_trail_it_ended_with(path: Path) -> None:
    for number in range(1, 4):
        store = open_sqlite(path, a_keyring())
        store.write(lambda tx: tx.record(an_event()))
        assert store.verify_trail() == (number, None)
        store.close()
