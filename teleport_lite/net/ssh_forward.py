"""A channel and a socket: bytes both ways, each end's window respected, half-ends kept apart."""

import select
import socket
from collections.abc import Callable, Iterator
from typing import Protocol

from teleport_lite.net.ssh_channel import Channel

_CHUNK = 64 * 1024
# How much of one socket is taken before the other channels, and the client, get their turn.
_BURST = 4


class Line(Protocol):
    """The connection that the channel is on, as far as its end goes."""

    active: bool

    def attach(self, channel: Channel, mover: "SocketPump") -> None: ...

    def over(self, channel: Channel) -> None: ...


class SocketPump:
    """Owns the socket. The channel is closed when both directions have ended. `over` is called
    once, when everything is."""

    def __init__(
        self,
        channel: Channel,
        sock: socket.socket,
        line: Line,
        over: Callable[[], None] | None = None,
    ) -> None:
        sock.setblocking(False)
        self._channel, self._sock, self._line, self._over = channel, sock, line, over
        self._heard_end = self._told_end = self._closed = False
        self._lingers = False

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]:
        """Move what the client has sent; then say what to wait for. A socket whose other end
        is gone is told to us whatever we wait for (poll(2), POLLHUP)."""
        self.push()
        if self._closed:
            return
        if self._channel.closed:
            if self._lingers:
                yield self._sock.fileno(), select.POLLOUT
            return
        room = may_send and self._channel.out_window > 0
        events = select.POLLIN if room and not self._heard_end else 0
        if self._channel.waiting:
            events |= select.POLLOUT
        if events or self._heard_end:
            yield self._sock.fileno(), events

    def ready(self, fd: int) -> None:  # noqa: ARG002  # there is only one
        if self._lingers:
            self.push()
            if not self._channel.waiting:
                self._line.over(self._channel)
            return
        if self._heard_end:
            # More than POLLOUT, which `_push` takes care of, can only be the end of both.
            if self._is_gone():
                self._channel.close()
        else:
            self._pull()
        self.push()

    def has(self, fd: int) -> bool:
        return not self._closed and fd == self._sock.fileno()

    def close(self) -> None:
        """The channel is gone. What came before its end is passed on to the last byte, however
        slowly the other end reads; but not longer than the connection lasts."""
        if self._closed:
            return
        self.push()
        if self._channel.waiting and self._line.active and not self._lingers:
            self._lingers = True
            self._line.attach(self._channel, self)
            return
        self._closed = True
        self._sock.close()
        if self._over is not None:
            self._over()

    # --- client to node

    def push(self) -> None:
        """As long as the socket takes it. The window opens only for what it has taken."""
        if self._closed:
            return
        try:
            if not self._told_end and not self._channel.write_to(self._sock.fileno()):
                return
        except OSError:
            self._told_end = True
        if self._told_end:
            self._channel.discard()  # nobody reads; but the client must not wait for room
        if self._channel.eof_received and not self._told_end:
            self._told_end = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._heard_end = True
        self._maybe_finish()

    # --- node to client

    def _pull(self) -> None:
        for _ in range(_BURST):
            if self._channel.out_window <= 0 or self._channel.closed:
                return
            try:
                count = self._channel.send_from(self._sock.fileno(), most=_CHUNK)
            except BlockingIOError:
                return
            except OSError:  # reset
                self._told_end = True
                count = 0
            if not count:
                self._heard_end = True
                self._channel.send_eof()
                return

    def _is_gone(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    def _maybe_finish(self) -> None:
        """EOF both ways, and nothing left to pass on: CLOSE (RFC 4254 §5.3)."""
        if self._heard_end and self._told_end and not self._channel.closed:
            self._channel.close()
