"""Passing bytes on between two transports of an event loop: streams of tunnels, TLS, sockets.

Where both are plain sockets `splice.py` does it in the kernel; here the bytes come by.
"""

import asyncio
import threading
from contextlib import suppress
from typing import Any

from teleport_lite.net.mux_frames import MAX_DATA
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.net.splice import Moved

# Seconds for what was written to the one side after the other has ended.
LINGER = 30.0


class _Scratch(threading.local):
    """Memory for what is being read right now: a read fills two frames of a tunnel."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(2 * MAX_DATA))


_SCRATCH = _Scratch()


class Held(asyncio.Protocol):
    """The protocol of a transport that waits for `relay`, which loses nothing of what it got."""

    def __init__(self) -> None:
        self.early = bytearray()
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.early += data

    def eof_received(self) -> bool:
        self.ended = True
        return True


async def relay(
    left: asyncio.Transport, right: asyncio.Transport, *, idle: float = 0, linger: float = LINGER
) -> Moved:
    """Join two transports until both have ended; both are closed then. Their protocols are ours.

    A side that is slow stops the other from reading. A half that ends is ended on the other side,
    or all of it where that side has no halves (TLS). After `idle` seconds without a byte (0: no
    limit), when a side breaks, or when this is cancelled, both are aborted. `up` is from left to
    right; bytes that were read but could not be written any more count.
    """
    joint = _Joint(left, right, linger)
    try:
        return await joint.run(idle)
    finally:
        joint.abort()


class _Joint:
    def __init__(self, left: asyncio.Transport, right: asyncio.Transport, linger: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._linger, self._why = linger, ""
        self._over = self._loop.create_future()
        self._timers: list[asyncio.TimerHandle] = []
        self.heard = self._loop.time()
        self.sides = (_side(self, left, right), _side(self, right, left))

    async def run(self, idle: float) -> Moved:
        up, down = self.sides
        if up.transport.is_closing() or down.transport.is_closing():
            return Moved(0, 0, "reset")
        # Both before a byte is written: who can not take more has to tell us so.
        held = [side.begin() for side in self.sides]
        for side, early in zip(self.sides, held, strict=True):
            side.go_on(early)
        if idle:
            self._watch(idle)
        await self._over
        return Moved(up.moved, down.moved, self._why)

    def abort(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for side in self.sides:
            if not side.gone:
                # Python 3.11.2 (Debian 12): a TLS transport that has ended raises it.
                with suppress(AttributeError):
                    side.transport.abort()

    def side_ended(self, side: "_Side", why: Exception | None) -> None:
        other = side.other_side
        if why is not None and not self._why:
            self._why = "reset"
        if other.gone:
            if not self._over.done():
                self._over.set_result(None)
        elif why is not None:
            other.transport.abort()
        else:
            other.transport.close()
            self._timers.append(self._loop.call_later(self._linger, other.transport.abort))

    def _watch(self, idle: float) -> None:
        left = self.heard + idle - self._loop.time()
        if left > 0:
            self._timers[:1] = [self._loop.call_later(left, self._watch, idle)]
            return
        self._why = "idle"
        self.abort()


class _Side:
    """Reads one transport and writes the other."""

    def __init__(
        self, joint: _Joint, transport: asyncio.Transport, other: asyncio.Transport
    ) -> None:
        self._joint, self.transport, self._other = joint, transport, other
        # A stream copies what it can not send at once; other transports may keep what they get.
        self._keeps = not isinstance(other, MuxStream)
        self.moved = 0
        self.gone = self.ended = False
        self.full = False  # the other one takes no more for now

    def begin(self) -> asyncio.BaseProtocol:
        """Returns who had it up to now."""
        # A transport looks at the kind of its protocol when reading starts.
        self.transport.pause_reading()
        held = self.transport.get_protocol()
        self.transport.set_protocol(self)  # type: ignore[arg-type]  # a protocol in its subclasses
        return held

    def go_on(self, held: asyncio.BaseProtocol) -> None:
        if isinstance(held, Held) and held.early:
            self.data_received(bytes(held.early))
        if isinstance(held, Held) and held.ended:
            self.eof_received()
        if not self.full:
            self.transport.resume_reading()

    @property
    def other_side(self) -> "_Side":
        left, right = self._joint.sides
        return right if self is left else left

    def data_received(self, data: Any) -> None:
        self.moved += len(data)
        self._joint.heard = self._joint._loop.time()
        if not self.other_side.gone:
            self._other.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other_side.ended:
            self.transport.close()
            self._other.close()
            return True
        if not self._other.is_closing():
            if self._other.can_write_eof():
                self._other.write_eof()
            else:
                self._other.close()
        # A TLS transport closes after this whatever we say.
        return self.transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        self.other_side.full = True
        self.other_side.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other_side.full = False
        self.other_side.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def connection_lost(self, why: Exception | None) -> None:
        self.gone = True
        self._joint.side_ended(self, why)


class _OfStream(_Side, asyncio.Protocol):
    """Gets bytes that are its own."""


class _OfSocket(_Side, asyncio.BufferedProtocol):
    """Reads into memory shared by all, so that no read allocates."""

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # one size fits all
        return _SCRATCH.view

    def buffer_updated(self, nbytes: int) -> None:
        data = _SCRATCH.view[:nbytes]
        self.data_received(bytes(data) if self._keeps else data)


def _side(joint: _Joint, transport: asyncio.Transport, other: asyncio.Transport) -> _Side:
    kind = _OfStream if isinstance(transport, MuxStream) else _OfSocket
    return kind(joint, transport, other)
