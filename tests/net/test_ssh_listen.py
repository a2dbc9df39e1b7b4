"""Connections that somebody else took in: the same counting, whatever kind of socket they are."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.errors import Unavailable
from teleport_lite.net.ssh_limits import Limits
from teleport_lite.net.ssh_line import FromMonitor, Outcome
from teleport_lite.net.ssh_listen import SshListener
from teleport_lite.proto.codec import write
from tests.net.serving import LOOPS

PEER, LOCAL = ("192.0.2.7", 40_000), ("192.0.2.1", 3022)


class PaperZygote:
    """Keeps what it is handed, instead of forking."""

    def __init__(self) -> None:
        self._control, self.theirs = socket.socketpair()
        self.taken: list[tuple[tuple[str, int], tuple[str, int]]] = []
        self.lines: list[socket.socket] = []
        self.ended = False

    def fileno(self) -> int:
        return self._control.fileno()

    def hand_over(
        self,
        tcp: socket.socket,
        line: socket.socket,
        *,
        peer: tuple[str, int],
        local: tuple[str, int],
    ) -> None:
        if self.ended:
            raise Unavailable("the zygote is gone")
        self.taken.append((peer, local))
        self.lines.append(line.dup())
        tcp.send(b"served")

    def close(self) -> None:
        for each in (self._control, self.theirs, *self.lines):
            each.close()


@asynccontextmanager
async def listening(**limits: object) -> AsyncIterator[tuple[SshListener, PaperZygote]]:
    zygote = PaperZygote()
    listener = SshListener(
        sockets=[],
        zygote=zygote,
        on_event=lambda _event: None,
        clock=SystemClock(),
        chance=SystemChance(),
        limits=Limits(**limits),  # type: ignore[arg-type]  # of its fields
    )
    await listener.start()
    yield listener, zygote
    await listener.close()
    zygote.close()


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    def run(body: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(body(), 30))

    return run


Run = Callable[[Callable[[], Awaitable[None]]], None]


def test_a_connection_from_a_tunnel_is_served_for_its_client(run: Run) -> None:
    """One end of a socketpair, which has no options of TCP and no address."""

    async def body() -> None:
        async with listening() as (listener, zygote):
            ours, theirs = socket.socketpair()
            listener.take(theirs, peer=("::ffff:192.0.2.7", 40_000), local=LOCAL)
            assert ours.recv(10) == b"served"
            assert zygote.taken == [(PEER, LOCAL)]
            assert theirs.fileno() == -1  # the zygote has its own copy
            assert listener.counters.accepted == 1
            ours.close()

    run(body)


def test_a_connection_of_another_port_gets_the_options_of_tcp(run: Run) -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            taken, address = server.accept()
            copy = taken.dup()
            async with listening() as (listener, _):
                listener.take(taken, peer=address, local=taken.getsockname())
                assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            client.close()
            copy.close()

    run(body)


def test_too_many_of_one_client_wait_and_are_dropped(run: Run) -> None:
    async def body() -> None:
        async with listening(per_source=1, queue_per_source=1) as (listener, zygote):
            pairs = [socket.socketpair() for _ in range(3)]
            for _, theirs in pairs:
                listener.take(theirs, peer=PEER, local=LOCAL)
            assert pairs[0][0].recv(10) == b"served"
            assert pairs[2][0].recv(10) == b""
            assert listener.counters.dropped_startups == 1
            assert len(zygote.taken) == 1
            zygote.lines[0].close()  # the first one ends, which is told by the end of its line
            while len(zygote.taken) < 2:
                await asyncio.sleep(0.01)
            assert pairs[1][0].recv(10) == b"served"
            for ours, _ in pairs:
                ours.close()

    run(body)


@pytest.mark.parametrize("ip", ["192.0.2.7", "not an address"])
def test_a_client_that_misbehaves_is_refused_by_every_door(run: Run, ip: str) -> None:
    async def body() -> None:
        penalties = dict.fromkeys(Outcome, 60.0)
        async with listening(penalties=penalties) as (listener, zygote):
            ours, theirs = socket.socketpair()
            listener.take(theirs, peer=(ip, 1), local=LOCAL)
            zygote.lines[0].send(write(FromMonitor(outcome=Outcome.CRASH)))
            while not listener._penalties.refuses(ip, SystemClock().monotonic()):
                await asyncio.sleep(0.01)
            again, theirs = socket.socketpair()
            listener.take(theirs, peer=(ip, 2), local=LOCAL)
            assert again.recv(10) == b""
            assert listener.counters.dropped_penalty == 1
            ours.close()
            again.close()

    run(body)


def test_nothing_is_served_without_a_zygote_or_after_the_end(run: Run) -> None:
    async def body() -> None:
        async with listening() as (listener, zygote):
            zygote.ended = True
            ours, theirs = socket.socketpair()
            listener.take(theirs, peer=PEER, local=LOCAL)
            assert ours.recv(10) == b""
            ours.close()
            await listener.close()
            ours, theirs = socket.socketpair()
            listener.take(theirs, peer=PEER, local=LOCAL)
            assert ours.recv(10) == b""
            ours.close()

    run(body)
