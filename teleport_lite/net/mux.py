"""One tunnel: many streams over one TLS connection (frames in mux_frames.py, words in proto).

Writing: frames leave one at a time, the streams taking turns, and only while the connection is
not congested; what waits, waits in its own stream. While a tunnel carries one stream it sends
large frames and lets much be under way. With a second one it turns to small frames and lets the
kernel hold little (TCP_NOTSENT_LOWAT), so that a keystroke overtakes the bulk beside it.

Reading: every stream has a window. Who sends more than it was granted is cut off, all of it: a
side that does not keep to its credit is broken or hostile (mux_window.py has the sizes).
"""

import asyncio
import logging
import socket
from collections import deque
from contextlib import suppress
from typing import Any, cast

from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.net.mux_frames import (
    HEADER,
    HEADER_SIZE,
    MAX_DATA,
    MAX_ID,
    SMALL_DATA,
    Buffer,
    Deframer,
    Kind,
    credit,
    frame,
)
from teleport_lite.net.mux_heart import Heart
from teleport_lite.net.mux_owner import Owner as Owner
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.net.mux_tls import CHUNK, SCRATCH, TlsEnd
from teleport_lite.net.mux_window import LOOK, Window
from teleport_lite.proto.codec import write
from teleport_lite.proto.tunnel import Control, Open, read_control, read_open

log = logging.getLogger("teleport_lite.tunnel")

# Sessions at a time through one tunnel; more are refused, the tunnel stays.
MAX_STREAMS = 1000
# Bytes under way in this process, beside what the kernel holds.
LARGE_HIGH_WATER = 256 * 1024
SMALL_HIGH_WATER = 32 * 1024
SMALL_NOTSENT = 16 * 1024
# Answers that the other side makes us write and does not read. A thousand RST are 12 KiB.
MAX_BACKLOG = LARGE_HIGH_WATER + 128 * 1024
# Seconds for the last words of a tunnel that ends.
LINGER = 2.0


class Mux(asyncio.BufferedProtocol):
    """The protocol of a plain TCP transport. TLS is done in here."""

    __slots__ = (
        "_blocked",
        "_corked",
        "_deframer",
        "_dialled",
        "_few",
        "_frame_max",
        "_heart",
        "_last_id",
        "_loop",
        "_max_streams",
        "_next_id",
        "_owner",
        "_pumping",
        "_question",
        "_ready",
        "_retired",
        "_scratch",
        "_streams",
        "_transport",
        "_waiting",
        "_why",
        "_window",
        "asked",
        "greeted",
        "heard",
        "patience",
        "received",
        "sent",
        "tls",
    )

    def __init__(
        self,
        tls: TlsEnd,
        *,
        dialled: bool,
        owner: Owner,
        heart: Heart,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        """`dialled`: this side has made the connection, and opens odd streams if any."""
        self.tls = tls
        self._owner, self._heart, self._dialled = owner, heart, dialled
        self._max_streams = max_streams
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._scratch = SCRATCH
        self._deframer = Deframer()
        self._streams: dict[int, MuxStream] = {}
        self._ready: deque[MuxStream] = deque()
        self._next_id, self._last_id = 1 if dialled else 2, 0
        self._blocked = self._corked = self._pumping = self._retired = False
        self._few, self._frame_max = True, MAX_DATA
        self._window, self._question, self._waiting = Window(), 0, False
        self._why = ""  # why it ends; "" while it lives
        self.received = self.sent = 0  # bytes of streams
        self.greeted = False
        self.heard = self.asked = self._loop.time()
        self.patience = heart.pace.interval * (1.0 if dialled else 1.5)

    # --- for its owner

    def __len__(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._why

    def silent(self) -> float:
        """Seconds since anything was heard."""
        return self._loop.time() - self.heard

    def open(self, hello: Open) -> MuxStream:
        """A new stream, at once: the other side says no with a reset. Raises Unavailable."""
        if not self.alive or not self.greeted:
            raise Unavailable(f"the tunnel is not up{self._why and ': '}{self._why}")
        if self._retired:
            raise Unavailable("the tunnel is going away")
        if len(self._streams) >= self._max_streams:
            raise Unavailable(f"the tunnel carries {len(self._streams)} sessions already")
        stream = MuxStream(self, self._next_id, self._loop)
        self._next_id += 2
        if self._next_id > MAX_ID:
            self._retired = True
        self._streams[stream.id] = stream
        self._tune()
        self.push(Kind.SYN, stream.id, write(hello))
        return stream

    def say(self, word: Control) -> None:
        if self.alive:
            self.push(Kind.CONTROL, 0, write(word))

    def retire(self) -> None:
        """No new streams; the tunnel ends with its last one."""
        self._retired = True
        if not self._streams:
            self._loop.call_soon(self.close, "it is not needed any more")

    @property
    def retired(self) -> bool:
        return self._retired

    def close(self, why: str) -> None:
        """Say goodbye and end, streams and all. What was written before is still sent."""
        if self._why:
            return
        self._why = why
        if self._transport is not None:
            with suppress(Error):
                self.tls.close()
            self._corked = False
            self._flush()
            self._transport.close()
            self._loop.call_later(LINGER, self._transport.abort)

    def die(self, why: str) -> None:
        """At once: nobody is there to say goodbye to."""
        self._why = self._why or why
        if self._transport is not None:
            self._transport.abort()

    def ping(self) -> None:
        self.asked, self._question = self._loop.time(), (self._question + 1) & MAX_ID
        self._waiting = True
        self.push(Kind.PING, self._question)

    # --- for its streams

    @property
    def window(self) -> int:
        """Bytes that each stream may have under way to us, or waiting here for its reader."""
        return self._window.of(len(self._streams))

    def fact(self, name: str, default: Any) -> Any:
        if name == "socket" or self._transport is None:
            return default
        return self._transport.get_extra_info(name, default)

    def send(self, stream: MuxStream, data: Buffer) -> int:
        """As much of `data` as may leave now; the rest waits for its turn."""
        if self._ready:
            return 0
        at, size, view = 0, min(len(data), stream.credit), memoryview(data)
        while at < size and not self._blocked and not self._why:
            at += self.transmit(stream, view[at : min(size, at + self._frame_max)])
        return at

    def transmit(self, stream: MuxStream, data: memoryview) -> int:
        """One frame. The stream has the credit."""
        size, out = len(data), self._scratch.out
        HEADER.pack_into(out, 0, size, stream.id)  # DATA is 0
        out[HEADER_SIZE : HEADER_SIZE + size] = data
        self.tls.write(out[: HEADER_SIZE + size])
        self._flush()
        stream.credit -= size
        self.sent += size
        return size

    def wants(self, stream: MuxStream) -> None:
        if not stream.queued and stream.waiting():
            stream.queued = True
            self._ready.append(stream)
            self._pump()

    def push(self, kind: Kind, stream: int, payload: bytes = b"") -> None:
        """A small frame, ahead of all data that waits."""
        if self._why or self._transport is None:
            return
        self.tls.write(frame(kind, stream, payload))
        self._flush()
        if self._transport.get_write_buffer_size() > MAX_BACKLOG:
            self.die("it does not read what it makes us write")

    def forget(self, stream: MuxStream) -> None:
        if self._streams.pop(stream.id, None) is not None:
            self._tune()
            if self._retired and not self._streams:
                self._loop.call_soon(self.close, "it is not needed any more")

    # --- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=LARGE_HIGH_WATER)
        self.heard = self._loop.time()
        self._heart.add(self)
        if self._dialled:
            self._guarded(self._scratch.cipher[:0])

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # one size fits all
        return self._scratch.cipher

    def buffer_updated(self, nbytes: int) -> None:
        if self.greeted:
            self.heard = self._loop.time()
        cipher = self._scratch.cipher[:nbytes]
        for at in range(0, nbytes, CHUNK):
            self._guarded(cipher[at : at + CHUNK])

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._why = self._why or (f"connection lost: {exc}" if exc else "the other side has closed")
        self._heart.discard(self)
        self._ready.clear()
        for stream in list(self._streams.values()):
            stream.lost(f"the tunnel has ended, {self._why}")
        self._owner.ended(self, self._why)

    # --- reading

    def _guarded(self, cipher: memoryview) -> None:
        try:
            self._corked = True
            try:
                self._take(cipher)
            finally:
                self._corked = False
                self._flush()
        except Error as why:
            log.debug("tunnel ends: %s (%s)", why.message, why.log)
            self.close(why.message)
        except Exception:
            log.exception("internal error in a tunnel")
            self.die("internal error")

    def _take(self, cipher: memoryview) -> None:
        tls, plain = self.tls, self._scratch.plain
        if self._why:
            return
        tls.feed(cipher)
        if not tls.secure:
            if not tls.handshake():
                return
            self._owner.secured(self)
        while not self._why and (size := tls.read(plain)):
            self._deframer.feed(plain[:size], self._deliver)
        if tls.ended:
            self.close("the other side has closed")

    def _deliver(self, kind: int, id: int, payload: memoryview) -> None:
        if self._why:
            return
        if not self.greeted and kind != Kind.CONTROL:
            raise Malformed(f"{Kind(kind).name} frame before the hello")
        if kind == Kind.PING:
            self.push(Kind.PONG, id)
        elif kind == Kind.CONTROL:
            self._told(read_control(bytes(payload)))
        elif kind == Kind.SYN:
            self._syn(id, read_open(bytes(payload)))
        elif kind == Kind.PONG:
            if id == self._question and self._waiting:
                self._waiting = False
                self._window.answered(self._loop.time() - self.asked, busy=not self._few)
        else:
            stream = self._streams.get(id)
            if stream is not None:
                self._of_stream(kind, stream, payload)
            elif id >= self._next_id if self._is_ours(id) else id > self._last_id:
                raise Malformed(f"{Kind(kind).name} frame for stream {id}, which never was")

    def _of_stream(self, kind: int, stream: MuxStream, payload: memoryview) -> None:
        if kind == Kind.DATA:
            self.received += len(payload)
            if not self._few and not self._waiting and self.heard - self.asked > LOOK:
                self.ping()
            stream.got_data(payload)
        elif kind == Kind.WIN:
            stream.got_credit(credit(payload))
        elif kind == Kind.FIN:
            stream.got_fin()
        else:
            stream.got_reset(ascii(bytes(payload).decode(errors="replace"))[1:-1])

    def _told(self, word: Control) -> None:
        if word.hello is not None:
            if self.greeted:
                raise Malformed("a second hello")
            self.greeted, self.heard = True, self._loop.time()
        elif word.going_away is None:
            return  # a word of a later version
        self._owner.told(self, word)

    def _syn(self, id: int, hello: Open) -> None:
        if self._is_ours(id) or id <= self._last_id:
            raise Malformed(f"SYN frame for stream {id}, which is not free")
        self._last_id = id
        if self._retired or len(self._streams) >= self._max_streams:
            self.push(Kind.RST, id, b"going away" if self._retired else b"too many streams")
            return
        stream = self._streams[id] = MuxStream(self, id, self._loop)
        self._tune()
        self._owner.opened(self, stream, hello)

    def _is_ours(self, id: int) -> bool:
        return bool(id % 2) == self._dialled

    # --- writing

    def _pump(self) -> None:
        if self._pumping:
            return  # a writer that was told to go on has written
        self._pumping = True
        try:
            while self._ready and not self._blocked and not self._why:
                stream = self._ready.popleft()
                stream.queued = False
                stream.take_turn(self._frame_max)
                if stream.waiting() and not stream.queued:
                    stream.queued = True
                    self._ready.append(stream)
        finally:
            self._pumping = False

    def _flush(self) -> None:
        """Small answers to what is being read leave together."""
        if self._transport is not None and not (self._corked and self.tls.to_send < CHUNK):
            ciphertext = self.tls.taken()
            if ciphertext:
                self._transport.write(ciphertext)

    def _tune(self) -> None:
        few = len(self._streams) < 2
        if few == self._few or self._transport is None:
            return
        self._few = few
        self._frame_max = MAX_DATA if few else SMALL_DATA
        high = LARGE_HIGH_WATER if few else SMALL_HIGH_WATER
        self._transport.set_write_buffer_limits(high=high)
        wire = self._transport.get_extra_info("socket")
        with suppress(OSError):  # it has ended; 0 is the system's own setting
            most = 0 if few else SMALL_NOTSENT
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most)
