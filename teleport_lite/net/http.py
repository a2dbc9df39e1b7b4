"""One HTTP/1.1 connection to one of our servers, for callers that block: agents and tools.

http.client rather than an async library: it imports in a quarter of the time and a third of
the memory, and an agent speaks to auth twice a day.
"""

import http.client
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from teleport_lite.errors import Error, Unavailable
from teleport_lite.net.dial import TIMEOUT as TIMEOUT
from teleport_lite.net.dial import dial as dial
from teleport_lite.net.dial import split_address as split_address
from teleport_lite.net.problems import as_error
from teleport_lite.proto.codec import MAX_ADMIN, Message, read_any, write

if TYPE_CHECKING:  # it dials with what is here
    from teleport_lite.net.way import Way

MAX_ANSWER = 16 * MAX_ADMIN


class Connection:
    """Ask and get answers over one connection. A context manager; not for several threads."""

    def __init__(self, wire: socket.socket, name: str, *, timeout: float = TIMEOUT) -> None:
        self._name = name
        self._wire = wire
        self._http = http.client.HTTPConnection("auth", timeout=timeout)
        self._http.sock = wire
        # A server that ends the connection must not get us to dial port 80, in the clear.
        self._http.auto_open = False

    @classmethod
    def tls(cls, way: "Way", context: ssl.SSLContext, *, timeout: float = TIMEOUT) -> Self:
        """To auth. Raises as `Way.tls`."""
        return cls(way.tls(context, timeout=timeout), way.address, timeout=timeout)

    @classmethod
    def unix(cls, path: Path, *, timeout: float = TIMEOUT) -> Self:
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        wire.settimeout(timeout)
        try:
            wire.connect(str(path))
        except OSError as why:
            wire.close()
            raise Unavailable(f"{path}: {why.strerror or why}") from why
        return cls(wire, str(path))

    @property
    def peer_certificate(self) -> bytes:
        """DER of the server's certificate, whether or not the context checked it."""
        assert isinstance(self._wire, ssl.SSLSocket)
        return self._wire.getpeercert(binary_form=True) or b""

    def ask(self, path: str, message: Message | dict[str, Any] | None = None) -> Any:
        """The JSON answer. Raises what the server said, or Unavailable when it can not be had."""
        body = None if message is None else write(message)
        try:
            self._http.request(
                "GET" if body is None else "POST",
                path,
                body=body,
                headers={"Content-Type": "application/json"} if body is not None else {},
            )
            with self._http.getresponse() as answer:
                raw = answer.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as why:
            raise Unavailable(f"{self._name}: the connection broke ({_reason(why)})") from why
        return self._read(answer.status, raw)

    def _read(self, status: int, raw: bytes) -> Any:
        try:
            body = read_any(raw, limit=MAX_ANSWER)
        except Error:
            body = None
        if status == 200 and body is not None:
            return body
        if status == 200:
            raise Unavailable(f"{self._name} answered with something that is not JSON")
        raise as_error(status, body, self._name)

    def cut(self) -> None:
        """From another thread: whoever waits for an answer hears at once that there is none."""
        with suppress(OSError):
            # The plain one: that of TLS is not for a thread beside the one that reads.
            socket.socket.shutdown(self._wire, socket.SHUT_RDWR)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _reason(why: Exception) -> str:
    if isinstance(why, ssl.SSLError):
        return (why.reason or str(why)).lower().replace("_", " ")
    return str(why) or type(why).__name__
