"""One channel (RFC 4254 §5): its windows, and what has been said on it. No threads, no locks.

What the client sends waits here until a mover takes it; only then does the window open again,
so a client can not make us keep more than a window. What goes out is cut into packets here,
never more than the client's window: that is for the mover to look at first.
"""

import os
from collections import deque
from itertools import islice
from struct import Struct
from typing import Protocol

from teleport_lite.errors import Malformed
from teleport_lite.net.ssh_policy import DATA, WINDOW, WINDOW_SLACK
from teleport_lite.pki.wire import text

# RFC 4254 §9.
MSG_WINDOW_ADJUST, MSG_DATA, MSG_EXTENDED_DATA, MSG_EOF, MSG_CLOSE, MSG_REQUEST = range(93, 99)
# RFC 4254 §5.2: the only kind of extended data there is.
STDERR = 1

_NUMBER, _HEAD, _EXTENDED_HEAD = Struct(">BI"), Struct(">BII"), Struct(">BIII")
# os.writev takes up to 1024 pieces (IOV_MAX).
_PIECES = 64
_MOST_NOTES = 64 * 1024
# Smaller pieces are put together: a client that sends single bytes must not make a million.
_CRUMB = 4096
_MOST_WINDOW = (1 << 32) - 1


class Line(Protocol):
    """What a channel is on."""

    def send(self, payload: bytes) -> None: ...

    def over(self, channel: "Channel") -> None:
        """Told once, when nothing more can be sent on it."""

    def pump(self, channel: "Channel", fd: int, most: int) -> int:
        """As `Channel.send_from`, for data."""


class Channel:
    """`number` is ours, `remote` the client's. `closed` once either side has said CLOSE.

    `waiting` is how many bytes of the client's nobody has taken yet. `heard` and `said` count
    the data both ways, for those who watch for idleness or keep accounts.
    """

    def __init__(self, number: int, kind: str, line: Line, window: int = WINDOW) -> None:
        self.number, self.kind, self._line = number, kind, line
        self.remote = self.out_window = self.largest = 0
        self.in_window = window
        # Each adjustment is a packet; a window is large enough to wait for an eighth of it.
        self._worth_telling = window // 8
        self.waiting = self.heard = self.said = 0
        self.eof_received = self.eof_sent = self.close_received = self.close_sent = False
        # The client knows OpenSSH's extensions of this protocol.
        self.openssh = False
        self._inbox: deque[bytes | memoryview] = deque()
        # How many pieces at the end of it are views of the wire's buffer.
        self._views = 0
        self._eaten = 0
        self._notes = b""

    @property
    def closed(self) -> bool:
        return self.close_sent or self.close_received

    # --- to the client

    def send(self, data: bytes) -> None:
        """Data, at most `out_window` bytes. After EOF or CLOSE it is dropped."""
        for part in self._parts(data):
            self._line.send(self.packet(part))

    def packet(self, data: bytes) -> bytes:
        """A message with that data; `send` counts it too."""
        return _HEAD.pack(MSG_DATA, self.remote, len(data)) + data

    def send_stderr(self, data: bytes) -> None:
        """As `send`, for the client's standard error."""
        for part in self._parts(data):
            head = _EXTENDED_HEAD.pack(MSG_EXTENDED_DATA, self.remote, STDERR, len(part))
            self._line.send(head + part)

    def send_from(self, fd: int, *, most: int, stderr: bool = False) -> int:
        """Read up to `most` bytes, and `out_window`, from `fd` and send them. 0 is its end.

        Raises BlockingIOError if there is nothing now, and other OSErrors of reading.
        """
        most = min(most, self.out_window)
        if stderr or self.eof_sent or self.closed:
            data = os.read(fd, most)
            self.send_stderr(data)
            return len(data)
        count = self._line.pump(self, fd, most)
        self.out_window -= count
        self.said += count
        return count

    def note(self, words: str) -> None:
        """A line for the person at the other end. Waits for room; too many are dropped."""
        # Their terminal is raw, where a line feed alone does not go back to the left.
        self._notes += words.replace("\n", "\r\n").encode() + b"\r\n"
        self._notes = self._notes[:_MOST_NOTES]
        self._send_notes()

    def request(self, kind: bytes, body: bytes = b"") -> None:
        """A channel request that wants no reply (RFC 4254 §5.4)."""
        if not self.closed:
            head = _NUMBER.pack(MSG_REQUEST, self.remote)
            self._line.send(head + text(kind) + b"\0" + body)

    def send_exit_status(self, code: int) -> None:
        self.request(b"exit-status", code.to_bytes(4, "big"))

    def send_exit_signal(self, name: str, *, core: bool) -> None:
        """RFC 4254 §6.10. `name` is without SIG."""
        body = text(name.encode()) + bytes([core]) + text(b"") + text(b"")
        self.request(b"exit-signal", body)

    def send_eof(self) -> None:
        if not self.eof_sent and not self.closed:
            self.eof_sent = True
            self._line.send(_NUMBER.pack(MSG_EOF, self.remote))

    def close(self) -> None:
        """CLOSE, once, with EOF before it as OpenSSH does."""
        if self.close_sent:
            return
        self.send_eof()
        self.close_sent = True
        self._line.send(_NUMBER.pack(MSG_CLOSE, self.remote))
        self._line.over(self)

    # --- what the client has sent

    def take(self, most: int) -> bytes:
        """Up to `most` bytes of what waits; b"" if nothing does."""
        if not self._inbox:
            return b""
        taken = bytes(self._inbox[0][:most])
        self._took(len(taken))
        return taken

    def write_to(self, fd: int) -> bool:
        """Pass on what waits, as far as `fd` takes it at once. True if all of it has gone.

        Raises OSError if nobody reads there any more.
        """
        while self._inbox:
            try:
                written = os.writev(fd, list(islice(self._inbox, _PIECES)))
            except BlockingIOError:
                return False
            if not written:
                return False
            self._took(written)
        return True

    def discard(self) -> None:
        """Nobody reads what waits; but the client must not wait for room."""
        self._took(self.waiting)

    def _took(self, count: int) -> None:
        self.waiting -= count
        self._eat(count)
        while count:
            first = self._inbox[0]
            if count < len(first):
                self._inbox[0] = memoryview(first)[count:]
                break
            count -= len(first)
            self._inbox.popleft()
        self._views = min(self._views, len(self._inbox))

    def _eat(self, count: int) -> None:
        self._eaten += count
        if self._eaten >= self._worth_telling and not self.closed and not self.eof_received:
            self._line.send(_HEAD.pack(MSG_WINDOW_ADJUST, self.remote, self._eaten))
            self.in_window += self._eaten
            self._eaten = 0

    # --- what arrives, from `ssh_channels`

    def opened(self, remote: int, window: int, largest: int) -> None:
        """Both sides know its numbers now."""
        self.remote, self.out_window, self.largest = remote, window, min(largest, DATA)

    def hear(self, data: bytes | memoryview) -> None:
        """`data` is a view, good until `keep`. Raises Malformed if it is more than the window
        (RFC 4254 §5.2)."""
        self._count(len(data))
        if self.eof_received or self.closed:
            self._eat(len(data))  # there should not be any
        elif data:
            self._inbox.append(data)
            self._views += 1
            self.waiting += len(data)

    def keep(self) -> None:
        """The wire's buffer will be used again: copy what nobody has taken."""
        if not self._views:
            return
        views = [self._inbox.pop() for _ in range(self._views)]
        fresh = b"".join(reversed(views))
        self._views = 0
        if self._inbox and len(self._inbox[-1]) < _CRUMB:
            fresh = bytes(self._inbox.pop()) + fresh
        self._inbox.append(fresh)

    def hear_extended(self, data: bytes | memoryview) -> None:
        """No client of a server has any; it counts, and goes nowhere."""
        self._count(len(data))
        self._eat(len(data))

    def _count(self, count: int) -> None:
        self.heard += count
        self.in_window -= count
        if self.in_window < -WINDOW_SLACK:
            raise Malformed("client sends more than its window")

    def widen(self, count: int) -> None:
        """Raises Malformed past 2^32-1 bytes (RFC 4254 §5.2)."""
        self.out_window += count
        if self.out_window > _MOST_WINDOW:
            raise Malformed("client opens its window too far")
        self._send_notes()

    def hear_close(self) -> None:
        """RFC 4254 §5.3: each side sends CLOSE once."""
        self.close_received = True
        self.close()

    # --- helpers

    def _parts(self, data: bytes) -> list[bytes]:
        if len(data) > self.out_window:
            raise ValueError("more than the client's window")
        if self.eof_sent or self.closed or not data:
            return []
        self.out_window -= len(data)
        self.said += len(data)
        if len(data) <= self.largest:
            return [data]
        return [data[at : at + self.largest] for at in range(0, len(data), self.largest)]

    def _send_notes(self) -> None:
        now = self._notes[: self.out_window]
        if now:
            self._notes = self._notes[len(now) :]
            self.send_stderr(now)
