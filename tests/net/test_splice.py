"""Passing bytes on inside the kernel: what arrives, what is counted, and how it ends."""

import asyncio
import contextlib
import fcntl
import gc
import hashlib
import os
import random
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.net import splice as module
from teleport_lite.net.splice import Moved, connect, splice
from tests.net.serving import LOOPS
from tests.support import free_port

# Generous: the machine is shared.
LONG = 60
MIB = 1 << 20


def run(loop: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(work(), 3 * LONG))


both = pytest.mark.parametrize("loop", LOOPS)


async def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for each in (near, far):
        each.setblocking(False)
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


class Joined:
    """client ... splice ... server: the two outer ends, and the task between them."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.task: asyncio.Task[Moved]
        self.inner: tuple[socket.socket, socket.socket]


@contextlib.asynccontextmanager
async def joined(
    *, idle: float = 0, linger: float = module.LINGER, first: bytes = b""
) -> AsyncIterator[Joined]:
    client, left = await pair()
    right, server = await pair()
    it = Joined(client, server)
    it.inner = (left, right)
    it.task = asyncio.create_task(splice(left, right, idle=idle, linger=linger, first=first))
    try:
        yield it
    finally:
        it.task.cancel()
        await asyncio.gather(it.task, return_exceptions=True)
        client.close()
        server.close()


class Clock:
    """That of a loop, which goes on only when it is turned. For asyncio's own loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._now = loop.time()
        loop.time = lambda: self._now  # type: ignore[method-assign]

    async def turn(self, seconds: float) -> None:
        """And let happen what is due."""
        self._now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


def says(wire: socket.socket, data: bytes) -> Awaitable[None]:
    return asyncio.get_running_loop().sock_sendall(wire, data)


async def hears(wire: socket.socket, size: int) -> bytes:
    heard = b""
    while len(heard) < size:
        part = await asyncio.get_running_loop().sock_recv(wire, size - len(heard))
        if not part:
            break
        heard += part
    return heard


async def hears_all(wire: socket.socket) -> bytes:
    parts = []
    while part := await asyncio.get_running_loop().sock_recv(wire, MIB):
        parts.append(part)
    return b"".join(parts)


async def ends(task: "asyncio.Task[Moved]") -> Moved:
    return await asyncio.wait_for(task, LONG)


def descriptors() -> set[str]:
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


@both
def test_bytes_pass_both_ways_and_are_counted(loop: str) -> None:
    async def work() -> None:
        async with joined() as it:
            for n in range(1, 20):
                await says(it.client, b"u" * n)
                assert await hears(it.server, n) == b"u" * n
                await says(it.server, b"d" * 3 * n)
                assert await hears(it.client, 3 * n) == b"d" * 3 * n
            it.client.close()
            assert await hears_all(it.server) == b""
            it.server.close()
            assert await ends(it.task) == Moved(190, 570)

    run(loop, work)


@both
def test_much_passes_both_ways_at_once_unchanged(loop: str) -> None:
    async def work() -> None:
        up, down = random.Random(1).randbytes(24 * MIB), random.Random(2).randbytes(17 * MIB + 5)

        async def send(wire: socket.socket, data: bytes) -> None:
            await says(wire, data)
            wire.shutdown(socket.SHUT_WR)

        async with joined() as it:
            _, _, there, back = await asyncio.gather(
                send(it.client, up),
                send(it.server, down),
                hears_all(it.server),
                hears_all(it.client),
            )
            for got, sent in (there, up), (back, down):
                assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()
            assert await ends(it.task) == Moved(len(up), len(down))

    run(loop, work)


@both
def test_what_is_to_come_first_comes_first_and_is_not_counted(loop: str) -> None:
    async def work() -> None:
        async with joined(first=b"header") as it:
            await says(it.client, b" then this")
            assert await hears(it.server, 16) == b"header then this"
            it.client.shutdown(socket.SHUT_WR)
            it.server.shutdown(socket.SHUT_WR)
            assert await ends(it.task) == Moved(10, 0)

    run(loop, work)


@both
def test_half_that_ends_leaves_the_other_half_open(loop: str) -> None:
    async def work() -> None:
        async with joined() as it:
            await says(it.client, b"question")
            it.client.shutdown(socket.SHUT_WR)
            assert await hears_all(it.server) == b"question"
            for _ in range(3):
                await says(it.server, b"answer")
                assert await hears(it.client, 6) == b"answer"
            assert not it.task.done()
            it.server.shutdown(socket.SHUT_WR)
            assert await hears_all(it.client) == b""
            assert await ends(it.task) == Moved(8, 18)

    run(loop, work)


@both
def test_who_does_not_read_makes_the_other_side_wait(loop: str) -> None:
    async def work() -> None:
        async with joined() as it:
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 512 * MIB:
                    await asyncio.wait_for(says(it.client, bytes(MIB)), 1)
                    sent += MIB
            assert sent < 200 * MIB, "somewhere there is no limit"
            assert not it.task.done()
            # The other direction does not suffer.
            await says(it.server, b"still here")
            assert await hears(it.client, 10) == b"still here"
            assert len(await hears(it.server, sent)) == sent

    run(loop, work)


@both
@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_passes_to_the_other_side(loop: str, who: str) -> None:
    async def work() -> None:
        async with joined() as it:
            await says(it.client, b"12345")
            assert await hears(it.server, 5) == b"12345"
            broken, other = it.client, it.server
            if who == "server":
                broken, other = other, broken
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, module._RESET)
            broken.close()
            assert await ends(it.task) == Moved(5, 0, "reset")
            with pytest.raises(ConnectionResetError):
                await hears(other, 1)

    run(loop, work)


@both
def test_a_reset_while_bytes_wait_is_the_end(loop: str) -> None:
    async def work() -> None:
        async with joined() as it:
            with contextlib.suppress(TimeoutError):
                while True:
                    await asyncio.wait_for(says(it.client, bytes(MIB)), 0.5)
            it.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, module._RESET)
            it.server.close()
            assert (await ends(it.task)).why == "reset"

    run(loop, work)


@both
def test_silence_of_both_sides_is_ended(loop: str) -> None:
    async def work() -> None:
        began = asyncio.get_running_loop().time()
        async with joined(idle=0.3) as it:
            assert (await ends(it.task)).why == "idle"
            assert asyncio.get_running_loop().time() - began > 0.25
            for each in it.client, it.server:
                with pytest.raises(ConnectionResetError):
                    await hears(each, 1)

    run(loop, work)


def test_one_side_that_speaks_keeps_it_open() -> None:
    async def work() -> None:
        clock = Clock(asyncio.get_running_loop())
        async with joined(idle=20) as it:
            for _ in range(5):
                await says(it.server, b"x")
                assert await hears(it.client, 1) == b"x"
                await clock.turn(15)
            assert not it.task.done()
            await clock.turn(25)
            assert (await ends(it.task)).why == "idle"

    run("asyncio", work)


@both
def test_who_reads_nothing_for_long_is_idle_too(loop: str) -> None:
    async def work() -> None:
        async with joined(idle=0.5) as it:
            with contextlib.suppress(OSError):
                while not it.task.done():
                    await asyncio.wait_for(says(it.client, bytes(MIB)), LONG)
            assert (await ends(it.task)).why == "idle"

    run(loop, work)


@both
def test_cancelled_it_closes_both_and_leaves_nothing_behind(loop: str) -> None:
    async def work() -> None:
        await _one_exchange()
        before = descriptors()
        for payload in (0, 1, 8 * MIB):
            async with joined() as it:
                sending = asyncio.ensure_future(says(it.client, bytes(payload)))
                await asyncio.sleep(0.05)
                it.task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await it.task
                assert [each.fileno() for each in it.inner] == [-1, -1]
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                with contextlib.suppress(ConnectionResetError):
                    await hears_all(it.server)
        assert len(descriptors()) <= len(before)

    run(loop, work)


async def _one_exchange() -> None:
    async with joined() as it:
        await says(it.client, b"x")
        assert await hears(it.server, 1) == b"x"
        it.client.close()
        it.server.close()
        await ends(it.task)


@both
def test_no_descriptor_is_left_after_many(loop: str) -> None:
    async def work() -> None:
        await asyncio.gather(*(_one_exchange() for _ in range(20)))
        before = descriptors()
        for _ in range(5):
            await asyncio.gather(*(_one_exchange() for _ in range(20)))
        # Pipes that are kept for the next ones: as many as before.
        assert len(descriptors()) <= len(before)

    run(loop, work)


@both
def test_a_server_that_has_closed_is_not_held_open_by_a_silent_client(loop: str) -> None:
    """Else a stranger who says hello and nothing more costs two descriptors for `idle`."""

    async def work() -> None:
        async with joined(idle=3600, linger=0.3) as it:
            await says(it.server, b"goodbye")
            it.server.close()
            assert (await ends(it.task)).why == "idle"
            assert await hears_all(it.client) == b"goodbye", "all of it, and a clean end"

    run(loop, work)


def test_what_a_half_closed_side_was_still_to_be_told_is_cut_visibly() -> None:
    async def work() -> None:
        clock = Clock(asyncio.get_running_loop())
        async with joined() as it:
            it.server.shutdown(socket.SHUT_WR)
            assert await hears_all(it.client) == b""
            await says(it.client, b"part of it")
            assert await hears(it.server, 10) == b"part of it"
            await clock.turn(module.LINGER + 1)
            assert (await ends(it.task)).why == "idle"
            with pytest.raises(ConnectionResetError):
                await hears_all(it.server)

    run("asyncio", work)


def test_a_half_that_moves_is_left_in_peace() -> None:
    async def work() -> None:
        clock = Clock(asyncio.get_running_loop())
        async with joined() as it:
            it.client.shutdown(socket.SHUT_WR)
            assert await hears_all(it.server) == b""
            for _ in range(4):
                await says(it.server, b"x")
                assert await hears(it.client, 1) == b"x"
                await clock.turn(module.LINGER - 5)
            it.server.close()
            assert await ends(it.task) == Moved(0, 4)

    run("asyncio", work)


@both
def test_idle_connections_hold_no_pipes(loop: str) -> None:
    async def work() -> None:
        await _one_exchange()
        before = len(descriptors())
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(30):
                it = await stack.enter_async_context(joined())
                await says(it.client, b"x")
                assert await hears(it.server, 1) == b"x"
            assert len(descriptors()) - before == 30 * 4, "two sockets here, two in between"

    run(loop, work)


@both
def test_the_number_of_a_closed_socket_can_be_used_again(loop: str) -> None:
    """uvloop kept watching it, once."""

    async def work() -> None:
        for _ in range(30):
            async with joined() as it:
                await says(it.client, b"x")
                assert await hears(it.server, 1) == b"x"
                it.task.cancel()

    run(loop, work)


HUNGRY = """
import asyncio, resource, socket, sys
from teleport_lite.errors import Unavailable
from teleport_lite.net import splice as module
from tests.net.test_splice import LOOPS, joined, pair, says, hears

async def refused():
    left, right = (await pair())[0], (await pair())[0]
    highest = max(each.fileno() for each in (left, right))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, 4096))
    try:
        await module.splice(left, right, idle=0)
    except Unavailable as why:
        print("refused:", why.message, left.fileno(), right.fileno())
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))

async def waits():
    async with joined() as it:
        await says(it.client, b"x")
        assert await hears(it.server, 1) == b"x"
        module._PIPES.forget()
        used = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))
        await says(it.client, b"y")
        await asyncio.sleep(0.3)
        assert not it.task.done()
        resource.setrlimit(resource.RLIMIT_NOFILE, used)
        assert await asyncio.wait_for(hears(it.server, 1), 30) == b"y"
        print("went on")

with asyncio.Runner(loop_factory=LOOPS[sys.argv[1]]) as runner:
    runner.run(refused())
    runner.run(waits())
"""


@both
def test_without_a_pipe_it_refuses_before_it_begins_and_waits_later(loop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUNGRY, loop], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    refused, went_on = done.stdout.splitlines()
    assert refused.startswith("refused: can not relay a connection: no pipe: ")
    assert refused.endswith("-1 -1"), "both are closed"
    assert went_on == "went on"


@both
def test_small_pipes_do_as_well_and_are_not_kept(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user gets who has many already (pipe-user-pages-soft)."""
    real = fcntl.fcntl

    def narrow(number: int, command: int, size: int = 0) -> int:
        if command == module._F_SETPIPE_SZ:
            real(number, command, 4096)
            raise PermissionError
        return real(number, command, size)

    async def work() -> None:
        data = random.Random(3).randbytes(2 * MIB)
        async with joined() as it:
            _, there = await asyncio.gather(says(it.client, data), hears(it.server, len(data)))
            assert there == data
        assert module._PIPES._spare == []

    module._PIPES.forget()
    monkeypatch.setattr(module.fcntl, "fcntl", narrow)
    run(loop, work)


def test_a_child_process_shares_no_pipe_with_its_parent() -> None:
    run("asyncio", _one_exchange)
    kept = list(module._PIPES._spare)
    assert kept
    child = os.fork()
    if child == 0:
        open_there = {int(each) for each in os.listdir("/proc/self/fd")}
        os._exit(1 if module._PIPES._spare or open_there & {kept[0][0], kept[0][1]} else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert module._PIPES._spare == kept


# Connecting


@both
def test_the_first_that_answers_is_taken(loop: str) -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            wire = await connect([f"127.0.0.1:{free_port()}", f"localhost:{port}"], timeout=LONG)
            with wire, listener.accept()[0] as other:
                assert not wire.getblocking()
                assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                await says(wire, b"x")
                assert other.recv(1) == b"x"

    run(loop, work)


@contextlib.contextmanager
def mute() -> Any:
    """An address where connections neither succeed nor fail: its backlog is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        held: list[socket.socket] = []
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
            held.append(waiting)
        assert select.select([], held, [], LONG)[1]  # there is room for one: now there is none
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@both
def test_one_that_is_mute_holds_nobody_up(loop: str) -> None:
    async def work() -> None:
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 1)  # starts a thread
        before = descriptors()
        with mute() as silent, socket.create_server(("127.0.0.1", 0)) as listener:
            good = f"127.0.0.1:{listener.getsockname()[1]}"
            wire = await connect([silent, good], timeout=LONG)
            assert wire.getpeername() == listener.getsockname()
            wire.close()
        assert len(descriptors()) <= len(before)

    run(loop, work)


@both
def test_what_was_tried_is_named(loop: str) -> None:
    async def work() -> None:
        nobody, message = f"127.0.0.1:{free_port()}", ""
        with mute() as silent:
            for seconds in (1, 10, 40):  # whichever is enough to try all of them
                with pytest.raises(Unavailable) as why:
                    await connect([nobody, silent, "a..b:1"], timeout=seconds)
                message = why.value.message
                if "a..b:1 (no answer)" not in message:
                    break
        assert f"{nobody} (Connection refused)" in message
        assert f"{silent} (no answer)" in message
        assert "a..b:1 (no such host)" in message
        with pytest.raises(Unavailable, match="no address is known"):
            await connect([], timeout=1)

    run(loop, work)


@both
def test_a_connect_that_is_cancelled_leaves_nothing_open(loop: str) -> None:
    async def work() -> None:
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 1)
        with mute() as silent:
            before = descriptors()
            task = asyncio.create_task(connect([silent], timeout=LONG))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            while len(descriptors()) > len(before):  # `run` has a deadline
                await asyncio.sleep(0.05)

    run(loop, work)
