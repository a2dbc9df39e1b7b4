"""One stream of a tunnel as an asyncio transport: flow control both ways, half-close, abort."""

import asyncio
import logging
from collections import deque
from typing import Any, Protocol, cast

from teleport_lite.errors import Malformed
from teleport_lite.net.mux_frames import INITIAL_WINDOW, MAX_WINDOW, Buffer, Kind
from teleport_lite.proto.tunnel import MAX_REASON

log = logging.getLogger("teleport_lite.tunnel")

# Bytes that wait for credit or for their turn before the writer is asked to pause.
HIGH_WATER = 64 * 1024
# Bytes that wait for their reader stand together up to this size.
PIECE = 16 * 1024

AnyProtocol = asyncio.Protocol | asyncio.BufferedProtocol


class Carrier(Protocol):
    """The tunnel, as its streams need it."""

    @property
    def window(self) -> int: ...
    def send(self, stream: "MuxStream", data: Buffer) -> int: ...
    def transmit(self, stream: "MuxStream", data: memoryview) -> int: ...
    def wants(self, stream: "MuxStream") -> None: ...
    def push(self, kind: Kind, stream: int, payload: bytes = b"") -> None: ...
    def forget(self, stream: "MuxStream") -> None: ...
    def fact(self, name: str, default: Any) -> Any: ...


class MuxStream(asyncio.Transport):
    """Reading starts when a protocol is set; what comes before waits, within the window.

    `connection_made` is not called: whoever opens or takes a stream has it already. After `close`
    what was written is still sent, what arrives is thrown away.
    """

    # loop.start_tls asks for it.
    _start_tls_compatible = True
    __slots__ = (
        "_carrier",
        "_closing",
        "_eof_asked",
        "_eof_told",
        "_fin_seen",
        "_fin_sent",
        "_granted",
        "_high",
        "_inbox",
        "_inbox_size",
        "_loop",
        "_low",
        "_out",
        "_over",
        "_protocol",
        "_reading",
        "_reset",
        "_why",
        "_writing_paused",
        "credit",
        "id",
        "queued",
    )

    def __init__(self, carrier: Carrier, id: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.id = id
        self.credit = INITIAL_WINDOW  # bytes we may send
        self.queued = False  # waits for its turn; the carrier's mark
        self._carrier, self._loop = carrier, loop
        self._protocol: AnyProtocol | None = None
        self._out = bytearray()
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._writing_paused = self._eof_asked = self._fin_sent = False
        self._granted = INITIAL_WINDOW  # bytes the peer may send
        self._inbox: deque[bytearray] = deque()
        self._inbox_size = 0
        self._reading = True
        self._fin_seen = self._eof_told = self._reset = False
        self._closing = self._over = False
        self._why: Exception | None = None

    # --- what protocols and their owners call

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the tunnel: its addresses, and its socket for nobody."""
        return self._carrier.fact(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(AnyProtocol, protocol)
        if self._over:  # before anybody was there to be told
            self._loop.call_soon(self._tell_lost)
        else:
            self._loop.call_soon(self._deliver)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """None before one was set, and after the end."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = (HIGH_WATER if low is None else 4 * low) if high is None else high
        self._low = self._high // 4 if low is None else low
        self._ask_to_pause()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._out)

    def write(self, data: Buffer) -> None:
        """Nothing of `data` is kept by reference."""
        if self._closing or not data:
            return
        if self._eof_asked:
            raise RuntimeError("can not write after write_eof()")
        sent = 0 if self._out else self._carrier.send(self, data)
        if sent < len(data):
            self._out += memoryview(data)[sent:] if sent else data
            self._carrier.wants(self)
            self._ask_to_pause()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_asked and not self._closing:
            self._eof_asked = True
            self._finish_sending()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = self._eof_asked = True
        self._inbox.clear()
        self._inbox_size = 0
        self._finish_sending()

    def abort(self, reason: str = "") -> None:
        """At once. `reason` is for the log of the other side."""
        if not self._over:
            text = reason.encode()[:MAX_REASON].decode(errors="ignore").encode()
            self._carrier.push(Kind.RST, self.id, text)
            self._end(None)

    # --- what the tunnel calls

    def waiting(self) -> int:
        """Bytes that could be sent, if there were a turn."""
        return min(len(self._out), self.credit)

    def take_turn(self, most: int) -> None:
        """Send one frame."""
        size = min(most, self.waiting())
        if size:
            with memoryview(self._out) as out, out[:size] as piece:
                self._carrier.transmit(self, piece)
            del self._out[:size]
        if self._writing_paused and len(self._out) <= self._low and not self._over:
            self._writing_paused = False
            if self._protocol is not None:
                self._protocol.resume_writing()
        if not self._out:
            self._finish_sending()

    def got_data(self, data: memoryview) -> None:
        """Raises Malformed for more than was granted."""
        size = len(data)
        if self._fin_seen or size > self._granted:
            what = "after the end" if self._fin_seen else f"{size - self._granted} too many"
            raise Malformed(f"stream {self.id} got bytes {what}")
        self._granted -= size
        if self._closing:
            return
        if self._reading and not self._inbox and self._protocol is not None:
            self._hand_over(data)
            self._grant()
        else:
            self._keep(data)

    def _keep(self, data: memoryview) -> None:
        """In pieces worth their overhead: frames of a byte would cost sixty times the window."""
        if self._inbox and len(self._inbox[-1]) < PIECE:
            self._inbox[-1] += data
        else:
            self._inbox.append(bytearray(data))
        self._inbox_size += len(data)

    def got_credit(self, more: int) -> None:
        self.credit += more
        if self.credit > MAX_WINDOW:
            raise Malformed(f"stream {self.id} was granted a window of {self.credit} bytes")
        if self._out:
            self._carrier.wants(self)

    def got_fin(self) -> None:
        if self._fin_seen:
            raise Malformed(f"stream {self.id} ended twice")
        self._fin_seen = True
        self._tell_eof()

    def got_reset(self, reason: str) -> None:
        """With a FIN before it this is a close, and what came before it is still delivered."""
        self._out.clear()
        self._reset = True
        if self._fin_seen and not self._closing and not self._eof_told:
            return
        self._end(None if self._fin_seen else ConnectionResetError(reason or "stream was reset"))

    def lost(self, why: str) -> None:
        """The tunnel has ended."""
        self._end(ConnectionResetError(why))

    # --- the rest

    def _ask_to_pause(self) -> None:
        if len(self._out) > self._high and not self._writing_paused and self._protocol is not None:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _finish_sending(self) -> None:
        if self._over or self._out or not self._eof_asked:
            return
        if not self._fin_sent:
            self._fin_sent = True
            self._carrier.push(Kind.FIN, self.id)
        if self._closing:
            if not (self._fin_seen or self._reset):
                self._carrier.push(Kind.RST, self.id)  # what still comes is read by nobody
            self._end(None)
        elif self._eof_told:
            self._end(None)

    def _deliver(self) -> None:
        """What has waited for a protocol, or for the reader."""
        got = bool(self._inbox) and self._reading  # or nothing has been read
        while self._inbox and self._reading and not self._closing and self._protocol is not None:
            data = self._inbox.popleft()
            self._inbox_size -= len(data)
            self._hand_over(data)
        if got and not self._closing:
            self._grant()
        self._tell_eof()
        self._ask_to_pause()

    def _hand_over(self, data: bytearray | memoryview) -> None:
        protocol = self._protocol
        try:
            if isinstance(protocol, asyncio.BufferedProtocol):
                _fill(protocol, memoryview(data))
            else:
                assert protocol is not None
                protocol.data_received(bytes(data))
        except Exception:
            # A bug of one reader must not end the streams beside it.
            log.exception("internal error in a stream of a tunnel")
            self.abort()

    def _grant(self) -> None:
        """Let the peer send again what has been read, half a window at a time."""
        if self._over or self._fin_seen:
            return
        window = self._carrier.window
        room = window - self._inbox_size - self._granted
        if room >= window // 2:
            self._granted += room
            self._carrier.push(Kind.WIN, self.id, room.to_bytes(4, "big"))

    def _tell_eof(self) -> None:
        if (
            not self._fin_seen
            or self._eof_told
            or self._inbox
            or not self._reading
            or self._closing
            or self._protocol is None
        ):
            return
        self._eof_told = True
        stays = self._protocol.eof_received()
        if self._reset:
            self._end(None)
        elif not stays:
            self.close()
        elif self._fin_sent:
            self._end(None)

    def _end(self, why: Exception | None) -> None:
        if self._over:
            return
        self._over = self._closing = self._eof_asked = True
        self._out.clear()
        self._inbox.clear()
        self._inbox_size = 0
        self._why = why
        self._carrier.forget(self)
        self._loop.call_soon(self._tell_lost)

    def _tell_lost(self) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(self._why)


def _fill(protocol: asyncio.BufferedProtocol, data: memoryview) -> None:
    while data:
        room = memoryview(protocol.get_buffer(len(data)))
        size = min(len(room), len(data))
        room[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]
