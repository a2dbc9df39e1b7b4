"""Packets of one direction in memory: read many at a time, opened and sealed where they lie.

Buffers are private pages of their own: they cost nothing until bytes are in them, and are given
back when nothing moves. So a connection that is idle holds next to nothing.
"""

import mmap
import os
import socket
from collections import deque
from itertools import islice
from struct import Struct

from paramiko import SSHException

from teleport_lite.net.ssh_policy import DATA, MAX_BANNER, MAX_PACKET, MAX_PACKET_BEFORE_LOGIN
from teleport_lite.net.ssh_seal import LEAST_PADDING, LENGTH, Clear, Seal, check_length, padding

_U32, _HEAD = Struct(">I"), Struct(">BBII")
_MSG_DATA = 94
# Room for the largest packet behind any that has not been taken yet.
_INCOMING = 2 * MAX_PACKET
# What is read at once: as much as goes into a pipe (`ssh_pump`), so that little has to be copied.
_MOST_READ = 256 * 1024
# Packets that are read from a descriptor, sealed and sent in one go.
SLOTS = 8
# Length, padding length, head, padding and the longest tag around the data of a slot.
_AROUND = LENGTH + _HEAD.size + 32 + 64
# sendmsg takes up to 1024 pieces (IOV_MAX).
_PIECES = 64
# Fewer pages than that are not worth giving back.
_SMALL = 64 * 1024
_MOST_NUMBER = 0xFFFF_FFFF


class _Pages:
    """Memory that can be given back without being let go of."""

    def __init__(self, size: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._map = mmap.mmap(-1, size, flags=flags)
        self.view = memoryview(self._map)
        self.used = 0

    def give_back(self) -> None:
        """What is in there is lost."""
        if self.used > _SMALL:
            self._map.madvise(mmap.MADV_DONTNEED)
        self.used = 0

    @property
    def large(self) -> bool:
        return self.used > _SMALL


class _Counted:
    """What both directions count: packets for RFC 4253 §6.4, and how worn the keys are (§9)."""

    def __init__(self) -> None:
        self.seal: Seal = Clear()
        self.number = self.packets = self.bytes = 0
        self.first_keys = False

    def renew(self, seal: Seal) -> None:
        self.seal = seal
        self.packets = self.bytes = 0

    def count(self, size: int) -> None:
        self.packets += 1
        self.bytes += size
        if self.number < _MOST_NUMBER:
            self.number += 1
        elif self.first_keys:
            self.number = 0
        else:  # strict key exchange: the numbers may not come round before it ends
            raise SSHException("too many packets before the first keys")


class Incoming(_Counted):
    """What the client has sent. Views it gives out hold until the next `fill`."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = MAX_PACKET_BEFORE_LOGIN
        self._pages = _Pages(_INCOMING)
        self._view = self._pages.view
        self._from = self._to = 0

    def fill(self, sock: socket.socket) -> int:
        """Take what is there; 0 is the end. Raises OSError."""
        if self._from == self._to:
            self._from = self._to = 0
        elif _INCOMING - self._to < MAX_PACKET:
            rest = self._to - self._from
            self._view[:rest] = self._view[self._from : self._to]
            self._from, self._to = 0, rest
        taken = sock.recv_into(self._view[self._to : self._to + _MOST_READ])
        self._to += taken
        self._pages.used = max(self._pages.used, self._to)
        return taken

    def line(self) -> bytes | None:
        """The client's identification (RFC 4253 §4.2): its first line, since only servers may
        say more before it. None: it is not complete. Raises SSHException."""
        said = bytes(self._view[self._from : self._to][: MAX_BANNER + 1])
        line, end, _ = said.partition(b"\n")
        if not (line + end).startswith(b"SSH-"[: len(line + end)]):
            raise SSHException("client does not speak SSH")
        if len(line + end) > MAX_BANNER:
            raise SSHException("identification line is too long")
        if not end:
            return None
        self._from += len(line) + 1
        return line.rstrip(b"\r")

    def packet(self) -> memoryview | None:
        """The payload of the next packet, or None if it is not all there. Raises SSHException."""
        start, have = self._from, self._to - self._from
        if have < LENGTH:
            return None
        seal, view = self.seal, self._view
        [length] = _U32.unpack_from(view, start)
        check_length(length, seal, self.largest)
        end = start + LENGTH + length + seal.tag
        if end > self._to:
            return None
        seal.open(view[start:end], self.number)
        self._from = end
        self.count(end - start)
        size = length - 1 - view[start + LENGTH]
        if view[start + LENGTH] < LEAST_PADDING or size < 1:
            raise SSHException("packet has a bad padding")
        start += LENGTH + 1
        return view[start : start + size]

    @property
    def large(self) -> bool:
        return self._pages.large

    def rest(self) -> None:
        if self._from == self._to:
            self._pages.give_back()


class Outgoing(_Counted):
    """What waits to be sent: `waiting` bytes of it."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: deque[bytes | memoryview] = deque()
        self.waiting = 0
        self._pages: _Pages | None = None
        self._shape = 0, 0
        self._slots: list[memoryview] = []

    def add(self, raw: bytes | memoryview) -> None:
        self._queue.append(raw)
        self.waiting += len(raw)

    def put(self, payload: bytes) -> None:
        """One message, sealed."""
        size, seal = len(payload), self.seal
        pad = padding(size, seal)
        packet = bytearray(LENGTH + 1 + size + pad + seal.tag)
        packet[LENGTH] = pad
        packet[LENGTH + 1 : LENGTH + 1 + size] = payload
        view = memoryview(packet)
        seal.close(view[LENGTH : len(view) - seal.tag], view, self.number)
        self.count(len(packet))
        self.add(view)

    def flush(self, sock: socket.socket) -> None:
        """As far as it goes at once. Raises OSError."""
        queue = self._queue
        while queue:
            try:
                sent = sock.sendmsg(list(islice(queue, _PIECES)), [], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            self.waiting -= sent
            while sent:
                first = queue[0]
                if sent < len(first):
                    queue[0] = memoryview(first)[sent:]
                    break
                sent -= len(first)
                queue.popleft()

    def forget(self) -> None:
        self._queue.clear()
        self.waiting = 0

    # --- bulk: from a descriptor into slots, each the inside of a packet

    def pump(self, sock: socket.socket, fd: int, remote: int, room: int, largest: int) -> int:
        """Read at most `room` bytes from `fd`, and send them on the client's channel `remote` in
        packets of `largest`. Returns how many; 0 is the end of `fd`.

        Raises OSError of reading; those of sending are found at the next `flush`.
        """
        slots = self._shaped(largest)
        most = -(-room // largest)
        into = slots[:most]
        if room < largest * len(into):
            into[-1] = into[-1][: room - largest * (len(into) - 1)]
        count = os.readv(fd, into)
        if count:
            self._send_slots(sock, self._seal_slots(remote, count, largest))
        return count

    def _shaped(self, largest: int) -> list[memoryview]:
        """Views of the data of each slot. Full packets lie end to end."""
        if self._pages is None:
            self._pages = _Pages(SLOTS * (DATA + _AROUND))
        shape = largest, self.seal.tag
        if shape != self._shape:
            self._shape = shape
            step, view = self._step(largest), self._pages.view
            begin = LENGTH + _HEAD.size
            self._slots = [
                view[at : at + largest] for at in range(begin, begin + SLOTS * step, step)
            ]
        return self._slots

    def _step(self, size: int) -> int:
        inside = _HEAD.size - 1 + size
        return LENGTH + 1 + inside + padding(inside, self.seal) + self.seal.tag

    def _seal_slots(self, remote: int, count: int, largest: int) -> memoryview:
        """All of them, as they go out."""
        assert self._pages is not None
        view, seal, at = self._pages.view, self.seal, 0
        while count:
            size = min(count, largest)
            count -= size
            end = at + self._step(size)
            inside = end - seal.tag
            pad = inside - at - LENGTH - _HEAD.size - size
            _HEAD.pack_into(view, at + LENGTH, pad, _MSG_DATA, remote, size)
            view[inside - pad : inside] = bytes(pad)
            seal.close(view[at + LENGTH : inside], view[at:end], self.number)
            self.count(end - at)
            at = end
        self._pages.used = max(self._pages.used, at)
        return view[:at]

    def _send_slots(self, sock: socket.socket, packets: memoryview) -> None:
        sent = 0
        if not self._queue:
            try:
                sent = sock.send(packets, socket.MSG_NOSIGNAL)
            except OSError:
                sent = 0  # full; or broken, which `flush` will find
        if sent < len(packets):
            self.add(bytes(packets[sent:]))  # the slots are needed again

    @property
    def large(self) -> bool:
        return self._pages is not None and self._pages.large

    def rest(self) -> None:
        if self._pages is not None:
            self._pages.give_back()
