"""The lines of monitors to the daemon, and what visitors of a jump host wish for on them."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from teleport_lite.errors import Error, Malformed
from teleport_lite.net.ssh_line import (
    MAX_SAID,
    Found,
    FromMonitor,
    Hello,
    ToMonitor,
    Wanted,
    check_other_end,
    listen_for_monitors,
)
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.stream import LiveSession

# Seconds until we accept again when no descriptor was left.
PAUSE = 0.1


@dataclass(slots=True)
class Line:
    """One connection, as the daemon sees it."""

    source: str
    peer: tuple[str, int]
    sock: socket.socket
    waits_for_login: bool = True
    wishes: int = 0  # not answered yet
    sessions: dict[str, LiveSession] = field(default_factory=dict)  # by sid


class Wish:
    """What a visitor of a jump host wants. Answer it once, with `grant` or `refuse`."""

    def __init__(self, line: Line, wanted: Wanted) -> None:
        self._line = line
        self.wanted, self.client = wanted, line.peer
        line.wishes += 1

    def grant(self, sock: socket.socket) -> bool:
        """`sock` leads there; the caller keeps and closes its own copy. False: nobody is left."""
        return self._answer(Found(number=self.wanted.number, ok=True), sock.fileno())

    def refuse(self, reason: str) -> None:
        self._answer(Found(number=self.wanted.number, ok=False, reason=reason))

    def _answer(self, found: Found, *fds: int) -> bool:
        self._line.wishes -= 1
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        try:
            socket.send_fds(self._line.sock, [write(ToMonitor(found=found))], list(fds), flags)
        except OSError:
            return False  # it has ended, or has long stopped listening
        return True


class Returns:
    """Where monitors of an earlier daemon come back to, and say who they are."""

    def __init__(self, data_dir: Path, back: Callable[[socket.socket, Hello], None]) -> None:
        """`back` is given each line whose monitor has said hello. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._back = back
        self._listening = listen_for_monitors(data_dir)
        self._waiting: dict[int, socket.socket] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> list[bytes]:
        """What those have said who were not heard yet: to them it is as good as told. Whatever
        comes after it fails at their end, and they keep it for the next daemon."""
        while self._accept():
            pass
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        words = []
        for sock in self._waiting.values():
            self._loop.remove_reader(sock)
            words += last_words(sock)
        self._waiting.clear()
        return words

    def _accept(self) -> bool:
        """True if there may be more."""
        try:
            sock, _ = self._listening.accept()
        except BlockingIOError:
            return False  # it has given up meanwhile
        except OSError:  # no descriptor is left: asking again at once would only burn the processor
            self._loop.remove_reader(self._listening)
            self._pause = self._loop.call_later(PAUSE, self._listen)
            return False
        try:
            check_other_end(sock)
        except (Error, OSError):
            sock.close()
            return True
        sock.setblocking(False)
        self._waiting[sock.fileno()] = sock
        self._loop.add_reader(sock, self._hear, sock)
        return True

    def _hear(self, sock: socket.socket) -> None:
        hello = None
        try:
            hello = read(FromMonitor, sock.recv(MAX_SAID), limit=MAX_SAID).hello
        except BlockingIOError:
            return
        except (OSError, Malformed):
            pass
        self._loop.remove_reader(sock)
        del self._waiting[sock.fileno()]
        if hello is None:
            sock.close()
        else:
            self._back(sock, hello)


def last_words(sock: socket.socket) -> list[bytes]:
    """Close a line, and what had been said on it already: the rest fails at its other end, which
    keeps it for the next daemon."""
    found = []
    with suppress(OSError), sock:
        sock.shutdown(socket.SHUT_RD)
        while raw := sock.recv(MAX_SAID):
            found.append(raw)
    return found
