"""One question, one answer: JSON over HTTP/1.1, on a unix socket or TLS.

`tctl` asks once and ends, so every question gets its own connection, and this module reads
the one form of answer our server gives. http.client would cost 20 ms of every command.
"""

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from teleport_lite import __version__
from teleport_lite.ambient import Clock, SystemClock
from teleport_lite.client.doors import SERVER_LOG, broken
from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.net.problems import as_error

# A listing of 100,000 nodes with a few labels each; anything beyond is not an answer.
MAX_ANSWER = 64 * 1024 * 1024
MAX_HEAD = 64 * 1024
# Signing and one fsync take milliseconds; a minute covers a huge listing on a slow line.
PATIENCE = 60.0
_CHUNK = 1 << 16


class Door(Protocol):
    """A way to the auth service."""

    @property
    def name(self) -> str:
        """The path or address, for messages."""

    def open(self) -> socket.socket:
        """A connected socket. Raises Unavailable, Denied or Unauthenticated."""


class Transport:
    def __init__(self, door: Door, *, clock: Clock | None = None, limit: int = MAX_ANSWER) -> None:
        self._door, self._clock, self._limit = door, clock or SystemClock(), limit

    @property
    def name(self) -> str:
        return self._door.name

    def ask(self, path: str, fields: Mapping[str, object]) -> dict[str, Any]:
        """The JSON object the server answers.

        Raises what the server refused with, Unavailable when it cannot be asked or does not
        answer in time, Malformed for an answer that is not ours.
        """
        wire = self._door.open()
        try:
            with wire:
                self._send(wire, path, json.dumps(fields).encode())
                status, body = self._receive(wire)
        except OSError as why:
            raise broken(self.name, why) from why
        return self._read(status, body)

    def _send(self, wire: socket.socket, path: str, body: bytes) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: auth\r\nUser-Agent: teleport-lite/{__version__}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        wire.settimeout(PATIENCE)
        # It may have refused early, or said in a TLS alert why it hangs up: its words, or the
        # lack of any, are told by the reading.
        with suppress(OSError):
            wire.sendall(head.encode() + body)

    def _receive(self, wire: socket.socket) -> tuple[int, bytes]:
        """Status and body. The deadline is for the whole answer: no trickling."""
        deadline = self._clock.monotonic() + PATIENCE
        raw = bytearray()
        wanted = -1  # length of head and body, once the head is there
        while wanted < 0 or len(raw) < wanted:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise TimeoutError
            wire.settimeout(left)
            piece = wire.recv(_CHUNK)
            if not piece:
                break
            raw += piece
            if wanted < 0:
                wanted = self._length(raw)
        if wanted < 0 or len(raw) != wanted:
            how = "in the middle of its answer" if raw else "without an answer"
            raise Unavailable(f"{self.name} hung up {how}", hint=SERVER_LOG)
        head, _, body = bytes(raw).partition(b"\r\n\r\n")
        return _status(head), body

    def _length(self, raw: bytearray) -> int:
        """How long head and body are together; -1 while the head is not complete."""
        end = raw.find(b"\r\n\r\n")
        if end < 0 and len(raw) <= MAX_HEAD:
            return -1
        size = _content_length(bytes(raw[: max(end, 0)]))
        if end < 0 or _status(bytes(raw[:end])) < 0 or size < 0:
            raise Malformed(
                f"{self.name} does not speak our protocol, is it another service",
                hint="teleport-lite doctor",
            )
        if size > self._limit:
            raise Malformed(
                f"{self.name} wants to answer with {size} bytes, the most we read is {self._limit}"
            )
        return end + 4 + size

    def _read(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if status != 200:
            raise as_error(status, answer, self.name)
        if not isinstance(answer, dict):
            raise Malformed(f"{self.name} did not answer with a JSON object")
        return answer


def _status(head: bytes) -> int:
    """Of `HTTP/1.1 200 OK`; -1 if it is something else."""
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if words[0] not in (b"HTTP/1.1", b"HTTP/1.0") or len(words) < 2:
        return -1
    return int(words[1]) if words[1].isdigit() and len(words[1]) == 3 else -1


def _content_length(head: bytes) -> int:
    """-1 if there is none, several, or it is no number. Chunked answers are not ours."""
    found = []
    for field in head.split(b"\r\n")[1:]:
        name, _, value = field.partition(b":")
        name = name.strip().lower()
        if name == b"transfer-encoding":
            return -1
        if name == b"content-length":
            found.append(value.strip())
    if len(found) != 1 or not found[0].isdigit() or len(found[0]) > 18:
        return -1
    return int(found[0])
