"""Something between two ends that can forget their connections without telling them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Middlebox:
    """Passes connections on to the port `target`. After `forget`, those it has go on in silence:
    bytes are swallowed, nothing is closed. New ones are passed on as ever."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0
        self.connections = 0
        self.port = 0

    def forget(self) -> None:
        self._generation += 1

    async def run(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            left, _ = await loop.sock_accept(listener)
            right = socket.socket()
            right.setblocking(False)
            await loop.sock_connect(right, ("127.0.0.1", self.target))
            self.connections += 1
            for source, sink in ((left, right), (right, left)):
                self._tasks.add(loop.create_task(self._pump(source, sink, self._generation)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump(self, source: socket.socket, sink: socket.socket, generation: int) -> None:
        loop = asyncio.get_running_loop()
        with source, suppress(OSError):
            with suppress(ConnectionResetError):
                while data := await loop.sock_recv(source, 65536):
                    if generation == self._generation:
                        await loop.sock_sendall(sink, data)
            if generation == self._generation:
                sink.shutdown(socket.SHUT_WR)
            else:
                await asyncio.Event().wait()  # not even the end gets through


@asynccontextmanager
async def middlebox(target: int) -> AsyncIterator[Middlebox]:
    box = Middlebox(target)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        box.port = listener.getsockname()[1]
        task = asyncio.create_task(box.run(listener), name="middlebox")
        try:
            yield box
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await box.close()
