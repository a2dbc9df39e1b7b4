"""Connections that somebody else took in: the same counting, whatever kind of socket they are."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.errors import Unavailable
from teleport_lite.net.ssh_limits import Limits
from teleport_lite.net.ssh_line import (
    Found,
    FromMonitor,
    Hello,
    Outcome,
    ToMonitor,
    Wanted,
    call_daemon,
)
from teleport_lite.net.ssh_listen import SshListener, Wish
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.stream import AgentEvent
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
async def listening(
    on_wish: Callable[[Wish], None] | None = None,
    *,
    on_event: Callable[[AgentEvent], None] = lambda _event: None,
    returns: Path | None = None,
    **limits: object,
) -> AsyncIterator[tuple[SshListener, PaperZygote]]:
    zygote = PaperZygote()
    listener = SshListener(
        sockets=[],
        zygote=zygote,
        on_event=on_event,
        clock=SystemClock(),
        chance=SystemChance(),
        on_wish=on_wish,
        limits=Limits(**limits),  # type: ignore[arg-type]  # of its fields
        returns=returns,
    )
    await listener.start()
    yield listener, zygote
    await listener.close()
    zygote.close()


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    def run(body: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(body(), 60))

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


def test_there_is_a_limit_for_those_who_have_logged_in_too(run: Run) -> None:
    async def body() -> None:
        async with listening(connections_per_source=2, connections=3) as (listener, zygote):
            ends = []

            def arrive(ip: str) -> bytes:
                ours, theirs = socket.socketpair()
                ends.append(ours)
                listener.take(theirs, peer=(ip, 1), local=LOCAL)
                return ours.recv(10)

            assert arrive("192.0.2.7") == b"served"
            assert arrive("192.0.2.7") == b"served"
            for line in zygote.lines:
                line.send(write(FromMonitor(logged_in=True)))
            await until(lambda: listener.counters.logged_in == 2)
            assert arrive("192.0.2.7") == b""
            assert arrive("192.0.2.8") == b"served"
            assert arrive("192.0.2.9") == b""
            assert listener.counters.dropped_full == 2
            zygote.lines[0].close()
            await until(lambda: listener.counters.connections == 2)
            assert arrive("192.0.2.7") == b"served"
            for end in ends:
                end.close()

    run(body)


# --- a jump host: what its visitors want


WANTED = Wanted(number=7, host="web-1", port=22, user="alice", roles=[], traits={}, bot_id="")


async def wishing(
    listener: SshListener, zygote: PaperZygote, *, logged_in: bool = True
) -> socket.socket:
    """A visitor's monitor."""
    client, theirs = socket.socketpair()
    listener.take(theirs, peer=PEER, local=LOCAL)
    client.close()
    line = zygote.lines[-1]
    if logged_in:
        before = listener.counters.logged_in
        line.send(write(FromMonitor(logged_in=True)))
        await until(lambda: listener.counters.logged_in > before)
    line.settimeout(60)
    return line


async def until(condition: Callable[[], object]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 30 s")


def test_a_wish_is_answered_with_a_way_or_a_reason(run: Run) -> None:
    async def body() -> None:
        wishes: list[Wish] = []
        async with listening(wishes.append) as (listener, zygote):
            line = await wishing(listener, zygote)
            for _ in range(2):
                line.send(write(FromMonitor(wanted=WANTED)))
            await until(lambda: len(wishes) == 2)
            assert wishes[0].wanted == WANTED
            assert wishes[0].client == PEER
            wishes[1].refuse("there is none")
            said, fds, _, _ = socket.recv_fds(line, 4096, 2)
            assert read(ToMonitor, said, limit=4096).found == Found(
                number=7, ok=False, reason="there is none"
            )
            assert not fds
            ours, theirs = socket.socketpair()
            assert wishes[0].grant(theirs)
            theirs.close()
            said, fds, _, _ = socket.recv_fds(line, 4096, 2)
            assert read(ToMonitor, said, limit=4096).found == Found(number=7, ok=True)
            way = socket.socket(fileno=fds[0])
            way.send(b"through")
            assert ours.recv(10) == b"through"
            for end in (way, ours):
                end.close()

    run(body)


def test_a_wish_of_somebody_who_has_gone_is_granted_to_nobody(run: Run) -> None:
    async def body() -> None:
        wishes: list[Wish] = []
        async with listening(wishes.append) as (listener, zygote):
            line = await wishing(listener, zygote)
            line.send(write(FromMonitor(wanted=WANTED)))
            await until(lambda: wishes)
            line.close()
            await until(lambda: not listener.counters.connections)
            ours, theirs = socket.socketpair()
            assert not wishes[0].grant(theirs)
            wishes[0].refuse("too late")
            theirs.close()
            assert ours.recv(10) == b""
            ours.close()

    run(body)


@pytest.mark.parametrize("case", ["no jump host", "no login", "too many", "too long"])
def test_a_monitor_that_wants_what_it_may_not_is_heard_no_more(run: Run, case: str) -> None:
    async def body() -> None:
        wishes: list[Wish] = []
        hear = None if case == "no jump host" else wishes.append
        async with listening(hear) as (listener, zygote):
            line = await wishing(listener, zygote, logged_in=case != "no login")
            host = "x" * 70_000 if case == "too long" else "web-1"
            said = write(FromMonitor(wanted=msgspec.structs.replace(WANTED, host=host)))
            for _ in range(33 if case == "too many" else 1):
                line.send(said)
            await until(lambda: not listener.counters.connections)
            assert line.recv(10) == b""
            assert len(wishes) == (32 if case == "too many" else 0)

    run(body)


def test_people_behind_a_proxy_do_not_pay_for_each_other(run: Run) -> None:
    """All come from its address, and one who misbehaves must not lock the others out."""

    async def body() -> None:
        penalties = dict.fromkeys(Outcome, 60.0)
        limits = {"per_source": 1, "queue_per_source": 0, "connections_per_source": 2}
        async with listening(penalties=penalties, **limits) as (listener, zygote):
            listener.share([PEER[0], "2001:db8::1"])
            ends = []

            def arrive(ip: str) -> bytes:
                ours, theirs = socket.socketpair()
                ends.append(ours)
                listener.take(theirs, peer=(ip, 1), local=LOCAL)
                return ours.recv(10)

            assert [arrive(PEER[0]) for _ in range(4)] == [b"served"] * 4
            zygote.lines[0].send(write(FromMonitor(outcome=Outcome.CRASH)))
            zygote.lines[0].close()
            await until(lambda: listener.counters.connections == 3)
            assert arrive(PEER[0]) == b"served"
            assert [arrive("192.0.2.8") for _ in range(2)] == [b"served", b""]
            listener.share([])
            assert arrive(PEER[0]) == b""
            assert listener.counters.dropped_penalty == 1
            for end in ends:
                end.close()

    run(body)


@pytest.mark.parametrize("accepted", [False, True], ids=["in the queue", "accepted"])
def test_what_a_monitor_says_on_its_way_back_is_not_lost_when_we_close(
    run: Run, tmp_path: Path, accepted: bool
) -> None:
    """To the monitor it is told, as soon as it is sent."""

    async def body() -> None:
        events: list[AgentEvent] = []
        async with listening(on_event=events.append, returns=tmp_path) as (listener, _):
            line = call_daemon(tmp_path)
            if accepted:
                assert listener._returns is not None
                waiting = listener._returns._waiting
                await until(lambda: waiting)
            # From here on the loop has no turn before it closes.
            line.send(write(FromMonitor(hello=Hello(peer=PEER, local=LOCAL, logged_in=True))))
            event = AgentEvent(kind="session.end", code="T2004I", at=1.0, outcome="ok", facts={})
            line.send(write(FromMonitor(event=event)))
            await listener.close()
            assert events == [event]
            with pytest.raises(BrokenPipeError):  # so that this one is kept for the next daemon
                line.send(write(FromMonitor(event=event)))
            line.close()

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
