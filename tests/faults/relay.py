"""A relay of our own for TCP: it delays, thins, stalls, flips bits. This kernel has no netem.

Runs in a thread, and in a network namespace if one is named. Loss is for nft: a relay has no
packets to lose.
"""

import asyncio
import ctypes
import os
import random
import socket
import threading
from types import TracebackType
from typing import Self


def enter(name: str) -> None:
    """This thread goes into a network namespace; what it opens from now on is there."""
    space = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(space, 0x40000000):  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), f"setns {name}")
    finally:
        os.close(space)


class Relay:
    """From `address` on loopback to `target`. A context manager; settings may change any time."""

    def __init__(self, target: str, *, inside: str = "", seed: int = 7) -> None:
        self._target, self._inside, self._chance = target, inside, random.Random(seed)
        self.delay = 0.0  # seconds, each way
        self.rate = 0.0  # bytes a second and direction; 0: as it comes
        self.flips = 0.0  # of connections, in one direction, one bit
        self.silent = False  # nothing passes, nothing is closed
        self.flipped = self.connections = 0
        self.address = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(timeout=30)

    def cut(self) -> None:
        """End every connection; what was on its way is lost."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])

    def _run(self) -> None:
        if self._inside:
            enter(self._inside)
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        host, _, port = self._target.rpartition(":")
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        for each in (writer, back):
            wire = each.get_extra_info("socket")
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        unlucky = self._chance.random() < self.flips
        ways = [self._pump(reader, back), self._pump(there, writer)]
        if unlucky:
            at = self._chance.randint(0, 3000)
            number = self._chance.randint(0, 1)
            ways[number].close()
            pair = ((reader, back), (there, writer))[number]
            ways[number] = self._pump(*pair, flip=at)
        try:
            await asyncio.gather(*ways)
        except (OSError, asyncio.CancelledError):
            pass  # an end is an end, ours or theirs
        finally:
            for each in (writer, back):
                each.transport.abort()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flip: int = -1
    ) -> None:
        """Each piece arrives `delay` after it was sent, and later if the line is busy."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop, seen, free = asyncio.get_running_loop(), 0, 0.0

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                while self.silent:
                    await asyncio.sleep(0.05)
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while True:
                data = await reader.read(16384)
                if seen <= flip < seen + len(data):
                    data = bytearray(data)
                    data[flip - seen] ^= 1 << self._chance.randint(0, 7)
                    self.flipped += 1
                seen += len(data)
                now = loop.time()
                free = max(free, now) + (len(data) / self.rate if self.rate else 0.0)
                queue.put_nowait((free + self.delay, bytes(data)))
                if not data:
                    break
            await delivering
        finally:
            delivering.cancel()
