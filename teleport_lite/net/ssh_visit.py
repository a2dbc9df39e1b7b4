"""Somebody else's session on a channel: what it shows goes out, what a peer types goes in.

The other end of a party of `ssh_tap`, in the worker of whoever has joined.
"""

import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from teleport_lite.net.ssh_channel import Channel
from teleport_lite.net.ssh_pump import Exit
from teleport_lite.net.ssh_tap import INPUT, MAX_PACKET, MAX_WORD, OUTPUT, RESIZE, SIZE

SUBSYSTEM = "join@teleport-lite"
# What the client says in its environment: which session, and how.
SESSION_ENV, MODE_ENV = b"TELEPORT_SESSION", b"TELEPORT_JOIN_MODE"
# An observer's ^C and ^D mean nobody but themselves.
_LEAVE = frozenset(b"\x03\x04")


@dataclass(frozen=True, slots=True)
class Seat:
    """A way into a session; without `fd`, why there is none. `words` are for the client."""

    words: str
    fd: int | None = None
    types: bool = False


class Visit:
    """A mover (`ssh_entry.Mover`), with what the door asks of a pump."""

    def __init__(self, channel: Channel, seat: Seat) -> None:
        self._channel, self._types = channel, seat.types
        self._sock = None if seat.fd is None else socket.socket(fileno=seat.fd)
        self._pending = b""  # what the window has no room for
        self._input = b""
        self.closed = False
        channel.note(seat.words)
        if self._sock is not None:
            self._sock.setblocking(False)

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]:
        self.push()
        if self._sock is None:
            self._finish(1)
        if self._sock is None or self.closed or self._channel.closed:
            return
        if may_send:
            self._show()
        room = may_send and self._channel.out_window > 0 and not self._pending
        events = (select.POLLIN if room else 0) | (select.POLLOUT if self._input else 0)
        if events:
            yield self._sock.fileno(), events

    def ready(self, fd: int) -> None:
        if not self.has(fd) or self._sock is None:
            return
        self.push()
        try:
            packet = self._sock.recv(MAX_PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if packet[:1] == OUTPUT:
            self._pending += packet[1:]
            self._show()
        elif packet[:1] == RESIZE and len(packet) == 1 + SIZE.size:
            columns, rows = SIZE.unpack(packet[1:])
            self._channel.note(f"their screen has {columns} columns and {rows} rows")
        elif not packet:
            self._channel.note("the session is over for you")
            self._finish(0)

    def has(self, fd: int) -> bool:
        return self._sock is not None and fd == self._sock.fileno()

    def push(self) -> None:
        """What the client has typed."""
        if self._sock is None or self._channel.closed:
            return
        while self._input or self._take():
            try:
                self._sock.send(INPUT + self._input, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                pass  # its end will be read
            self._input = b""
        if self._channel.eof_received:
            self._finish(0)

    def _take(self) -> bool:
        typed = self._channel.take(MAX_WORD - 1)
        if self._types:
            self._input = typed
            return bool(typed)
        while typed and not _LEAVE.intersection(typed):
            typed = self._channel.take(MAX_WORD - 1)
        if typed:
            self._finish(0)
        return False

    def _show(self) -> None:
        now = self._pending[: self._channel.out_window]
        if now and not self._channel.closed:
            self._pending = self._pending[len(now) :]
            self._channel.send(now)

    def _finish(self, code: int) -> None:
        if not self._channel.closed:
            self._channel.send_exit_status(code)
            self._channel.close()

    def close(self) -> None:
        self.closed = True
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    # --- what only shells have

    def exited(self, how: Exit) -> None:
        """Nobody started one for it."""

    def resized(self, columns: int, rows: int) -> None:
        """The terminal has the size of whose session it is."""

    def unread(self) -> None:
        """It will hear soon enough."""
