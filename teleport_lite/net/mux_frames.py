"""Frames of a tunnel: bytes in, frames or Malformed out. Pure: no sockets, no clocks.

     0      1            4                8
    +------+------------+----------------+------------------+
    | type | length u24 | stream id u32  | length bytes ... |     big endian
    +------+------------+----------------+------------------+

    DATA     bytes of a stream, 1 to 65,528; together with the header four full TLS records
    SYN      opens a stream: JSON of proto/tunnel.Open
    WIN      u32: so many more bytes may be sent in that stream
    FIN      no more bytes follow from this side
    RST      the stream has ended both ways; UTF-8 reason for the log, may be empty
    PING     stream id is any number, which comes back
    PONG     in the answer
    CONTROL  stream id 0, JSON of proto/tunnel.Control

Whoever dialled the connection opens streams with odd ids, the other side with even ones, counting
upwards. A stream starts with INITIAL_WINDOW bytes of credit each way.
"""

import struct
from collections.abc import Callable
from enum import IntEnum

from teleport_lite.errors import Malformed
from teleport_lite.proto.tunnel import MAX_CONTROL, MAX_OPEN, MAX_REASON

Buffer = bytes | bytearray | memoryview


class Kind(IntEnum):
    DATA = 0
    SYN = 1
    WIN = 2
    FIN = 3
    RST = 4
    PING = 5
    PONG = 6
    CONTROL = 7


HEADER = struct.Struct(">II")
CREDIT = struct.Struct(">I")
HEADER_SIZE = HEADER.size
MAX_DATA = 65_528
# Header and payload are one TLS record: what a tunnel with several streams sends at a time.
SMALL_DATA = 16_384 - HEADER_SIZE
INITIAL_WINDOW = 64 * 1024
MAX_WINDOW = 16 * 1024 * 1024
MAX_ID = 0xFFFF_FFFF

# Least and most bytes of payload. Empty DATA would be work for nothing.
_SIZES: dict[int, tuple[int, int]] = {
    Kind.DATA: (1, MAX_DATA),
    Kind.SYN: (1, MAX_OPEN),
    Kind.WIN: (CREDIT.size, CREDIT.size),
    Kind.FIN: (0, 0),
    Kind.RST: (0, MAX_REASON),
    Kind.PING: (0, 0),
    Kind.PONG: (0, 0),
    Kind.CONTROL: (1, MAX_CONTROL),
}
# Which belong to a stream; for PING and PONG the id is a number like any other.
_OF_A_STREAM = frozenset({Kind.DATA, Kind.SYN, Kind.WIN, Kind.FIN, Kind.RST})
_DATA = int(Kind.DATA)
_NOTHING = memoryview(b"")

# DATA comes in pieces, as they arrive; everything else whole. The memory is valid for the call.
Deliver = Callable[[int, int, memoryview], None]


def frame(kind: Kind, stream: int, payload: Buffer = b"") -> bytes:
    """One frame. The caller keeps to the sizes."""
    return HEADER.pack(kind << 24 | len(payload), stream) + payload


def credit(size: Buffer) -> int:
    """What a WIN frame grants. Raises Malformed."""
    granted = int(CREDIT.unpack(size)[0])
    if not 0 < granted <= MAX_WINDOW:
        raise Malformed(f"a window of {granted} bytes was granted, the most is {MAX_WINDOW}")
    return granted


class Deframer:
    """Takes bytes as they come; keeps no more than one small frame that is not complete."""

    __slots__ = ("_kind", "_left", "_part", "_stream")

    def __init__(self) -> None:
        self._part = bytearray()  # of a header, or of a payload that is no DATA
        self._kind = -1  # -1: a header is next
        self._left = 0  # bytes of payload still to come
        self._stream = 0

    def feed(self, data: memoryview, deliver: Deliver) -> None:
        """Calls `deliver(kind, stream, payload)` for what is there. Raises Malformed."""
        at, end = 0, len(data)
        while at < end:
            if self._kind < 0:
                at = self._header(data, at, end)
                if self._kind >= 0 and not self._left:
                    self._done(_NOTHING, deliver)
                continue
            size = min(self._left, end - at)
            piece = data[at : at + size]
            at += size
            self._left -= size
            if self._kind == _DATA:
                stream = self._stream
                if not self._left:
                    self._kind = -1
                deliver(_DATA, stream, piece)
            elif self._left:
                self._part += piece
            else:
                self._done(piece, deliver)

    def _header(self, data: memoryview, at: int, end: int) -> int:
        if not self._part and end - at >= HEADER_SIZE:
            word, stream = HEADER.unpack_from(data, at)
            at += HEADER_SIZE
        else:
            size = min(HEADER_SIZE - len(self._part), end - at)
            self._part += data[at : at + size]
            at += size
            if len(self._part) < HEADER_SIZE:
                return at
            word, stream = HEADER.unpack(self._part)
            self._part = bytearray()
        kind, length = word >> 24, word & 0xFFFFFF
        sizes = _SIZES.get(kind)
        if sizes is None:
            raise Malformed(f"frame of type {kind}, there is none")
        if not sizes[0] <= length <= sizes[1]:
            raise Malformed(f"{Kind(kind).name} frame of {length} bytes")
        if (kind in _OF_A_STREAM) != bool(stream) and kind not in (Kind.PING, Kind.PONG):
            raise Malformed(f"{Kind(kind).name} frame with stream id {stream}")
        self._kind, self._left, self._stream = kind, length, stream
        return at

    def _done(self, piece: memoryview, deliver: Deliver) -> None:
        kind, stream, self._kind = self._kind, self._stream, -1
        if self._part:
            piece, self._part = memoryview(bytes(self._part + piece)), bytearray()
        deliver(kind, stream, piece)
