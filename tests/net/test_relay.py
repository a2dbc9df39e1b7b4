"""Two transports joined: every byte, every half, and the end."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from teleport_lite.net.relay import Held, Moved, relay
from tests.net.mux_pair import HELLO, End, pair
from tests.net.test_splice import Clock
from tests.tunnel_rig import Listener, until

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def go(work: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work)

    return go


async def end() -> tuple[asyncio.Transport, socket.socket]:
    """A transport, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(Held, ours)
    return transport, theirs


async def read_all(wire: socket.socket) -> bytes:
    loop, got = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(60):
        while data := await loop.sock_recv(wire, 1 << 16):
            got += data
    return bytes(got)


class Joined:
    """Two sockets with a relay between them."""

    def __init__(self, left: socket.socket, right: socket.socket, task: asyncio.Task[Moved]):
        self.left, self.right, self.task = left, right, task

    async def over(self) -> Moved:
        async with asyncio.timeout(60):
            return await self.task


async def joined(**more: float) -> Joined:
    near, left = await end()
    far, right = await end()
    return Joined(left, right, asyncio.create_task(relay(near, far, **more), name="relay"))


def test_all_bytes_pass_both_ways_and_are_counted(run: Run) -> None:
    async def work() -> None:
        both, loop = await joined(), asyncio.get_running_loop()
        with both.left, both.right:
            up, down = b"up" * 1_000_000, b"down" * 700_000

            async def say(wire: socket.socket, data: bytes) -> None:
                await loop.sock_sendall(wire, data)
                wire.shutdown(socket.SHUT_WR)

            got = await asyncio.gather(
                say(both.left, up), say(both.right, down), read_all(both.right), read_all(both.left)
            )
            assert (got[2], got[3]) == (up, down)
            assert await both.over() == Moved(len(up), len(down))

    run(work())


def test_a_half_that_ends_leaves_the_other_open(run: Run) -> None:
    async def work() -> None:
        both, loop = await joined(), asyncio.get_running_loop()
        with both.left, both.right:
            await loop.sock_sendall(both.left, b"question")
            both.left.shutdown(socket.SHUT_WR)
            assert await read_all(both.right) == b"question"
            await loop.sock_sendall(both.right, b"answer")
            both.right.shutdown(socket.SHUT_WR)
            assert await read_all(both.left) == b"answer"
            assert await both.over() == Moved(8, 6)

    run(work())


def test_a_reader_that_stops_stops_the_writer(run: Run) -> None:
    async def work() -> None:
        both, loop = await joined(), asyncio.get_running_loop()
        with both.left, both.right:
            sent = 0
            try:
                async with asyncio.timeout(0.5):
                    while True:
                        await loop.sock_sendall(both.left, bytes(65536))
                        sent += 65536
            except TimeoutError:
                assert sent < 4 << 20, "memory is no place for a slow reader's bytes"
            both.task.cancel()

    run(work())


def test_the_end_of_one_side_ends_the_other(run: Run) -> None:
    async def work() -> None:
        both, loop = await joined(), asyncio.get_running_loop()
        with both.left, both.right:
            await loop.sock_sendall(both.left, b"last words")
            both.left.close()
            assert await read_all(both.right) == b"last words"
            both.right.close()
            assert (await both.over()).up == 10

    run(work())


def test_what_waits_for_a_side_that_does_not_read_is_given_up(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            stream, (near, client) = both.near.open(HELLO), await end()
            near.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with client:
                task = asyncio.create_task(relay(stream, near, linger=0.2), name="relay")
                await until(lambda: both.far_end.streams)
                both.far_end.streams[0][0].write(bytes(40_000))
                both.far_end.streams[0][0].close()
                assert (await task).up == 40_000
                assert len(await read_all(client)) < 40_000

    run(work())


def test_an_idle_relay_ends(run: Run) -> None:
    async def work() -> None:
        both = await joined(idle=0.3)
        with both.left, both.right:
            assert await both.over() == Moved(0, 0, "idle")

    run(work())


def test_a_relay_in_which_something_moves_is_not_idle() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        clock, both = Clock(loop), await joined(idle=20)
        with both.left, both.right:
            for _ in range(5):
                await loop.sock_sendall(both.left, b".")
                assert await loop.sock_recv(both.right, 10) == b"."
                await clock.turn(15)
            assert not both.task.done()
            await clock.turn(25)
            assert await both.over() == Moved(5, 0, "idle")

    asyncio.run(work())


def test_cancelling_it_ends_both_sides(run: Run) -> None:
    async def work() -> None:
        both = await joined()
        with both.left, both.right:
            await asyncio.sleep(0)
            both.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await both.task
            assert await read_all(both.left) == b""
            assert await read_all(both.right) == b""

    run(work())


def test_what_came_before_is_not_lost(run: Run) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        near, left = await end()
        far, right = await end()
        with left, right:
            await loop.sock_sendall(left, b"SSH-2.0-early\r\n")
            held = near.get_protocol()
            assert isinstance(held, Held)
            await until(lambda: held.early)
            left.shutdown(socket.SHUT_WR)
            await until(lambda: held.ended)
            task = asyncio.create_task(relay(near, far), name="relay")
            assert await read_all(right) == b"SSH-2.0-early\r\n"
            right.close()
            assert (await task).up == 15

    run(work())


def test_a_reader_that_stops_at_what_came_before_stops_the_writer(run: Run) -> None:
    """More of it than anybody takes is there before the two are joined."""

    async def body() -> None:
        near, left = await end()
        far, right = await end()
        early = near.get_protocol()
        assert isinstance(early, Held)
        early.early += bytes(1 << 22)
        task = asyncio.create_task(relay(near, far), name="relay")
        sent = 0
        with suppress(TimeoutError):
            while sent < 1 << 26:
                async with asyncio.timeout(1):
                    await asyncio.get_running_loop().sock_sendall(left, bytes(1 << 16))
                sent += 1 << 16
        assert sent < 1 << 24
        left.shutdown(socket.SHUT_WR)
        assert len(await read_all(right)) >= (1 << 22) + sent
        for wire in (left, right):
            wire.close()
        await asyncio.gather(task, return_exceptions=True)

    run(body())


def test_a_side_that_is_gone_already_ends_the_other(run: Run) -> None:
    async def work() -> None:
        near, left = await end()
        far, right = await end()
        with left, right:
            near.abort()
            await asyncio.sleep(0)
            assert await relay(near, far) == Moved(0, 0, "reset")
            assert await read_all(right) == b""

    run(work())


def test_a_stream_of_a_tunnel_is_a_side_like_any(run: Run) -> None:
    """Socket - relay - tunnel - relay - socket, as for a session to a host."""

    async def work() -> None:
        async with pair(far_end=End(takes=False)) as both:
            stream = both.near.open(HELLO)
            await until(lambda: both.far_end.streams)
            near, client = await end()
            far, server = await end()
            with client, server:
                tasks = [
                    asyncio.create_task(relay(near, stream), name="proxy"),
                    asyncio.create_task(relay(both.far_end.streams[0][0], far), name="agent"),
                ]
                loop, size = asyncio.get_running_loop(), 3_000_000

                async def say(wire: socket.socket, data: bytes) -> None:
                    await loop.sock_sendall(wire, data)
                    wire.shutdown(socket.SHUT_WR)

                up, down = bytes(range(250)) * (size // 250), b"d" * size
                got = await asyncio.gather(
                    say(client, up), say(server, down), read_all(server), read_all(client)
                )
                assert (got[2], got[3]) == (up, down)
                assert [await task for task in tasks] == [Moved(size, size)] * 2
                assert len(both.near) == len(both.far) == 0

    run(work())


def test_a_reset_of_a_stream_resets_the_other_side(run: Run) -> None:
    async def work() -> None:
        async with pair(far_end=End(takes=False)) as both:
            stream, (near, client) = both.near.open(HELLO), await end()
            with client:
                task = asyncio.create_task(relay(near, stream), name="relay")
                await until(lambda: both.far_end.streams)
                both.far_end.streams[0][0].abort("no")
                assert (await task).why == "reset"
                assert await read_all(client) == b""

    run(work())


def test_a_frozen_client_does_not_stop_its_neighbour(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            loop = asyncio.get_running_loop()
            frozen, (near, client) = both.near.open(HELLO), await end()
            quick, listener = both.near.open(HELLO), Listener()
            quick.set_protocol(listener)
            with client:
                task = asyncio.create_task(relay(near, frozen), name="relay")
                await until(lambda: len(both.far_end.streams) == 2)
                for stream, _, _ in both.far_end.streams:
                    stream.write(b"z" * 5_000_000)
                await until(lambda: len(listener.data) == 5_000_000)
                waiting = both.far_end.streams[0][0].get_write_buffer_size()
                assert waiting > 1_000_000, "a client that reads nothing takes nothing"
                assert len(await loop.sock_recv(client, 10)) == 10
                task.cancel()

    run(work())
