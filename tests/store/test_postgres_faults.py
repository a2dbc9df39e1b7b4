"""A PostgreSQL that restarts, hangs, cuts us off or takes no writes; real servers of the test's."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.secret import Secret
from teleport_lite.store import postgres_link
from teleport_lite.store.postgres import PostgresStore, open_postgres
from teleport_lite.store.watching import TOPICS
from tests.postgres import Postgres, private
from tests.store.makers import a_host, a_keyring, a_token, an_event
from tests.support import eventually


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with private() as made:
        yield made


@pytest.fixture
def conn_string(server: Postgres) -> str:
    return server.database()


@pytest.fixture
def store(conn_string: str) -> Iterator[PostgresStore]:
    made = opened(conn_string)
    yield made
    made.close()


def opened(conn_string: str) -> PostgresStore:
    return open_postgres(Secret(conn_string), a_keyring())


def add_host(store: PostgresStore, name: str) -> None:
    store.write(lambda tx: tx.put_host(a_host(name)))


def hosts(store: PostgresStore) -> set[str]:
    return {host.id for host, _ in store.hosts()}


# Restarts


def test_a_restart_between_two_calls_is_not_noticed(server: Postgres, store: PostgresStore) -> None:
    add_host(store, "before")
    for how in (signal.SIGINT, signal.SIGKILL):
        assert "before" in hosts(store)
        server.restart(how)
        assert "before" in hosts(store)  # the idle connections of readers died
        server.restart(how)
        add_host(store, f"after-{how}")  # that of the writer, too
    assert len(hosts(store)) == 3


def test_cut_connections_are_replaced(
    server: Postgres, store: PostgresStore, conn_string: str
) -> None:
    add_host(store, "before")
    hosts(store)
    assert server.cut(conn_string) >= 2  # that of who has opened it may be there still
    add_host(store, "after")
    server.cut(conn_string)
    assert hosts(store) == {"before", "after"}


def test_a_connection_that_is_cut_in_the_middle_of_a_change_keeps_nothing_of_it(
    server: Postgres, store: PostgresStore, conn_string: str
) -> None:
    def change(tx: Any) -> None:
        tx.put_host(a_host("half"))
        server.cut(conn_string, where="application_name = 'teleport-lite writer'")
        tx.record(an_event())

    with pytest.raises(Unavailable, match="cannot write"):
        store.write(change)
    assert hosts(store) == set()
    add_host(store, "next")
    assert hosts(store) == {"next"}
    assert store.verify_trail() == (0, None)


def test_no_acknowledged_write_is_lost_while_the_server_is_killed_again_and_again(
    server: Postgres, conn_string: str
) -> None:
    """Two auth servers write, PostgreSQL is killed 4 times. What each was told is compared."""
    stores = [opened(conn_string), opened(conn_string)]
    kept: list[str] = []
    told_off: list[str] = []
    ending = threading.Event()

    def write(number: int) -> None:
        turn = 0
        while not ending.is_set():
            name, turn = f"h{number}-{turn}", turn + 1

            def change(tx: Any, name: str = name) -> None:
                tx.put_host(a_host(name))
                tx.record(an_event(host=name))

            try:
                stores[number % 2].write(change)
                kept.append(name)
            except Unavailable:
                told_off.append(name)
                ending.wait(0.02)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        goal = len(kept) + 30
        eventually(lambda goal=goal: len(kept) > goal)
        server.restart(signal.SIGKILL)
    goal = len(kept) + 30
    eventually(lambda: len(kept) > goal)
    ending.set()
    for thread in threads:
        thread.join(60)
    found = hosts(stores[0])
    assert set(kept) <= found
    recorded = {event.facts["host"] for _, event in stores[1].events(limit=100_000)}
    assert recorded == found  # and never one without the other
    assert stores[0].verify_trail() == (len(recorded), None)
    for each in stores:
        each.close()


# A server that is away, or says nothing


def test_a_server_that_is_away_is_told_and_found_again(
    server: Postgres, store: PostgresStore
) -> None:
    add_host(store, "before")
    server.stop()
    for act in (lambda: add_host(store, "lost"), lambda: hosts(store)):
        with pytest.raises(Unavailable, match="nobody listens there"):
            act()
    assert store.health.trouble == "nobody listens there"
    assert store.look() == "nobody listens there"
    server.start()
    eventually(lambda: store.look() == "")
    add_host(store, "after")
    assert hosts(store) == {"before", "after"}


def test_what_only_readers_have_met_is_known_though_nobody_writes(
    server: Postgres, store: PostgresStore
) -> None:
    add_host(store, "before")
    server.stop()
    with pytest.raises(Unavailable, match="nobody listens there"):
        hosts(store)
    assert store.look() == "nobody listens there"
    server.start()
    eventually(lambda: store.look() == "")
    assert hosts(store) == {"before"}


def test_while_the_server_is_away_one_asks_for_all(
    conn_string: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt may take seconds; the threads of auth are not to spend them all there."""
    link = postgres_link.Link(Secret(conn_string))
    attempts, proceed = [], threading.Event()

    def hang(**_: object) -> None:
        attempts.append(threading.get_ident())
        proceed.wait(30)
        raise psycopg.OperationalError("timeout expired")

    def ask() -> None:
        with pytest.raises(Unavailable, match="the database server does not answer"):
            link.connect_soon("test", patience=0)

    proceed.set()
    with monkeypatch.context() as patched:
        patched.setattr(postgres_link._Connection, "connect", hang)
        ask()
        attempts.clear()
        proceed.clear()
        first = threading.Thread(target=ask)
        first.start()
        eventually(lambda: attempts)
        for _ in range(20):
            ask()
        assert attempts == [first.ident]
        proceed.set()
        first.join(30)
    link.connect_soon("test").close()


def test_a_server_that_hangs_is_given_up_and_found_again(
    server: Postgres, conn_string: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(f"{conn_string}&connect_timeout=2")  # the least there is
    add_host(store, "before")
    with server.frozen(), monkeypatch.context() as patched:
        patched.setattr(postgres_link._Connection, "silence", 0.5)
        with pytest.raises(Unavailable, match="the database server does not answer"):
            add_host(store, "lost")
    eventually(lambda: store.look() == "")
    add_host(store, "after")
    assert hosts(store) >= {"before", "after"}
    store.close()


def test_listeners_are_told_everything_after_their_connection_was_lost(
    server: Postgres, store: PostgresStore, conn_string: str
) -> None:
    heard: list[frozenset[str]] = []
    store.watch(heard.append)
    for break_it in (lambda: server.cut(conn_string), lambda: server.restart(signal.SIGKILL)):
        heard.clear()
        break_it()
        eventually(lambda: TOPICS in heard, what=str(heard))
        heard.clear()
        other = opened(conn_string)
        other.write(lambda tx: tx.add_token(a_token()) or tx.remove_token("t1"))
        eventually(lambda: heard == [frozenset({"tokens"})], what=str(heard))
        other.close()


def test_listeners_are_told_where_a_thousand_files_are_open(conn_string: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 4096), limits[1]))
    heard: list[frozenset[str]] = []
    with ExitStack() as files:
        any(files.enter_context(open(os.devnull)).closed for _ in range(1100))  # all are open
        with closing(opened(conn_string)) as store, closing(opened(conn_string)) as other:
            store.watch(heard.append)
            other.write(lambda tx: tx.add_token(a_token()))
            eventually(lambda: frozenset({"tokens"}) in heard, what=str(heard))
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_who_listens_while_the_server_is_away_is_told_when_it_is_back(
    server: Postgres, store: PostgresStore
) -> None:
    server.stop()
    heard: list[frozenset[str]] = []
    store.watch(heard.append)
    server.start()
    eventually(lambda: TOPICS in heard)


# An auth server that was stopped in the middle of a change

STOPPED = """
import signal, sys, threading
from teleport_lite.secret import Secret
from teleport_lite.store import postgres_link
from teleport_lite.store.postgres import open_postgres
from tests.store.makers import a_host, a_keyring
postgres_link._LIMITS["idle_in_transaction_session_timeout"] = int(sys.argv[2])
store = open_postgres(Secret(sys.argv[1]), a_keyring())
def change(tx):
    tx.put_host(a_host("late"))
    print("changing", flush=True)
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # not a step further
try:
    store.write(change)
    print("kept", flush=True)
except Exception as why:
    print(why.message, flush=True)
"""


@contextmanager
def stopped(conn_string: str, limit: int = 5000) -> "Iterator[subprocess.Popen[str]]":
    """An auth server that holds the head of the trail, and does not go on. `limit`: milliseconds
    that the server puts up with it."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, conn_string, str(limit)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "changing\n"
        stat = Path(f"/proc/{process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        yield process
    finally:
        process.kill()
        process.communicate()


def test_who_is_stopped_in_a_change_holds_up_the_others_for_seconds_and_loses_it(
    conn_string: str,
) -> None:
    with stopped(conn_string, limit=1000) as process:
        store = opened(conn_string)
        add_host(store, "in time")  # waits until the server has ended the other's transaction
        os.kill(process.pid, signal.SIGCONT)
        said, _ = process.communicate(timeout=60)
    assert said.startswith("cannot write database")
    assert hosts(store) == {"in time"}
    store.close()


def test_who_waits_has_more_patience_than_who_holds_is_given() -> None:
    limits = postgres_link._LIMITS
    assert limits["idle_in_transaction_session_timeout"] < limits["lock_timeout"]
    assert limits["lock_timeout"] < limits["statement_timeout"] < postgres_link._SILENCE * 1000


def test_who_is_killed_in_a_change_holds_up_nobody(conn_string: str) -> None:
    with stopped(conn_string) as process:
        store = opened(conn_string)
        process.kill()
        add_host(store, "at once")
    assert hosts(store) == {"at once"}
    store.close()


def test_who_waits_too_long_for_the_others_is_told_so(
    conn_string: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres_link._LIMITS, "lock_timeout", 200)
    with stopped(conn_string):
        store = opened(conn_string)
        with pytest.raises(Unavailable, match="another auth server holds it"):
            add_host(store, "early")
        store.close()


# Servers that take no writes


def name_of(conn_string: str) -> str:
    return conn_string.partition("@/")[2].partition("?")[0]


@contextmanager
def standby(primary: Postgres, directory: Path) -> Iterator[Postgres]:
    """A hot standby of `primary`, as far as it was at a restart."""
    made = Postgres(directory)
    primary.stop()
    subprocess.run(["cp", "-a", str(primary.data), str(made.data)], check=True)
    primary.start()
    made.socket.mkdir(mode=0o700)
    directory.chmod(0o755)
    user = primary.data.stat()
    os.chown(made.socket, user.st_uid, user.st_gid)
    (made.data / "standby.signal").touch()
    made.start("hot_standby=on", "wal_retrieve_retry_interval=100ms")
    try:
        yield made
    finally:
        made.stop(signal.SIGQUIT)


def test_a_standby_is_refused_and_of_several_servers_the_primary_is_taken(
    server: Postgres, conn_string: str
) -> None:
    opened(conn_string).close()
    with ExitStack() as ending:
        directory = Path(ending.enter_context(TemporaryDirectory(prefix="teleport-lite-pg-")))
        second = ending.enter_context(standby(server, directory))
        alone = conn_string.replace(str(server.socket), str(second.socket))
        with pytest.raises(Unavailable, match="the server is a standby, it takes no writes") as why:
            opened(alone)
        assert "host=one,two" in why.value.hint
        both = conn_string.replace(str(server.socket), f"{second.socket},{server.socket}")
        store = opened(both)
        add_host(store, "at the primary")
        store.close()


def test_a_database_that_is_read_only_by_default_is_written_nevertheless(
    server: Postgres, conn_string: str
) -> None:
    """The setting is advice for sessions that say nothing; ours says what it wants."""
    server.execute(f"ALTER DATABASE {name_of(conn_string)} SET default_transaction_read_only = on")
    store = opened(conn_string)
    add_host(store, "written")
    store.close()


def test_what_is_acknowledged_is_on_the_disk_of_the_server_whatever_its_default(
    server: Postgres, conn_string: str
) -> None:
    server.execute(f"ALTER DATABASE {name_of(conn_string)} SET synchronous_commit = off")
    db = postgres_link.Link(Secret(conn_string)).connect("test")
    assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)
    db.execute("SELECT 1")
    db.close()
    server.execute(f"ALTER DATABASE {name_of(conn_string)} SET synchronous_commit = remote_apply")
    db = postgres_link.Link(Secret(conn_string)).connect("test")
    assert db.execute("SHOW synchronous_commit").fetchone() == ("remote_apply",)
    db.close()


def test_a_reader_can_not_write(store: PostgresStore) -> None:
    with store._reader() as db, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        db.execute("DELETE FROM users")
