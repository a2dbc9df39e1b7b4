"""Little servers that say what a test tells them to, rightly or wrongly."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pytest

from teleport_lite.errors import Unavailable

Talk = Callable[[socket.socket], None]


class Little:
    """Serves each connection with `talk`, in a thread; errors of the other side are its own."""

    def __init__(self, talk: Talk, context: ssl.SSLContext | None = None) -> None:
        self._talk, self._context = talk, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self.heard = b""  # everything that any client said, as `hear` saw it
        self.met = 0  # connections
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, name="little", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def _accept(self) -> None:
        while True:
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            self.met += 1
            self._open.append(wire)
            thread = threading.Thread(target=self._serve, args=(wire,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, wire: socket.socket) -> None:
        wire.settimeout(60)
        with contextlib.suppress(OSError, ValueError):
            if self._context is not None:
                wire = self._context.wrap_socket(wire, server_side=True)
                self._open.append(wire)
            self._talk(wire)
        _hang_up(wire)
        wire.close()

    def hear(self, wire: socket.socket, until: bytes = b"\r\n\r\n") -> bytes:
        """What the client says, up to `until`."""
        said = b""
        while until not in said:
            part = wire.recv(65536)
            if not part:
                break
            said += part
            self.heard += part
        return said

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=60)
        for wire in self._open:
            # Closing is for the thread that serves it: OpenSSL knows the number of the
            # descriptor only, and would write into whatever gets that number next.
            _hang_up(wire)
        for thread in self._threads:
            thread.join(timeout=60)


def given_up(act: Callable[[float], object], match: str) -> None:
    """`act` is given so many seconds, which are not enough, and has to say so. The first that are
    enough to get as far as that count."""
    said = ""
    for seconds in (0.3, 3.0, 30.0):
        with pytest.raises(Unavailable) as why:
            act(seconds)
        said = str(why.value)
        if re.search(match, said):
            return
    raise AssertionError(said)


def _hang_up(wire: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(wire, socket.SHUT_RDWR)


def answering(answer: bytes) -> Talk:
    """Says `answer` to every request."""

    def talk(wire: socket.socket) -> None:
        while request(wire):
            wire.sendall(answer)

    return talk


def request(wire: socket.socket) -> bytes:
    """Head and body of one HTTP request; b"" at the end."""
    said = b""
    while b"\r\n\r\n" not in said:
        part = wire.recv(65536)
        if not part:
            return b""
        said += part
    head, _, body = said.partition(b"\r\n\r\n")
    size = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            size = int(line.partition(b":")[2])
    while len(body) < size:
        body += wire.recv(65536)
    return head + b"\r\n\r\n" + body


def reply(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def silence(wire: socket.socket) -> None:
    """Says nothing, until the other side goes."""
    while wire.recv(65536):
        pass
