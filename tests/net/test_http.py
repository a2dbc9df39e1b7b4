"""The client's side of one HTTP connection: every way it fails is told with its cause."""

import socket
import ssl
from pathlib import Path

import pytest

from teleport_lite.errors import Conflict, Denied, Error, Unavailable
from teleport_lite.net import http
from teleport_lite.net.http import Connection, dial, split_address
from teleport_lite.net.tls import stranger_context
from teleport_lite.net.way import Way
from teleport_lite.proto.admin import Named
from teleport_lite.testing.certs import PaperCluster
from tests.net.servers import Little, Talk, answering, given_up, reply, request, silence
from tests.net.serving import shown, trusting
from tests.support import free_port

CLUSTER = PaperCluster()
SHOWN = shown(CLUSTER)


def tls(talk: Talk) -> Little:
    return Little(talk, SHOWN.context)


def ask(server: Little, timeout: float = 60) -> object:
    with Connection.tls(Way(server.address), trusting(CLUSTER), timeout=timeout) as w:
        return w.ask("/x", {"a": 1})


# Reaching it


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("10.0.0.5:3025", ("10.0.0.5", 3025)),
        ("auth.example:1", ("auth.example", 1)),
        ("[::1]:3025", ("::1", 3025)),
    ],
)
def test_an_address_has_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


def test_a_name_that_does_not_resolve_is_named() -> None:
    with pytest.raises(
        Unavailable, match=r"host name no-such-host.invalid does not resolve"
    ) as why:
        dial("no-such-host.invalid:3025", timeout=5)
    assert why.value.hint == "getent hosts no-such-host.invalid"


def test_a_port_that_nobody_listens_on_is_named() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}: Connection refused") as why:
        dial(f"127.0.0.1:{port}")
    assert why.value.hint == f"nc -vz 127.0.0.1 {port}"


def test_a_host_that_drops_packets_is_told_from_one_that_refuses() -> None:
    """A listener whose queue is full answers no SYN: what a firewall does, on loopback."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = f"127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        with pytest.raises(Unavailable, match="no answer within 0 s, a firewall may drop it"):
            dial(address, timeout=0.3)
        for each in waiting:
            each.close()


@pytest.mark.parametrize("name", ["", "\x00", "a" * 300, "-", "a..b"])
def test_no_name_is_a_crash(name: str) -> None:
    with pytest.raises(Error):
        dial(f"{name}.invalid:1", timeout=1)


# TLS


def test_a_server_that_is_not_trusted_gets_no_request() -> None:
    with (
        Little(answering(reply(b"{}")), shown(PaperCluster()).context) as server,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ask(server)
    assert server.heard == b""


def test_a_server_of_ours_that_is_not_auth_gets_no_request() -> None:
    """A node has a certificate of the same CA, but not the name."""
    node = shown(CLUSTER, CLUSTER.host("web-1"))
    with (
        Little(answering(reply(b"{}")), node.context) as server,
        pytest.raises(ssl.SSLCertVerificationError, match=r"auth.teleport-lite.internal"),
    ):
        ask(server)


def test_what_does_not_speak_tls_is_an_ssl_error_for_the_caller_to_read() -> None:
    with Little(lambda wire: wire.sendall(b"SSH-2.0-x\r\n")) as server, pytest.raises(ssl.SSLError):
        ask(server)


def test_a_handshake_that_never_ends_is_given_up() -> None:
    with (
        Little(silence) as server,
        pytest.raises(Unavailable, match="the connection broke during the TLS handshake"),
    ):
        ask(server, timeout=0.3)


def test_a_connection_that_closes_at_once_is_told() -> None:
    with Little(lambda wire: None) as server, pytest.raises((Unavailable, ssl.SSLError)):
        ask(server)


def test_the_certificate_of_a_stranger_can_be_looked_at() -> None:
    with tls(silence) as server, Connection.tls(Way(server.address), stranger_context()) as wire:
        assert wire.peer_certificate == SHOWN.certificate


# Answers


def test_an_answer_is_its_json() -> None:
    with tls(answering(reply(b'{"a": [1]}'))) as server:
        assert ask(server) == {"a": [1]}


def test_a_question_is_posted_and_words_of_nobody_are_got() -> None:
    heard: list[bytes] = []

    def echo(wire: socket.socket) -> None:
        for _ in range(2):
            heard.append(request(wire))
            wire.sendall(reply(b'"%s"' % heard[-1].split()[0]))

    server = tls(echo)
    with server, Connection.tls(Way(server.address), trusting(CLUSTER)) as wire:
        assert wire.ask("/x") == "GET"
        assert wire.ask("/x", Named(name="alice")) == "POST"
    assert heard[1].endswith(b'\r\n\r\n{"name":"alice"}')


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (reply(b"<html>"), "answered with something that is not JSON"),
        (reply(b""), "answered with something that is not JSON"),
        (reply(b"{}", "204 No Content"), "answered 204 without saying why"),
        (reply(b"{}", "500 Oops"), "answered 500 without saying why"),
        (reply(b"nope", "404 Not Found"), "answered 404 without saying why"),
        (b"SSH-2.0-x\r\n\r\n", "the connection broke"),
        (b"HTTP/1.1 \xff\xff\r\n\r\n", "the connection broke"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", "the connection broke"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "the connection broke"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "the connection broke",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\nConnection: close\r\n\r\n{", "not JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\nConnection: close\r\n\r\n{", "not JSON"),
    ],
    ids=lambda each: ascii(each[:40]) if isinstance(each, bytes) else None,
)
def test_an_answer_that_is_none_is_told(answer: bytes, cause: str) -> None:
    def once(wire: socket.socket) -> None:
        server.hear(wire)
        wire.sendall(answer)

    server = tls(once)
    with server, pytest.raises(Unavailable, match=cause) as why:
        ask(server)
    assert why.value.message.startswith("127.0.0.1:")


def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 100_000)

    def endless(wire: socket.socket) -> None:
        server.hear(wire)
        wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            wire.sendall(b" " * 65536)

    server = tls(endless)
    with server, pytest.raises(Unavailable, match="not JSON"):
        ask(server)


def test_an_answer_that_never_comes_is_given_up() -> None:
    with tls(silence) as server:
        given_up(lambda seconds: ask(server, timeout=seconds), r"broke \(.*timed out")


def test_an_answer_that_breaks_off_is_told() -> None:
    def broken(wire: socket.socket) -> None:
        server.hear(wire)
        wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    server = tls(broken)
    with server, pytest.raises(Unavailable):
        ask(server)


def test_what_the_server_said_is_raised_as_it_meant_it() -> None:
    body = b'{"error": {"code": "conflict", "message": "taken", "hint": "another", "trace": "t"}}'
    with tls(answering(reply(body, "409 Conflict"))) as server, pytest.raises(Conflict) as why:
        ask(server)
    assert (why.value.message, why.value.hint) == ("taken", "another")


def test_a_server_that_ends_the_connection_is_not_dialled_again_in_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """http.client would connect to port 80 of a host called "auth", without TLS."""
    with tls(answering(reply(b"{}", "200 OK", "Connection: close"))) as server:
        wire = Connection.tls(Way(server.address), trusting(CLUSTER))
        assert wire.ask("/v1/join/start", {}) == {}

        def dialled(*words: object, **more: object) -> None:
            raise AssertionError(f"it dials {words}")

        monkeypatch.setattr(socket, "create_connection", dialled)
        with pytest.raises(Unavailable, match="the connection broke"):
            wire.ask("/v1/join/finish", {"secret": "words"})
        wire.close()


def test_several_questions_share_a_connection() -> None:
    with tls(answering(reply(b"{}"))) as server:
        with Connection.tls(Way(server.address), trusting(CLUSTER)) as wire:
            for _ in range(5):
                wire.ask("/x", {})
        assert server.met == 1


# The unix socket


@pytest.mark.parametrize("make", [False, True])
def test_a_socket_that_is_not_there_is_named(tmp_path: Path, make: bool) -> None:
    path = tmp_path / "auth.sock"
    if make:
        path.write_text("a file")
    with pytest.raises(Unavailable, match=f"{path}: "):
        Connection.unix(path)


def test_a_socket_that_may_not_be_opened_is_an_error_we_mean(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        Connection.unix(tmp_path / ("x" * 200))


def test_denied_is_denied() -> None:
    body = b'{"error": {"code": "denied", "message": "no"}}'
    with tls(answering(reply(body, "403 Forbidden"))) as server, pytest.raises(Denied, match="no"):
        ask(server)
