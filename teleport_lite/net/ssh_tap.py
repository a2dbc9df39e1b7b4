"""The worker's end of a recording, and of those who have joined: `ssh_pump.Tap`.

    shell --> pump --> client
               |
              tap -o, r, g, e-> the scribe, which writes the recording
               |  --o, r-----> each party, who may be too slow, and is dropped then
               |  <-i--------- parties that may type
               |  <--ToTap---- the monitor: somebody comes or goes, the recording is in trouble
               |  --FromTap--> the monitor: somebody has left

Lines are SOCK_SEQPACKET; what the scribe and parties are sent begins with a letter. Nothing here
ever waits: what can not be sent yet is kept, up to a limit, and the shell is not read meanwhile.
"""

import array
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from teleport_lite.errors import Malformed
from teleport_lite.proto.codec import Message, read, write

# The end is said when all the rest has gone before it: without it a recording is not whole.
OUTPUT, RESIZE, GAP, INPUT, END = b"o", b"r", b"g", b"i", b"e"
SIZE, COUNT = struct.Struct(">II"), struct.Struct(">Q")
# A read of a terminal is 64 KiB at most, and a letter.
MAX_PACKET = 64 * 1024 + 16
MAX_WORD = 4096
# While so much waits for the scribe the shell is not read.
_FULL = 256 * 1024
# And past this, output that nobody may wait for any longer is left out.
_MOST = 1024 * 1024
# How long a recording at best effort may hold a session up.
_PATIENCE = 1.0
# How long the end of a session may wait for its last output to be recorded.
_LAST_PATIENCE = 2.0
# What a party may be behind, beside what the kernel keeps for its socket.
_MOST_BEHIND = 256 * 1024
MAX_PARTIES = 8
# What parties have typed and the shell has not taken.
_MOST_TYPED = 16 * 1024


class Arrival(Message, frozen=True):
    """A descriptor comes along: the way to somebody who has joined."""

    number: int
    types: bool


class ToTap(Message, frozen=True):
    """Exactly one field is set."""

    say: str | None = None  # to the person whose session it is
    party: Arrival | None = None
    leave: int | None = None
    broken: bool | None = None  # no more can be recorded; say why before


class FromTap(Message, frozen=True):
    left: int


class RecordTap:
    """`scribe` is None in a session that is not recorded. `strict`: rather wait than leave out."""

    def __init__(
        self,
        *,
        control: socket.socket,
        scribe: socket.socket | None,
        strict: bool,
        size: tuple[int, int],
    ) -> None:
        self._control: socket.socket | None = control
        self._reel = None if scribe is None else _Reel(scribe, strict=strict)
        self._parties: dict[int, _Party] = {}
        self._typed = b""
        self._size = size
        self._note: Callable[[str], None] = lambda _words: None
        control.setblocking(False)

    def bind(self, note: Callable[[str], None], wake: Callable[[float], None]) -> None:
        """`note` shows a line to the client; `wake` asks us again, in so many seconds."""
        self._note = note
        if self._reel is not None:
            self._reel.wake = wake

    # --- from the pump

    def holds(self) -> bool:
        return self._reel is not None and self._reel.holds()

    def output(self, data: bytes) -> None:
        if self._reel is not None:
            self._reel.output(data)
        self._share(OUTPUT + data)

    def resized(self, columns: int, rows: int) -> None:
        self._size = (columns, rows)
        if self._reel is not None:
            self._reel.resized(self._screen())
        self._share(self._screen())

    def typed(self) -> bytes:
        typed, self._typed = self._typed, b""
        return typed

    def wants(self) -> Iterator[tuple[int, int]]:
        if self._control is not None:
            yield self._control.fileno(), select.POLLIN
        if self._reel is not None and (events := self._reel.events()):
            yield self._reel.fileno(), events
        for party in self._parties.values():
            yield party.fileno(), party.events(may_type=len(self._typed) < _MOST_TYPED)

    def has(self, fd: int) -> bool:
        ends = [self._control, self._reel, *self._parties.values()]
        return any(end is not None and end.fileno() == fd for end in ends)

    def ready(self, fd: int) -> None:
        if self._control is not None and fd == self._control.fileno():
            self._obey(self._control)
        elif self._reel is not None and fd == self._reel.fileno():
            self._reel.push()
        else:
            for number, party in list(self._parties.items()):
                if party.fileno() == fd:
                    self._hear(number, party)

    def close(self) -> None:
        for party in self._parties.values():
            party.close()
        self._parties.clear()
        if self._reel is not None:
            self._reel.close(over=True)
        if self._control is not None:
            self._control.close()
        self._control = self._reel = None

    # --- from the monitor

    def _obey(self, control: socket.socket) -> None:
        """Raises Malformed for what no monitor says."""
        try:
            raw, fds = _take(control)
        except BlockingIOError:
            return
        except OSError:
            raw, fds = b"", []
        if not raw:  # the monitor is gone, and so will we be
            control.close()
            self._control = None
            return
        said = read(ToTap, raw, limit=MAX_WORD)
        if said.party is not None and fds:
            party = _Party(socket.socket(fileno=fds.pop()), types=said.party.types)
            party.send(self._screen())
            self._parties[said.party.number] = party
        elif said.say is not None:
            self._note(said.say)
        elif said.leave is not None:
            self._drop(said.leave)
        elif said.broken and self._reel is not None:
            self._reel.close(over=False)
            self._reel = None
        for fd in fds:
            os.close(fd)

    # --- parties

    def _screen(self) -> bytes:
        return RESIZE + SIZE.pack(*self._size)

    def _share(self, packet: bytes) -> None:
        for number, party in list(self._parties.items()):
            if not party.send(packet):
                self._left(number)

    def _hear(self, number: int, party: "_Party") -> None:
        typed = party.hear() if party.push() else None
        if typed is None:
            self._left(number)
        elif party.types:
            self._typed += typed

    def _left(self, number: int) -> None:
        self._drop(number)
        if self._control is not None:
            try:
                self._control.send(write(FromTap(left=number)), socket.MSG_NOSIGNAL)
            except OSError:
                return  # a monitor that is gone, or drowned, needs to know no more

    def _drop(self, number: int) -> None:
        party = self._parties.pop(number, None)
        if party is not None:
            party.close()


class _Reel:
    """What waits for the scribe."""

    def __init__(self, sock: socket.socket, *, strict: bool) -> None:
        self._sock, self._strict = sock, strict
        self._queue: deque[bytes] = deque()
        self._waiting = self._missing = 0
        self._stuck_since = 0.0
        self._alive = True
        self.wake: Callable[[float], None] = lambda _seconds: None
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._sock.fileno()

    def events(self) -> int:
        # Without an event to wait for poll(2) still tells of the other end's death; nobody here
        # has use for that, the monitor tells what follows from it.
        return select.POLLOUT if self._queue and self._alive else 0

    def holds(self) -> bool:
        if not self._alive or self._waiting < _FULL:
            return False
        return self._strict or time.monotonic() - self._stuck_since < _PATIENCE

    def output(self, data: bytes) -> None:
        if not self._strict and (self._missing or self._waiting > _MOST or self._overdue()):
            self._missing += len(data)
            return
        self.put(OUTPUT + data)

    def resized(self, packet: bytes) -> None:
        if self._waiting <= _MOST:
            self.put(packet)

    def put(self, packet: bytes) -> None:
        if not self._alive:
            return
        if not self._queue:
            self._stuck_since = time.monotonic()
        before = self._waiting
        self._queue.append(packet)
        self._waiting += len(packet)
        self.push()
        if before < _FULL <= self._waiting:
            self.wake(_PATIENCE)

    def push(self) -> None:
        try:
            while self._queue:
                self._sock.send(self._queue[0], socket.MSG_NOSIGNAL)
                self._waiting -= len(self._queue.popleft())
                self._stuck_since = time.monotonic()
                if not self._queue and self._missing:
                    self._queue.append(GAP + COUNT.pack(self._missing))
                    self._waiting, self._missing = len(self._queue[0]), 0
        except BlockingIOError:
            return
        except OSError:  # the scribe is gone; the monitor knows, and decides
            self._alive = False
            self._queue.clear()
            self._waiting = 0

    def close(self, *, over: bool) -> None:
        """The end of a recording is worth a moment, if the scribe is that far behind. `over`: it
        is that of the session, too."""
        self.push()
        seconds = int(_LAST_PATIENCE)
        wait = struct.pack("ll", seconds, int((_LAST_PATIENCE - seconds) * 1e6))
        self._sock.setblocking(True)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        self.push()
        if over and self._alive and not self._queue:
            with suppress(OSError):
                self._sock.send(END, socket.MSG_NOSIGNAL)
        self._sock.close()

    def _overdue(self) -> bool:
        return self._waiting >= _FULL and not self.holds()


class _Party:
    """Somebody who watches. Slower than the session by more than the limit is not with us."""

    def __init__(self, sock: socket.socket, *, types: bool) -> None:
        self._sock, self.types = sock, types
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._sock.fileno()

    def events(self, *, may_type: bool) -> int:
        return (select.POLLOUT if self._queue else 0) | (select.POLLIN if may_type else 0)

    def send(self, packet: bytes) -> bool:
        self._queue.append(packet)
        self._waiting += len(packet)
        return self.push() and self._waiting <= _MOST_BEHIND

    def push(self) -> bool:
        try:
            while self._queue:
                self._sock.send(self._queue[0], socket.MSG_NOSIGNAL)
                self._waiting -= len(self._queue.popleft())
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def hear(self) -> bytes | None:
        """What has been typed; None if they have left, or say what nobody says."""
        try:
            packet = self._sock.recv(MAX_WORD + 1)
        except BlockingIOError:
            return b""
        except OSError:
            return None
        return packet[1:] if packet[:1] == INPUT and len(packet) <= MAX_WORD else None

    def close(self) -> None:
        self._sock.close()


def _take(sock: socket.socket) -> tuple[bytes, list[int]]:
    """A packet and at most one descriptor, closed on exec. Raises OSError."""
    fds = array.array("i")
    space = socket.CMSG_LEN(fds.itemsize)
    raw, extra, _, _ = sock.recvmsg(MAX_WORD + 1, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if len(raw) > MAX_WORD:
        raise Malformed("the monitor says too much")
    return raw, list(fds)
