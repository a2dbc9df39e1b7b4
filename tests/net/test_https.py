"""The API server on real sockets."""

import contextlib
import gzip
import logging
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.errors import Denied, Error, Unavailable
from teleport_lite.net.accept import Limits, Peer
from teleport_lite.net.http import Connection
from teleport_lite.net.stream import StreamClient
from teleport_lite.net.tls import client_context, stranger_context
from teleport_lite.proto.codec import MAX_JOIN
from teleport_lite.proto.join import AUTH_SERVER_NAME
from teleport_lite.testing.certs import PaperCluster, Papers
from tests.net.serving import LOOPS, STREAM, Serving, auth_papers, shown, trusting
from tests.support import eventually

CLUSTER = PaperCluster()
NODE = CLUSTER.host("web-1")
QUICK = Limits(handshake=0.3, first_request=0.4, body=0.4, idle=0.5, linger=0.2)


class Parrot:
    """Answers with what it was asked; some paths misbehave."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Peer, bytes]] = []
        self.streams: list[Chatter] = []
        self.gate = threading.Event()

    def limit(self, path: str, peer: Peer) -> int:
        return 100 if path == "/small" else MAX_JOIN

    def answer(self, path: str, peer: Peer, raw: bytes) -> dict[str, Any]:
        self.asked.append((path, peer, raw))
        if path == "/bug":
            raise ZeroDivisionError("the secret inside")
        if path == "/denied":
            raise Denied("no", hint="ask somebody", log="the reason for us")
        if path == "/unavailable":
            raise Unavailable("not now")
        if path == "/wait":
            self.gate.wait(10)
        if path == "/unwritable":
            return {"a": object()}
        return {"path": path, "certificate": peer.certificate is not None, "bytes": len(raw)}

    def open_stream(self, peer: Peer, send: Callable[[bytes | None], None]) -> "Chatter":
        if peer.certificate is None:
            raise Denied("streams are for hosts")
        self.streams.append(Chatter(send))
        return self.streams[-1]


class Chatter:
    def __init__(self, send: Callable[[bytes | None], None]) -> None:
        self.send, self.heard = send, []  # type: ignore[var-annotated]
        self.over = threading.Event()

    def frame(self, raw: bytes) -> None:
        self.heard.append(raw)
        if raw == b"bug":
            raise ZeroDivisionError
        self.send(None if raw == b"bye" else b"you said " + raw)

    def closed(self) -> None:
        self.over.set()


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def serving(parrot: Parrot) -> Iterator[Serving]:
    with Serving(parrot, shown(CLUSTER)) as running:
        yield running


def connect(serving: Serving, papers: Papers | None = None) -> Connection:
    return Connection.tls(serving.address, trusting(CLUSTER, papers), AUTH_SERVER_NAME, timeout=5)


@contextlib.contextmanager
def raw(serving: Serving, papers: Papers | None = None) -> Iterator[ssl.SSLSocket]:
    """A TLS connection on which anything can be said."""
    host, _, port = serving.address.partition(":")
    context = trusting(CLUSTER, papers)
    with (
        socket.create_connection((host, int(port)), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=AUTH_SERVER_NAME) as wire,
    ):
        yield wire


def everything(wire: socket.socket) -> bytes:
    """Until the other side closes; it has five seconds."""
    parts = []
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        while part := wire.recv(65536):
            parts.append(part)
    return b"".join(parts)


# TLS


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_certificate_is_shown_if_there_is_one(loop: str, parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), loop=loop) as serving:
        for papers in (None, NODE, CLUSTER.user()):
            with connect(serving, papers) as wire:
                assert wire.ask("/x", {})["certificate"] is (papers is not None)
                assert wire.ask("/x", {})["certificate"] is (papers is not None)
    peers = [peer for _, peer, _ in parrot.asked]
    assert peers[0].address == "127.0.0.1"
    assert peers[0].uid is None
    assert peers[2].certificate == NODE.tls_der


def test_the_binding_is_the_certificate_that_was_shown(serving: Serving, parrot: Parrot) -> None:
    with connect(serving) as wire:
        wire.ask("/x", {})
        assert parrot.asked[0][1].our_certificate == wire.peer_certificate


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_1"])
def test_nothing_below_tls_1_3_is_spoken(serving: Serving, version: str) -> None:
    command = ["openssl", "s_client", "-connect", serving.address, "-cipher", "ALL:@SECLEVEL=0"]
    old = subprocess.run([*command, version], input=b"", capture_output=True, timeout=20)
    assert old.returncode != 0
    assert b"New, TLSv1.3" not in old.stdout
    new = subprocess.run([*command, "-tls1_3"], input=b"", capture_output=True, timeout=20)
    assert new.returncode == 0
    assert b"New, TLSv1.3" in new.stdout


def session_ticket(address: str, tmp_path: Path) -> bool:
    """Whether openssl was given one by the time it had an answer."""
    kept = tmp_path / "session"
    request = b"GET /x HTTP/1.1\r\nHost: auth\r\nConnection: close\r\n\r\n"
    command = ["openssl", "s_client", "-connect", address, "-ign_eof", "-sess_out", str(kept)]
    subprocess.run(command, input=request, capture_output=True, timeout=20)
    return kept.exists() and kept.stat().st_size > 0


@pytest.mark.parametrize("loop", LOOPS)
def test_no_session_ticket_is_given_out(loop: str, parrot: Parrot, tmp_path: Path) -> None:
    with Serving(parrot, shown(CLUSTER), loop=loop) as serving:
        assert not session_ticket(serving.address, tmp_path)
        serving.server.show.context.num_tickets = 2  # type: ignore[union-attr]
        assert session_ticket(serving.address, tmp_path), "then this test proves nothing"


STRANGERS: dict[str, Callable[[], Papers]] = {
    "of another cluster": lambda: PaperCluster("other.example").host(),
    "of another CA with the same name": lambda: PaperCluster().host(),
    "that has expired": lambda: PaperCluster(now=datetime.now(UTC) - timedelta(days=30)).host(
        life=timedelta(days=1)
    ),
}


@pytest.mark.parametrize("which", STRANGERS)
def test_a_certificate_we_do_not_trust_ends_the_connection(
    serving: Serving, parrot: Parrot, which: str
) -> None:
    with (
        pytest.raises(Unavailable, match="connection broke"),
        connect(serving, STRANGERS[which]()) as wire,
    ):
        wire.ask("/x", {})
    assert parrot.asked == []


def test_a_certificate_that_has_expired_is_not_let_in(parrot: Parrot) -> None:
    old = PaperCluster(now=datetime.now(UTC) - timedelta(days=2))
    expired, fresh = old.host(life=timedelta(days=1)), old.host(life=timedelta(days=4))
    with Serving(parrot, shown(old, auth_papers(old))) as serving:
        for papers, welcome in (expired, False), (fresh, True):
            context = client_context(papers.tls_cert, papers.tls_private, old.host_cas)
            wire = Connection.tls(serving.address, context, AUTH_SERVER_NAME, timeout=5)
            with wire, contextlib.nullcontext() if welcome else pytest.raises(Unavailable):
                wire.ask("/x", {})
    assert len(parrot.asked) == 1


def test_a_renewed_certificate_is_shown_to_the_next_and_the_open_ones_go_on(
    serving: Serving,
) -> None:
    renewed = auth_papers(CLUSTER)
    with connect(serving) as before:
        old = before.peer_certificate
        serving.call(lambda: setattr(serving.server, "show", shown(CLUSTER, renewed)))
        with connect(serving) as after:
            assert after.peer_certificate == renewed.tls_der != old
            assert after.ask("/x", {})
        assert before.ask("/x", {})


def test_a_ca_that_is_trusted_anew_lets_the_next_ones_in(parrot: Parrot) -> None:
    other = PaperCluster()
    with Serving(parrot, shown(CLUSTER)) as serving:
        node = other.host()
        context = client_context(node.tls_cert, node.tls_private, CLUSTER.host_cas)
        with (
            pytest.raises(Unavailable),
            Connection.tls(serving.address, context, AUTH_SERVER_NAME, timeout=5) as wire,
        ):
            wire.ask("/x", {})
        both = shown(CLUSTER)
        both.context.load_verify_locations(cadata=other.host_cas[0])
        serving.call(lambda: setattr(serving.server, "show", both))
        with Connection.tls(serving.address, context, AUTH_SERVER_NAME, timeout=5) as wire:
            assert wire.ask("/x", {})["certificate"] is True


def test_connections_of_some_can_be_cut(serving: Serving) -> None:
    with connect(serving, NODE) as host, connect(serving) as anyone:
        host.ask("/x", {})
        anyone.ask("/x", {})
        cut = serving.call(
            lambda: serving.server.drop_connections(lambda peer: peer.certificate is not None)
        )
        assert cut == 1
        with pytest.raises(Unavailable):
            host.ask("/x", {})
        assert anyone.ask("/x", {})


# Requests


def test_bodies_and_paths_arrive_as_they_are(serving: Serving, parrot: Parrot) -> None:
    with connect(serving) as wire:
        wire.ask("/v1/a%20b/..?x=1", {"a": "\u00fc"})
    [(path, _, body)] = parrot.asked
    assert path.startswith("/v1/")
    assert body == '{"a":"\u00fc"}'.encode()


def test_errors_keep_their_words_and_lose_our_log(serving: Serving) -> None:
    with connect(serving) as wire, pytest.raises(Denied) as why:
        wire.ask("/denied", {})
    assert (why.value.message, why.value.hint) == ("no", "ask somebody")
    with raw(serving) as wire:
        wire.sendall(b"POST /denied HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = everything(wire)
    assert said.startswith(b"HTTP/1.1 403")
    assert b"the reason for us" not in said


def test_not_now_says_when_to_come_back(serving: Serving) -> None:
    with raw(serving) as wire:
        wire.sendall(b"POST /unavailable HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = everything(wire)
    assert said.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 10" in said


@pytest.mark.parametrize("path", ["/bug", "/unwritable"])
def test_a_bug_is_an_internal_error_with_a_trace_and_no_detail(
    serving: Serving, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with raw(serving) as wire:
        wire.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        said = everything(wire)
    assert said.startswith(b"HTTP/1.1 500")
    assert b'"message": "internal error"' in said
    assert b"trace-1" in said
    for secret in (b"secret", b"Zero", b"Traceback", b"object", b"aiohttp", b"Python"):
        assert secret not in said
    [record] = [each for each in caplog.records if each.name == "teleport_lite.api"]
    assert "trace-1" in record.getMessage()
    assert record.exc_info is not None


def test_which_library_answers_is_not_told(serving: Serving) -> None:
    with raw(serving) as wire:
        wire.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = everything(wire)
    assert b"Server: teleport-lite\r\n" in said
    assert b"aiohttp" not in said


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    ],
    ids=lambda raw: ascii(raw[:30]),
)
def test_garbage_is_refused_and_the_server_goes_on(
    serving: Serving, parrot: Parrot, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with raw(serving) as wire:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            wire.sendall(garbage)
            wire.settimeout(1)
        with contextlib.suppress(TimeoutError):
            said = everything(wire)
            assert not said.startswith(b"HTTP/1.1 200")
            assert b"Traceback" not in said
    with connect(serving) as wire:
        assert wire.ask("/after", {})
    assert [path for path, _, _ in parrot.asked] == ["/after"]
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


# Bodies


@pytest.mark.parametrize("size", [101, 10**9])
def test_a_body_that_says_it_is_too_large_is_not_read(serving: Serving, size: int) -> None:
    with raw(serving) as wire:
        wire.sendall(f"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        said = wire.recv(65536)
    assert said.startswith(b"HTTP/1.1 400")
    assert b"the most we read here is 100 bytes" in said


def test_a_body_that_grows_too_large_is_left_where_it_is(parrot: Parrot) -> None:
    sent = 0
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, raw(serving) as wire:
        wire.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            for _ in range(16_384):  # a gigabyte
                wire.sendall(part)
                sent += len(part)
    assert sent < 1 << 30
    assert parrot.asked == []


def test_a_body_at_the_limit_is_read(serving: Serving) -> None:
    with raw(serving) as wire:
        wire.sendall(b"POST /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n")
        wire.sendall(b"Content-Length: 100\r\n\r\n" + b"x" * 100)
        assert b'"bytes":100' in everything(wire)


def test_a_compressed_body_is_not_unpacked(serving: Serving, parrot: Parrot) -> None:
    bomb = gzip.compress(b"x" * 10_000_000)
    assert len(bomb) < MAX_JOIN
    with raw(serving) as wire:
        head = f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {len(bomb)}\r\n".encode()
        wire.sendall(head + b"Connection: close\r\nContent-Encoding: gzip\r\n\r\n" + bomb)
        everything(wire)
    [(_, _, body)] = parrot.asked
    assert body == bomb


# Being slow


def closed_within(wire: socket.socket, seconds: float) -> bytes:
    wire.settimeout(seconds)
    return everything(wire)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_handshake_that_does_not_come_is_not_waited_for(
    parrot: Parrot, loop: str, first: bytes
) -> None:
    with (
        Serving(parrot, shown(CLUSTER), limits=QUICK, loop=loop) as serving,
        dialled(serving) as wire,
    ):
        wire.sendall(first)
        closed_within(wire, 4)
        assert serving.call(serving.server.connections) == 0


@pytest.mark.parametrize("first", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_headers_that_do_not_come_are_not_waited_for(parrot: Parrot, first: bytes) -> None:
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, raw(serving) as wire:
        wire.sendall(first)
        assert b"200" not in closed_within(wire, 4)
    assert parrot.asked == []


def test_a_body_that_does_not_come_is_not_waited_for(parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, raw(serving) as wire:
        wire.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
        said = closed_within(wire, 4)
    assert said.startswith(b"HTTP/1.1 400")
    assert b"did not arrive in time" in said
    assert parrot.asked == []


def test_a_second_request_that_does_not_come_is_not_waited_for(parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, raw(serving) as wire:
        wire.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /x HT")
        said = closed_within(wire, 4)
    assert said.count(b"200 OK") == 1


def test_an_answer_may_take_longer_than_a_question(parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, connect(serving) as wire:
        threading.Timer(0.8, parrot.gate.set).start()
        assert wire.ask("/wait", {})["path"] == "/wait"


def test_a_slow_one_does_not_hold_up_the_others(serving: Serving, parrot: Parrot) -> None:
    with raw(serving) as slow, raw(serving) as waiting:
        slow.sendall(b"GET / HT")
        waiting.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: parrot.asked)
        with connect(serving) as wire:
            assert wire.ask("/x", {})
        parrot.gate.set()


# Being many


def test_who_only_holds_the_door_makes_way(parrot: Parrot) -> None:
    limits = Limits(connections=3)
    with Serving(parrot, shown(CLUSTER), limits=limits) as serving, connect(serving) as used:
        used.ask("/x", {})
        idle = [dialled(serving) for _ in range(2)]
        with connect(serving) as wire:
            assert wire.ask("/x", {})
        assert closed_within(idle[0], 4) == b""
        assert used.ask("/x", {})
        for each in idle:
            each.close()


def dialled(serving: Serving) -> socket.socket:
    """A TCP connection on which nothing is said."""
    return socket.create_connection(("127.0.0.1", int(serving.address[10:])), timeout=5)


def test_more_than_may_be_are_turned_away_and_let_in_again_later(parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), limits=Limits(connections=3)) as serving:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(connect(serving)).ask("/x", {})
            with pytest.raises((Error, ssl.SSLError)), connect(serving) as wire:
                wire.ask("/x", {})

        def welcome() -> bool:
            try:
                with connect(serving) as wire:
                    return bool(wire.ask("/x", {}))
            except (Error, ssl.SSLError):
                return False

        eventually(welcome, seconds=5)


def test_connections_that_are_over_are_forgotten(serving: Serving) -> None:
    for _ in range(200):
        with connect(serving) as wire:
            wire.ask("/x", {})
    assert serving.call(serving.server.connections) < 100


HUNGRY = """
import asyncio, logging, os, resource, socket, sys, time
from tests.net.serving import Serving, shown
from tests.net.test_https import CLUSTER, Parrot
logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
with Serving(Parrot(), shown(CLUSTER)) as serving:
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, used + 20))
    print("ready", serving.address, CLUSTER.host_cas[0].replace("\\n", "|"), flush=True)
    sys.stdin.readline()
    print("cpu", time.process_time(), flush=True)
    sys.stdin.readline()
    print("cpu", time.process_time(), flush=True)
    sys.stdin.readline()
print("done", flush=True)
"""


def test_out_of_descriptors_it_pauses_and_comes_back() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HUNGRY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        _, address, ca = child.stdout.readline().split(maxsplit=2)
        host, _, port = address.partition(":")
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
            eventually(lambda: "can not accept" in child.stdout.readline())
            child.stdin.write("\n")
            lines = []
            while not (line := child.stdout.readline()).startswith("cpu"):
                lines.append(line)
            before = float(line.split()[1])
            threading.Event().wait(1.2)
            child.stdin.write("\n")
            while not (line := child.stdout.readline()).startswith("cpu"):
                lines.append(line)
            assert float(line.split()[1]) - before < 0.4, "it spins"
            assert len(lines) <= 3, "it floods the log"
        context = client_context(None, None, [ca.strip().replace("|", "\n")])

        def answers() -> bool:
            try:
                with Connection.tls(address, context, AUTH_SERVER_NAME, timeout=5) as wire:
                    return bool(wire.ask("/x", {}))
            except (Error, ssl.SSLError):
                return False

        eventually(answers)
        child.stdin.write("\n")
        assert "done" in child.stdout.read()
        assert child.wait(timeout=10) == 0


# The unix socket


@pytest.fixture
def door(serving: Serving) -> Iterator[Path]:
    """In a directory that others may enter, so that the socket itself has to refuse them."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        path = Path(parent) / "auth.sock"
        serving.call(lambda: serving.server.listen_unix(path))
        yield path


def test_the_socket_knows_who_connects(door: Path, parrot: Parrot) -> None:
    with Connection.unix(door) as wire:
        assert wire.ask("/x", {})
    [(_, peer, _)] = parrot.asked
    assert (peer.uid, peer.address, peer.certificate) == (os.geteuid(), "local", None)


def test_the_socket_is_for_its_owner(door: Path) -> None:
    assert door.stat().st_mode & 0o777 == 0o600


def test_a_socket_of_the_last_time_is_replaced(serving: Serving, door: Path) -> None:
    serving.call(lambda: serving.server.listen_unix(door))
    with Connection.unix(door) as wire:
        assert wire.ask("/x", {})


def test_a_path_that_is_too_long_says_so(serving: Serving, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"auth\.sock") as why:
        serving.call(lambda: serving.server.listen_unix(tmp_path / ("x" * 120) / "auth.sock"))
    assert "use a shorter data_dir" in why.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_kept_out_twice(door: Path, parrot: Parrot) -> None:
    command = ["curl", "-s", "-S", "--unix-socket", str(door), "http://auth/x"]
    kept_out = subprocess.run(command, user=65534, capture_output=True, timeout=20)
    assert kept_out.returncode != 0
    assert parrot.asked == []
    door.chmod(0o666)
    let_in = subprocess.run(command, user=65534, capture_output=True, timeout=20)
    assert let_in.returncode == 0
    [(_, peer, _)] = parrot.asked
    assert peer.uid == 65534  # and the doorman says no (tests/auth/test_api.py)


# Streams


def stream(serving: Serving, papers: Papers | None = NODE) -> StreamClient:
    return StreamClient(
        serving.address, trusting(CLUSTER, papers), AUTH_SERVER_NAME, STREAM, timeout=5
    )


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stream_carries_frames_both_ways_and_ends(loop: str, parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), loop=loop) as serving:
        with contextlib.closing(stream(serving)) as client:
            client.send(b"one")
            client.send(b"two")
            assert eventually(lambda: client.receive(1)) == b"you said one"
            assert eventually(lambda: client.receive(1)) == b"you said two"
            client.send(b"bye")
            with pytest.raises(Unavailable, match="closed"):
                eventually(lambda: client.receive(1))
        assert parrot.streams[0].over.wait(5)


def test_a_stream_that_is_refused_tells_why(serving: Serving, parrot: Parrot) -> None:
    with pytest.raises(Denied, match="streams are for hosts"):
        stream(serving, None)
    assert parrot.streams == []


def test_a_stream_needs_a_websocket(serving: Serving, parrot: Parrot) -> None:
    with connect(serving, NODE) as wire, pytest.raises(Error, match="takes a WebSocket"):
        wire.ask(STREAM)
    assert parrot.streams == []


def test_a_client_that_vanishes_ends_its_stream(serving: Serving, parrot: Parrot) -> None:
    client = stream(serving)
    eventually(lambda: parrot.streams)
    client.close()
    assert parrot.streams[0].over.wait(5)


def test_a_stream_goes_on_past_the_time_for_a_first_request(parrot: Parrot) -> None:
    with (
        Serving(parrot, shown(CLUSTER), limits=QUICK) as serving,
        contextlib.closing(stream(serving)) as client,
    ):
        assert client.receive(1.0) is None
        client.send(b"one")
        assert eventually(lambda: client.receive(1)) == b"you said one"


def test_a_frame_that_is_too_large_ends_the_stream(serving: Serving, parrot: Parrot) -> None:
    with contextlib.closing(stream(serving)) as client:
        client.send(b"x" * (1024 * 1024 + 1))
        with pytest.raises((Unavailable, ssl.SSLError)):
            eventually(lambda: client.receive(1))
        assert parrot.streams[0].over.wait(5)
        assert parrot.streams[0].heard == []


def test_a_stream_that_does_not_read_is_cut(parrot: Parrot) -> None:
    limits = Limits(queue=4)
    with (
        Serving(parrot, shown(CLUSTER), limits=limits) as serving,
        contextlib.closing(stream(serving)),
    ):
        chatter = eventually(lambda: parrot.streams)[0]

        def flooded() -> bool:
            for _ in range(8):
                chatter.send(b"x" * 1_000_000)
            return chatter.over.is_set()

        eventually(flooded)


def test_a_bug_in_a_stream_ends_that_stream_alone(serving: Serving, parrot: Parrot) -> None:
    with contextlib.closing(stream(serving)) as client, contextlib.closing(stream(serving)) as ok:
        client.send(b"bug")
        with pytest.raises((Unavailable, ssl.SSLError)):
            eventually(lambda: client.receive(1))
        ok.send(b"one")
        assert eventually(lambda: ok.receive(1)) == b"you said one"


def test_closing_the_server_ends_streams_and_connections(parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER)) as serving:
        client = stream(serving)
        wire = connect(serving)
        wire.ask("/x", {})
    with pytest.raises(Unavailable):
        eventually(lambda: client.receive(1))
    with pytest.raises(Unavailable):
        wire.ask("/x", {})
    client.close()
    wire.close()
    assert parrot.streams[0].over.is_set()
    with pytest.raises(Unavailable):
        Connection.tls(serving.address, stranger_context(), "x", timeout=1)


def test_before_there_is_a_certificate_nobody_is_served(serving: Serving) -> None:
    before = serving.server.show
    serving.call(lambda: setattr(serving.server, "show", None))
    with pytest.raises((Unavailable, ssl.SSLError)):
        connect(serving)
    serving.call(lambda: setattr(serving.server, "show", before))
    with connect(serving) as wire:
        assert wire.ask("/x", {})
