"""The answer to a commit is lost on its way; a relay of the test's in front of a real server."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.store import postgres_link
from teleport_lite.store.postgres import PostgresStore
from tests.postgres import Postgres
from tests.store.makers import a_host, an_event
from tests.store.test_postgres_faults import add_host, hosts, opened
from tests.support import eventually


@pytest.fixture
def server(postgres: Postgres) -> Postgres:
    return postgres


@pytest.fixture
def conn_string(server: Postgres) -> Iterator[str]:
    made = server.database()
    yield made
    server.drop(made)


class Relay:
    """Passes on what it is given, until it sees a COMMIT with `lose` set."""

    def __init__(self, directory: Path, server: Postgres) -> None:
        directory.mkdir(mode=0o700)
        self.lose = ""  # "question": the COMMIT is not passed on; "answer": its answer is not
        self.lost = 0
        self._target = str(server.socket / ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._target)
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for near, far in ((client, server), (server, client)):
                    if near in ready:
                        data = near.recv(65536)
                        if not data:
                            return None
                        if near is client and self.lose and data.endswith(b"COMMIT\0"):
                            return self._lose(data, server)
                        far.sendall(data)

    def _lose(self, data: bytes, server: socket.socket) -> None:
        how, self.lose = self.lose, ""
        if how == "answer":
            server.sendall(data)
            assert server.recv(65536)  # it is done
        self.lost += 1


@pytest.fixture
def relay(server: Postgres, tmp_path: Path) -> Iterator[Relay]:
    made = Relay(tmp_path / "relay", server)
    yield made
    made.close()


@pytest.fixture
def far_store(relay: Relay, conn_string: str, server: Postgres, tmp_path: Path) -> Iterator[Any]:
    made = opened(conn_string.replace(str(server.socket), str(tmp_path / "relay")))
    yield made
    made.close()


def test_a_commit_whose_answer_is_lost_is_looked_up_and_found(
    far_store: PostgresStore, relay: Relay
) -> None:
    landed: list[int] = []
    for number in range(3):
        relay.lose = "answer"

        def change(tx: Any, number: int = number) -> None:
            tx.put_host(a_host(f"h{number}"))
            tx.record(an_event())
            tx.on_commit(lambda: landed.append(number))

        far_store.write(change)
    assert relay.lost == 3
    assert hosts(far_store) == {"h0", "h1", "h2"}
    assert landed == [0, 1, 2]
    assert far_store.verify_trail() == (3, None)


def test_a_commit_that_did_not_arrive_is_told(far_store: PostgresStore, relay: Relay) -> None:
    relay.lose = "question"
    with pytest.raises(Unavailable, match="the connection was lost"):
        add_host(far_store, "lost")
    assert hosts(far_store) == set()
    add_host(far_store, "next")
    assert hosts(far_store) == {"next"}


def test_a_commit_that_nobody_can_look_up_is_told_to_be_in_doubt(
    far_store: PostgresStore, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_host(far_store, "before")
    heard: list[frozenset[str]] = []
    far_store.watch(heard.append)
    away = Unavailable("cannot open database: nobody listens there")
    relay.lose = "answer"
    with monkeypatch.context() as patched:
        patched.setattr(postgres_link.Link, "connect_soon", _raises(away))
        with pytest.raises(Unavailable, match="it may or may not be kept"):
            add_host(far_store, "doubtful")
    assert hosts(far_store) == {"before", "doubtful"}
    # Of a change of its own nobody else tells this store.
    eventually(lambda: frozenset({"hosts"}) in heard, what=str(heard))


def test_a_commit_that_is_looked_up_in_an_older_state_of_the_database_is_in_doubt(
    server: Postgres, far_store: PostgresStore, relay: Relay, conn_string: str
) -> None:
    """As after a standby that was behind has taken over: it has never heard of this writer."""
    add_host(far_store, "before")
    server.execute("DELETE FROM batches", conn_string)
    relay.lose = "question"
    with pytest.raises(Unavailable, match="it may or may not be kept"):
        add_host(far_store, "doubtful")
    add_host(far_store, "next")
    assert hosts(far_store) == {"before", "next"}


def _raises(error: Exception) -> Callable[..., Any]:
    def act(*_: object, **__: object) -> None:
        raise error

    return act


def test_everybody_in_a_batch_whose_answer_was_lost_gets_their_own(
    far_store: PostgresStore, relay: Relay
) -> None:
    add_host(far_store, "before")
    answers: list[Any] = [None] * 8
    starting = threading.Barrier(8)

    def run(number: int) -> None:
        starting.wait(30)
        answers[number] = far_store.write(lambda tx: tx.add_meta(f"m{number}", "x") and number)

    relay.lose = "answer"
    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True, *range(1, 8)] or answers == list(range(8))
    assert relay.lost == 1
