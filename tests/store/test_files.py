"""The database file: private, one process at a time, never replaced whatever is wrong with it."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.store.sqlite import SqliteStore, open_sqlite
from tests.store.makers import a_host, a_keyring, a_token, an_event
from tests.support import eventually

# A process that opens the database and says so; what it does then stands after.
HOLDER = """
import os, sys, time
from pathlib import Path
from teleport_lite.pki.seal import Keyring
from teleport_lite.store.sqlite import open_sqlite
store = open_sqlite(Path(sys.argv[1]), Keyring([b"k" * 32]))
"""


def holder(path: Path, then: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLDER + then, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def filled_file(path: Path) -> None:
    """A database of some twenty pages."""
    store = open_sqlite(path, a_keyring())
    for number in range(40):
        token, host = a_token(f"t{number}"), a_host(f"h{number}", tls_key="PEM" * 50)
        event = an_event(host=host.id)
        store.write(
            lambda tx, token=token, host=host, event=event: (
                tx.add_token(token),
                tx.put_host(host),
                tx.record(event),
            )
        )
    store.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(path: Path, match: str) -> None:
    """Opening says `match`, leaves the file as it was, and gives the claim back."""
    before = digest(path)
    for _ in range(2):
        with pytest.raises(Unavailable, match=match) as caught:
            open_sqlite(path, a_keyring())
        assert "in use" not in caught.value.message
    assert digest(path) == before


# Making


def test_a_new_database_is_private_and_so_is_its_directory(
    path: Path, file_store: SqliteStore
) -> None:
    file_store.write(lambda tx: tx.set_meta("a", "b"))
    assert path.parent.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    names = ["auth.db", "auth.db-shm", "auth.db-wal", "auth.db.lock"]
    assert modes == dict.fromkeys(names, 0o600)


def test_a_closed_database_is_one_file_and_a_lock(path: Path) -> None:
    filled_file(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["auth.db", "auth.db.lock"]


def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    filled_file(path)
    store = open_sqlite(path, a_keyring())
    assert (len(store.tokens()), len(store.hosts()), len(store.events())) == (40, 40, 40)
    assert store.verify_trail() == (40, None)
    store.close()


def test_a_start_that_was_killed_while_making_the_file_starts_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            open_sqlite(path, a_keyring())
    assert path.with_name(".auth.db.new").exists()
    assert not path.exists()
    open_sqlite(path, a_keyring()).close()
    assert not path.with_name(".auth.db.new").exists()


# One process at a time


def test_a_second_process_is_refused_and_told_who_has_it(path: Path) -> None:
    child = holder(path, "print('open', flush=True); sys.stdin.read()")
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    with pytest.raises(Unavailable, match=f"in use by process {child.pid}$"):
        open_sqlite(path, a_keyring())
    child.communicate("")
    open_sqlite(path, a_keyring()).close()


def test_a_killed_process_leaves_no_lock_behind(path: Path) -> None:
    child = holder(path, "print('open', flush=True); sys.stdin.read()")
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.communicate()
    open_sqlite(path, a_keyring()).close()


def test_a_forked_worker_that_lives_on_does_not_keep_the_database(path: Path) -> None:
    child = holder(
        path,
        """
worker = os.fork()
if worker == 0:
    time.sleep(60)
    os._exit(0)
print(worker, flush=True)
os._exit(0)
""",
    )
    assert child.stdout is not None
    worker = int(child.stdout.readline())
    child.wait()
    try:
        os.kill(worker, 0)
        open_sqlite(path, a_keyring()).close()
    finally:
        os.kill(worker, signal.SIGKILL)
        child.communicate()


def test_the_same_process_is_refused_too_until_it_closes(path: Path) -> None:
    store = open_sqlite(path, a_keyring())
    detour = path.parent / ".." / path.parent.name / path.name
    for way in (path, detour):
        with pytest.raises(Unavailable, match="open in this process"):
            open_sqlite(way, a_keyring())
    # The refusals must not have dropped the lock that other processes see.
    assert _other_process_says(path).startswith("database")
    store.close()
    assert _other_process_says(path) == ""


def _other_process_says(path: Path) -> str:
    attempt = HOLDER.replace("store = ", "try: ") + (
        "except Exception as why: print(why.message)\nelse: print()\n"
    )
    command = [sys.executable, "-c", attempt, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_refused_opening_does_not_disturb_the_one_who_has_it(file_store: SqliteStore) -> None:
    with pytest.raises(Unavailable):
        open_sqlite(file_store._path, a_keyring())
    assert file_store.write(lambda tx: tx.add_meta("still", "mine"))


# Who else may look


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_database_that_others_may_open_is_refused(path: Path, mode: int) -> None:
    filled_file(path)
    path.chmod(mode)
    with pytest.raises(Denied, match=f"mode 0{mode:o}") as caught:
        open_sqlite(path, a_keyring())
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_database_of_somebody_else_is_refused(path: Path) -> None:
    filled_file(path)
    os.chown(path, 12345, 12345)
    with pytest.raises(Denied, match="belongs to user 12345"):
        open_sqlite(path, a_keyring())


def test_a_directory_that_others_may_enter_is_refused(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    with pytest.raises(Denied, match="mode 0755"):
        open_sqlite(path, a_keyring())
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_in_place_of_the_database_is_refused(
    path: Path, tmp_path: Path, dangling: bool
) -> None:
    path.parent.mkdir(mode=0o700)
    target = tmp_path / "elsewhere" / "auth.db"
    if not dangling:
        filled_file(target)
    path.symlink_to(target)
    with pytest.raises(Denied, match="symbolic link"):
        open_sqlite(path, a_keyring())


def test_a_link_in_place_of_the_lock_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    target = tmp_path / "precious"
    target.write_text("content")
    path.with_name("auth.db.lock").symlink_to(target)
    with pytest.raises(Unavailable, match="cannot lock"):
        open_sqlite(path, a_keyring())
    assert target.read_text() == "content"


# Damage


def test_an_empty_file_is_damage_and_not_a_new_database(path: Path) -> None:
    filled_file(path)
    os.truncate(path, 0)
    refused(path, "is empty, it was cut off or replaced")


@pytest.mark.parametrize("content", [b"hello", b"x" * 100_000, b"SQLite format 3"])
def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    path.chmod(0o600)
    refused(path, "is not a database")


@pytest.mark.parametrize("size", [16, 100, 4095, 4096, 4097, 3 * 4096, -4096, -1])
def test_a_file_that_was_cut_off_is_refused(path: Path, size: int) -> None:
    filled_file(path)
    os.truncate(path, size if size > 0 else path.stat().st_size + size)
    refused(path, "damaged|not a database|not a database of teleport-lite")


def test_every_page_with_garbage_in_it_is_noticed(path: Path, tmp_path: Path) -> None:
    filled_file(path)
    whole = path.read_bytes()
    pages = len(whole) // 4096
    assert pages > 10
    for page in range(pages):
        at = page * 4096
        path.write_bytes(whole[:at] + b"\xa5" * 4096 + whole[at + 4096 :])
        refused(path, "damaged|not a database")


def test_flipped_bytes_give_the_same_rows_or_an_error_of_ours(path: Path) -> None:
    """Whatever byte is wrong: no crash, no foreign exception, no new file in its place."""
    filled_file(path)
    whole = path.read_bytes()
    noticed = 0
    for at in range(5, len(whole), 1009):  # a prime, so that all parts of a page get their turn
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            store = open_sqlite(path, a_keyring())
        except Unavailable:
            noticed += 1
            continue
        noticed += _fails(store)
        store.close()
        assert path.stat().st_size >= len(whole)
    assert noticed > 20


def _fails(store: SqliteStore) -> bool:
    try:
        store.tokens(), store.hosts(), store.events()
        return store.verify_trail()[1] is not None
    except Unavailable:
        return True


def test_a_journal_without_its_database_is_not_thrown_away(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    journal = path.with_name("auth.db-wal")
    journal.write_bytes(b"frames")
    with pytest.raises(Unavailable, match="missing, but its journal is there"):
        open_sqlite(path, a_keyring())
    assert journal.read_bytes() == b"frames"
    assert not path.exists()


def test_a_directory_in_place_of_the_database_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    path.parent.chmod(0o700)
    with pytest.raises(Denied, match="not a regular file"):
        open_sqlite(path, a_keyring())


def test_a_sealed_row_that_was_changed_is_an_error_and_not_a_wrong_token(path: Path) -> None:
    filled_file(path)
    with sqlite3.connect(path) as db:
        # One token's sealed text in the place of another's.
        db.execute(
            "UPDATE tokens SET sealed = (SELECT sealed FROM tokens WHERE name = 't1') "
            "WHERE name = 't2'"
        )
    db.close()
    store = open_sqlite(path, a_keyring())
    assert store.token("t1") == a_token("t1")
    with pytest.raises(Unavailable, match="damaged, or was sealed under another keyring"):
        store.token("t2")
    store.close()


def test_a_file_that_another_process_locks_for_long_is_an_error_not_a_hang(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teleport_lite.store.connection._BUSY_SECONDS", 0.1)
    store = open_sqlite(path, a_keyring())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match=r"cannot write database .*another process has locked it"):
        store.write(lambda tx: tx.set_meta("a", "b"))
    assert store.meta("a") is None
    other.execute("ROLLBACK")
    other.close()
    store.write(lambda tx: tx.set_meta("a", "b"))
    eventually(lambda: store.meta("a") == "b", what="the write to be readable")
    store.close()


# Copies


def test_a_backup_taken_by_another_process_meanwhile_opens_elsewhere(
    path: Path, file_store: SqliteStore, tmp_path: Path
) -> None:
    copy = tmp_path / "copy" / "auth.db"
    copy.parent.mkdir(mode=0o700)
    file_store.write(lambda tx: (tx.add_token(a_token()), tx.record(an_event())))
    backup = """
import sqlite3, sys
source, target = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[2])
source.backup(target)
target.close()
source.close()
"""
    subprocess.run([sys.executable, "-c", backup, str(path), str(copy)], check=True)
    assert file_store.write(lambda tx: tx.add_meta("still", "writing"))
    copy.chmod(0o600)
    restored = open_sqlite(copy, a_keyring())
    assert restored.tokens() == [a_token()]
    assert restored.verify_trail() == (1, None)
    restored.close()


def test_rows_saved_by_a_sql_shell_open_again(path: Path, tmp_path: Path) -> None:
    """As docs/storage.md says for damage without a backup; a dump forgets whose file it was."""
    filled_file(path)
    saved = tmp_path / "saved" / "auth.db"
    saved.parent.mkdir(mode=0o700)
    source, target = sqlite3.connect(path), sqlite3.connect(saved)
    target.executescript("\n".join(source.iterdump()))
    target.execute("PRAGMA application_id = 1953524852")
    target.execute("PRAGMA user_version = 5")
    target.close()
    source.close()
    saved.chmod(0o600)
    store = open_sqlite(saved, a_keyring())
    assert (len(store.tokens()), len(store.hosts())) == (40, 40)
    assert store.verify_trail() == (40, None)
    store.close()
