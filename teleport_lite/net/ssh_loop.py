"""The socket that paramiko reads: waiting for its next byte is where everything else happens.

Paramiko asks a socket-like object for bytes. Ours answers from a buffer, and when that is
empty it waits, once, for whatever comes next: bytes from the client, room to send, output of a
shell, news from the broker. So one thread serves a connection with all its channels, nothing
polls ten times a second, and nothing needs a lock.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

_CHUNK = 256 * 1024
# Shells are not read while this much waits to be sent ...
_ENOUGH = 1 << 20
# ... nor the client, who may be asking without ever reading the answers.
_TOO_MUCH = 2 << 20


class Attendant(Protocol):
    """What happens on the other descriptors of the connection."""

    def wants(self, *, may_send: bool) -> Iterable[tuple[int, int]]:
        """Before each wait: descriptors and poll events to wait for."""

    def ready(self, fd: int) -> None:
        """One of them is."""

    def patience(self) -> float | None:
        """Before each wait: for how many seconds; None is for ever."""


class Wire:
    """Looks like a socket to paramiko."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._in, self._at = b"", 0
        self._out: deque[memoryview] = deque()
        self._waiting = 0
        self._ended = self._closed = False
        self.attendant: Attendant | None = None
        self.in_a_hurry = True
        self.last_heard = time.monotonic()

    # --- what paramiko calls

    def recv(self, size: int) -> bytes:
        while self._at >= len(self._in):
            if self._ended or self._closed:
                return b""
            self._turn()
        taken = self._in[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def send(self, data: bytes) -> int:
        """Takes all of it; it goes out before the next wait."""
        if self._closed:
            raise OSError("connection is closed")
        self._out.append(memoryview(data))
        self._waiting += len(data)
        return len(data)

    def settimeout(self, _seconds: float | None) -> None:
        """Paramiko's way to look up now and then; here every reason to do so comes as an event."""

    def close(self) -> None:
        if self._closed:
            return
        self._flush()  # a last message tells the client why; what does not fit now is lost
        self._closed = True
        self._sock.close()

    def getpeername(self) -> object:
        return self._sock.getpeername()

    # --- the loop

    def _turn(self) -> None:
        poll = select.poll()
        patience = None
        if self.attendant is not None:
            patience = self.attendant.patience()
            for fd, events in self.attendant.wants(may_send=self._waiting < _ENOUGH):
                poll.register(fd, events)
        self._flush()
        events = (select.POLLIN if self._waiting < _TOO_MUCH else 0) | (
            select.POLLOUT if self._out else 0
        )
        ours = self._sock.fileno()
        poll.register(ours, events)
        for fd, found in poll.poll(None if patience is None else patience * 1000 + 1):
            if fd != ours:
                if self.attendant is not None:
                    self.attendant.ready(fd)
            elif found & ~select.POLLOUT:
                self._fill()

    def _fill(self) -> None:
        try:
            self._in, self._at = self._sock.recv(_CHUNK), 0
        except BlockingIOError:
            return
        except OSError:
            self._in, self._at = b"", 0
        self._ended = not self._in
        self.last_heard = time.monotonic()
        if self.in_a_hurry and not self._ended:
            # OpenSSH's client leaves Nagle on until its session starts: each small packet of
            # its login waits for our acknowledgement, which Linux puts off by 40 ms.
            with suppress(OSError):  # it has been reset meanwhile; reading will tell
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._sock.sendmsg(list(self._out)[:64], [], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._ended = True
                self._out.clear()
                self._waiting = 0
                return
            self._waiting -= sent
            while sent:
                first = self._out[0]
                if sent >= len(first):
                    self._out.popleft()
                    sent -= len(first)
                else:
                    self._out[0] = first[sent:]
                    sent = 0
