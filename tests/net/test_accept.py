"""Letting connections in, on real sockets: TLS, limits, and the unix socket."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from teleport_lite.errors import Error, Unavailable
from teleport_lite.net.accept import Limits
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.net.way import Way
from teleport_lite.proto.join import AUTH_SERVER_NAME
from teleport_lite.testing.certs import PaperCluster, Papers
from tests.net.parrot import (
    CLUSTER,
    HASTY,
    NODE,
    QUICK,
    Parrot,
    closed_within,
    connect,
    dialled,
    raw,
)
from tests.net.serving import LOOPS, Serving, auth_papers, shown, trusting
from tests.support import eventually

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
    old = subprocess.run([*command, version], input=b"", capture_output=True, timeout=60)
    assert old.returncode != 0
    assert b"New, TLSv1.3" not in old.stdout
    new = subprocess.run([*command, "-tls1_3"], input=b"", capture_output=True, timeout=60)
    assert new.returncode == 0
    assert b"New, TLSv1.3" in new.stdout


def session_ticket(address: str, tmp_path: Path) -> bool:
    """Whether openssl was given one by the time it had an answer."""
    kept = tmp_path / "session"
    request = b"GET /x HTTP/1.1\r\nHost: auth\r\nConnection: close\r\n\r\n"
    command = ["openssl", "s_client", "-connect", address, "-ign_eof", "-sess_out", str(kept)]
    subprocess.run(command, input=request, capture_output=True, timeout=60)
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
            wire = Connection.tls(Way(serving.address), context, timeout=60)
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
            Connection.tls(Way(serving.address), context, timeout=60) as wire,
        ):
            wire.ask("/x", {})
        both = shown(CLUSTER)
        both.context.load_verify_locations(cadata=other.host_cas[0])
        serving.call(lambda: setattr(serving.server, "show", both))
        with Connection.tls(Way(serving.address), context, timeout=60) as wire:
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


def test_before_there_is_a_certificate_nobody_is_served(serving: Serving) -> None:
    before = serving.server.show
    serving.call(lambda: setattr(serving.server, "show", None))
    with pytest.raises((Unavailable, ssl.SSLError)):
        connect(serving)
    serving.call(lambda: setattr(serving.server, "show", before))
    with connect(serving) as wire:
        assert wire.ask("/x", {})


def test_a_handshake_in_single_bytes_is_one_handshake(serving: Serving) -> None:
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(CLUSTER).wrap_bio(received, sent, server_hostname=AUTH_SERVER_NAME)
    with dialled(serving) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in sent.read():
                    wire.sendall(bytes([byte]))
                received.write(wire.recv(65536))
        tls.write(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for byte in sent.read():
            wire.sendall(bytes([byte]))
        assert wire.recv(65536)


# Being slow


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_handshake_that_does_not_come_is_not_waited_for(
    parrot: Parrot, loop: str, first: bytes
) -> None:
    with (
        Serving(parrot, shown(CLUSTER), limits=HASTY, loop=loop) as serving,
        dialled(serving) as wire,
    ):
        wire.sendall(first)
        closed_within(wire, 60)
        eventually(lambda: serving.call(serving.server.connections) == 0)


@pytest.mark.parametrize("first", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_headers_that_do_not_come_are_not_waited_for(parrot: Parrot, first: bytes) -> None:
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, raw(serving) as wire:
        wire.sendall(first)
        assert b"200" not in closed_within(wire, 60)
    assert parrot.asked == []


# Being many


def test_who_only_holds_the_door_makes_way(parrot: Parrot) -> None:
    limits = Limits(connections=3)
    with Serving(parrot, shown(CLUSTER), limits=limits) as serving, connect(serving) as used:
        used.ask("/x", {})
        idle = [dialled(serving) for _ in range(2)]
        with connect(serving) as wire:
            assert wire.ask("/x", {})
        assert closed_within(idle[0], 60) == b""
        assert used.ask("/x", {})
        for each in idle:
            each.close()


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

        eventually(welcome)


def test_connections_that_are_over_are_forgotten(serving: Serving) -> None:
    for _ in range(200):
        with connect(serving) as wire:
            wire.ask("/x", {})
    assert serving.call(serving.server.connections) < 100


HUNGRY = """
import asyncio, logging, os, resource, socket, sys, time
from tests.net.serving import Serving, shown
from tests.net.parrot import CLUSTER, Parrot
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
            began = time.monotonic()
            for _ in range(60):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
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
            assert len(lines) <= time.monotonic() - began + 1, "it floods the log"
        context = client_context(None, None, [ca.strip().replace("|", "\n")])

        def answers() -> bool:
            try:
                with Connection.tls(Way(address), context, timeout=60) as wire:
                    return bool(wire.ask("/x", {}))
            except (Error, ssl.SSLError):
                return False

        eventually(answers)
        child.stdin.write("\n")
        assert "done" in child.stdout.read()
        assert child.wait(timeout=60) == 0


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
    kept_out = subprocess.run(command, user=65534, capture_output=True, timeout=60)
    assert kept_out.returncode != 0
    assert parrot.asked == []
    door.chmod(0o666)
    let_in = subprocess.run(command, user=65534, capture_output=True, timeout=60)
    assert let_in.returncode == 0
    [(_, peer, _)] = parrot.asked
    assert peer.uid == 65534  # and the doorman says no (tests/auth/test_api.py)
