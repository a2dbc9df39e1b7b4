"""Passing bytes on without reading them: two plain sockets, joined inside the kernel.

    source -- splice(2) --> pipe -- splice(2) --> sink        and the same the other way

The bytes never enter this process. A pipe is borrowed only while it holds something, so that
idle connections cost two descriptors. Under uvloop a descriptor has to leave the loop before it
is closed, else the next one with its number is broken.
"""

import asyncio
import fcntl
import os
import socket
import struct
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from teleport_lite.errors import Error, Unavailable
from teleport_lite.net.http import split_address

# What is moved at once: /proc/sys/fs/pipe-max-size is 1 MiB unless somebody has changed it.
CHUNK = 1 << 20
# Empty pipes that are kept. They hold no memory, but two descriptors each.
SPARE = 16
# RFC 8305 §5: what one address is given before the next is tried beside it.
HEAD_START = 0.25
# Until the next try, when there is no descriptor for a pipe.
RETRY = 0.05
# Seconds without a byte once one side has said its last: as a rule it has closed, and can not tell
# us that it listens no more.
LINGER = 30.0
# Not SPLICE_F_MORE: it holds the end of every burst back, for up to 200 ms.
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_F_SETPIPE_SZ = 1031  # fcntl(2); the module knows it on Linux only
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close(2) sends a reset


@dataclass(frozen=True, slots=True)
class Moved:
    """How many bytes went through. `up` is from the client to the server.

    `why` is "" if both sides came to their end, else "reset" or "idle".
    """

    up: int
    down: int
    why: str = ""


async def splice(
    client: socket.socket,
    server: socket.socket,
    *,
    idle: float,
    linger: float = LINGER,
    first: bytes = b"",
) -> Moved:
    """Join two connected non-blocking sockets until both directions have ended. Closes both.

    A half that ends is ended on the other side too. If no byte moves for `idle` seconds (0: no
    limit), or for `linger` seconds after one half has ended, if one side breaks, or if this is
    cancelled, what has not come to its end is reset. `first` is sent to the server before
    anything, and not counted. Raises Unavailable if there is no pipe to be had.
    """
    for wire in (client, server):
        wire.setblocking(False)
    relay = _Relay(client, server, idle, linger)
    try:
        _PIPES.give(_PIPES.take())  # refuse before anything has moved
        return await relay.run(first)
    finally:
        relay.close()


class _Pipe(NamedTuple):
    out: int
    into: int
    full: bool  # it has the size we want


class _Pipes:
    """Empty pipes to borrow. Safe between threads: append and pop of a list are."""

    def __init__(self) -> None:
        self._spare: list[_Pipe] = []

    def take(self) -> _Pipe:
        """Raises Unavailable."""
        with suppress(IndexError):
            return self._spare.pop()
        try:
            out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as why:
            raise Unavailable(f"can not relay a connection: no pipe: {why.strerror}") from why
        try:
            fcntl.fcntl(into, _F_SETPIPE_SZ, CHUNK)
        except OSError:  # past pipe-user-pages-soft who is not root gets small ones, which work too
            return _Pipe(out, into, full=False)
        return _Pipe(out, into, full=True)

    def give(self, pipe: _Pipe) -> None:
        """A small one is not kept: when there is room again the next one is large."""
        if pipe.full and len(self._spare) < SPARE:
            self._spare.append(pipe)
        else:
            self.drop(pipe)

    def drop(self, pipe: _Pipe) -> None:
        os.close(pipe.out)
        os.close(pipe.into)

    def forget(self) -> None:
        """In a child: two processes at one pipe would mix up what strangers say."""
        while self._spare:
            self.drop(self._spare.pop())


_PIPES = _Pipes()
os.register_at_fork(after_in_child=_PIPES.forget)


class _Flow:
    """One direction. It waits for the source, or, while the pipe holds something, for the sink."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        *,
        ended: Callable[[], None],
        broke: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sink, self._ended, self._broke = sink, ended, broke
        self._from, self._to = source.fileno(), sink.fileno()
        self._pipe: _Pipe | None = None
        self._held = 0  # bytes in the pipe
        self._eof = False
        self.over = False  # all there was has gone through, and its end was passed on
        self._retry: asyncio.TimerHandle | None = None
        self.moved = 0
        self.last = 0.0  # when a byte moved, in the time of the loop

    def start(self) -> None:
        self.last = self._loop.time()
        self._loop.add_reader(self._from, self._read)

    def stop(self) -> None:
        """Before the sockets are closed."""
        self._loop.remove_reader(self._from)
        self._loop.remove_writer(self._to)
        if self._retry is not None:
            self._retry.cancel()
        if self._pipe is not None:
            _PIPES.drop(self._pipe)
            self._pipe = None

    def _read(self) -> None:
        if self._pipe is None:
            try:
                self._pipe = _PIPES.take()
            except Unavailable:  # others will give theirs back
                self._loop.remove_reader(self._from)
                self._retry = self._loop.call_later(RETRY, self.resume)
                return
        try:
            got = os.splice(self._from, self._pipe.into, CHUNK, flags=_FLAGS)
        except (BlockingIOError, InterruptedError):
            self._put_back()
            return
        except OSError:
            self._broke()
            return
        self._held += got
        self._eof = got == 0
        if self._drain():
            self._emptied(waited=False)
        elif self._held:
            self._loop.remove_reader(self._from)  # back-pressure: the source has to wait
            self._loop.add_writer(self._to, self._write)

    def resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._from, self._read)

    def _write(self) -> None:
        if self._drain():
            self._loop.remove_writer(self._to)
            self._emptied(waited=True)

    def _drain(self) -> bool:
        """Whether the pipe is empty now. Tells `broke` by itself, and is False then."""
        assert self._pipe is not None
        before = self._held
        try:
            while self._held:
                sent = os.splice(self._pipe.out, self._to, self._held, flags=_FLAGS)
                self._held -= sent
                self.moved += sent
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._held = 0
            self._broke()
            return False
        finally:
            if self._held != before:
                self.last = self._loop.time()
        return True

    def _emptied(self, *, waited: bool) -> None:
        self._put_back()
        if self._eof:
            if not waited:
                self._loop.remove_reader(self._from)
            with suppress(OSError):  # it may be gone by itself
                self._sink.shutdown(socket.SHUT_WR)
            self.over = True
            self._ended()
        elif waited:
            self._loop.add_reader(self._from, self._read)

    def _put_back(self) -> None:
        if self._pipe is not None and not self._held:
            _PIPES.give(self._pipe)
            self._pipe = None


class _Relay:
    def __init__(
        self, client: socket.socket, server: socket.socket, idle: float, linger: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = (client, server)
        self._idle, self._linger = idle, linger
        self._half_at = 0.0  # when the first of both directions ended
        self._timer: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._running = 2
        self._up = self._flow(client, server)
        self._down = self._flow(server, client)

    def _flow(self, source: socket.socket, sink: socket.socket) -> _Flow:
        return _Flow(source, sink, ended=self._half_ended, broke=lambda: self._end("reset"))

    async def run(self, first: bytes) -> Moved:
        why = "reset"
        if await self._say(first):
            self._up.start()
            self._down.start()
            self._watch()
            why = await self._over
        return Moved(self._up.moved, self._down.moved, why)

    async def _say(self, first: bytes) -> bool:
        try:
            async with asyncio.timeout(self._idle or None):
                if first:
                    await self._loop.sock_sendall(self._ends[1], first)
        except OSError:  # TimeoutError is one
            return False
        return True

    def close(self) -> None:
        for flow in (self._up, self._down):
            flow.stop()
        if self._timer is not None:
            self._timer.cancel()
        why = self._over.result() if self._over.done() and not self._over.cancelled() else "cut"
        for end, into in zip(self._ends, (self._down, self._up), strict=True):
            if why and not (why == "idle" and into.over):
                # An end that was cut short must not look like one that was meant.
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()

    def _half_ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._end("")
            return
        self._half_at = self._loop.time()
        self._idle = min(self._idle or self._linger, self._linger)
        if self._timer is not None:
            self._timer.cancel()
        self._watch()

    def _end(self, why: str) -> None:
        for flow in (self._up, self._down):
            flow.stop()
        if not self._over.done():
            self._over.set_result(why)

    def _watch(self) -> None:
        if not self._idle:
            return
        last = max(self._up.last, self._down.last, self._half_at)
        left = last + self._idle - self._loop.time()
        if left <= 0:
            self._end("idle")
        else:
            self._timer = self._loop.call_later(left, self._watch)


async def connect(addresses: Sequence[str], *, timeout: float) -> socket.socket:
    """As `connect_one`, for who does not ask which one it is."""
    return (await connect_one(addresses, timeout=timeout))[1]


async def connect_one(addresses: Sequence[str], *, timeout: float) -> tuple[str, socket.socket]:
    """A connection to the first of these ("host:port") that answers, ready for `splice`.

    They are tried in this order, the next one as soon as one has failed or is slow (RFC 8305).
    Raises Unavailable naming what was tried; after `timeout` seconds at the latest.
    """
    tasks: dict[asyncio.Task[socket.socket], str] = {}
    left, failures = list(addresses), dict.fromkeys(addresses, "no answer")
    try:
        async with asyncio.timeout(timeout):
            while left or tasks:
                if left:
                    address = left.pop(0)
                    tasks[asyncio.create_task(_dial(address), name=f"dial {address}")] = address
                done, _ = await asyncio.wait(
                    tasks, timeout=HEAD_START if left else None, return_when=FIRST_COMPLETED
                )
                for task in done:
                    address = tasks.pop(task)
                    if (why := task.exception()) is None:
                        return address, task.result()
                    failures[address] = _cause(why)
    except TimeoutError:
        pass
    finally:
        await _discard(tasks)
    tried = ", ".join(f"{address} ({why})" for address, why in failures.items())
    raise Unavailable(f"can not connect to {tried or 'anything: no address is known'}")


async def _dial(address: str) -> socket.socket:
    """Raises OSError, or Error for what is no address."""
    loop, (host, port) = asyncio.get_running_loop(), split_address(address)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    problem: OSError = OSError("the name has no address")
    for family, kind, proto, _, target in found:
        wire = socket.socket(family, kind, proto)
        try:
            wire.setblocking(False)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(wire, target)
        except OSError as why:
            wire.close()
            problem = why
        except BaseException:
            wire.close()
            raise
        else:
            return wire
    raise problem


def _cause(why: BaseException) -> str:
    if isinstance(why, Error):
        return why.message
    if isinstance(why, socket.gaierror | UnicodeError):
        return "no such host"
    return os.strerror(why.errno) if isinstance(why, OSError) and why.errno else str(why)


async def _discard(tasks: Iterable[asyncio.Task[socket.socket]]) -> None:
    """Who answers too late, or second, is hung up on."""
    for task in tasks:
        task.cancel()
    for late in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(late, socket.socket):
            late.close()
