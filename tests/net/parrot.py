"""An application that answers with what it was asked, and clients that ask it."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.net.accept import Limits, Peer
from teleport_lite.net.http import Connection
from teleport_lite.net.way import Way
from teleport_lite.proto.codec import MAX_JOIN
from teleport_lite.proto.join import AUTH_SERVER_NAME
from teleport_lite.testing.certs import PaperCluster, Papers
from tests.net.serving import Serving, trusting

CLUSTER = PaperCluster()
NODE = CLUSTER.host("web-1")
# What clients of these tests do in time takes less, on a machine with more to do, too: who is to be
# slow with the handshake has HASTY.
QUICK = Limits(handshake=30.0, first_request=1.5, body=0.4, idle=0.5, linger=0.2)
HASTY = Limits(handshake=0.3)


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
            self.gate.wait(60)
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
        self.over, self.gate = threading.Event(), threading.Event()

    def frame(self, raw: bytes) -> None:
        self.heard.append(raw)
        if raw == b"bug":
            raise ZeroDivisionError
        if raw == b"wait":
            self.gate.wait(60)
        self.send(None if raw == b"bye" else b"you said " + raw)

    def closed(self) -> None:
        self.over.set()


def connect(serving: Serving, papers: Papers | None = None) -> Connection:
    return Connection.tls(Way(serving.address), trusting(CLUSTER, papers), timeout=60)


@contextlib.contextmanager
def raw(serving: Serving, papers: Papers | None = None) -> Iterator[ssl.SSLSocket]:
    """A TLS connection on which anything can be said."""
    host, _, port = serving.address.partition(":")
    context = trusting(CLUSTER, papers)
    with (
        socket.create_connection((host, int(port)), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=AUTH_SERVER_NAME) as wire,
    ):
        yield wire


def everything(wire: socket.socket) -> bytes:
    """Until the other side closes; it has a minute."""
    parts = []
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        while part := wire.recv(65536):
            parts.append(part)
    return b"".join(parts)


def closed_within(wire: socket.socket, seconds: float) -> bytes:
    wire.settimeout(seconds)
    return everything(wire)


def dialled(serving: Serving) -> socket.socket:
    """A TCP connection on which nothing is said."""
    return socket.create_connection(("127.0.0.1", int(serving.address[10:])), timeout=60)
