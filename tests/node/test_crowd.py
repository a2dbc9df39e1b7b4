"""200 connections at once, with some among them that misbehave; nobody else is the worse for it.

Times are only compared with times of the same run, a few seconds apart, on the same connections.
"""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest

from tests.node.house import ME, House, running
from tests.support import eventually

CROWD, BUSY = 200, 50
AT_ONCE = 6  # logins; more of them from one address wait in a queue
ROUNDS = 10  # of traffic, and of one word from each of the busy ones, one after the other
TRAFFIC = 16_000  # bytes there and back for each of the busy ones in a round
# A machine that others use, too, stutters: nothing hangs on the slowest round trips, and who
# fails is asked again, against quiet of its own. What is really in the way stays there.
WORSE, ATTEMPTS = 2.0, 6
FLOOR = 0.0005  # seconds; a doubled time below that says nothing

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A node of its own, whose worker a test may stop."""
    with running(tmp_path_factory.mktemp("hall")) as house:
        yield house


class Guest:
    """Somebody with a shell that repeats what it hears."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self.connection, self.broker = connection, 0

    async def settle(self) -> None:
        self._cat = await self.connection.create_process("echo $PPID; exec cat", encoding=None)
        self.broker = int(await self._cat.stdout.readline())

    async def says(self, words: bytes) -> float:
        """Seconds until they are heard back."""
        began = time.perf_counter()
        self._cat.stdin.write(words + b"\n")
        assert await self._cat.stdout.readline() == words + b"\n"
        return time.perf_counter() - began


async def arrive(house: House, door: asyncio.Semaphore, key: str) -> Guest:
    async with door:
        connection = await asyncssh.connect(
            "127.0.0.1",
            house.port,
            username=ME,
            client_keys=[key],
            known_hosts=str(house.known_hosts),
            agent_path=None,
            config=None,
            encryption_algs=["aes128-gcm@openssh.com"],
            kex_algs=["curve25519-sha256@libssh.org"],
            connect_timeout=120,
            login_timeout=120,
        )
        guest = Guest(connection)
        await guest.settle()
        return guest


async def gathering(house: House, size: int) -> list[Guest]:
    door, key = asyncio.Semaphore(AT_ONCE), str(house.visitor().key)
    return list(await asyncio.gather(*(arrive(house, door, key) for _ in range(size))))


async def round_trips(guests: Sequence[Guest]) -> list[float]:
    """Timed one after the other, so that it is the node and not our own queue."""
    times = []
    for number in range(ROUNDS):
        await asyncio.gather(*(guest.says(b"t" * TRAFFIC) for guest in guests))
        times += [await guest.says(b"%d" % number) for guest in guests]
    return times


def slower(before: Sequence[float], after: Sequence[float]) -> str:
    """Why `after` is worse than can be, "" if it is not."""
    for name, share in (("median", 50), ("upper quarter", 75), ("95 of 100", 95)):
        quiet, loud = (statistics.quantiles(times, n=100)[share - 1] for times in (before, after))
        if loud > WORSE * max(quiet, FLOOR):
            return f"{name}: {quiet * 1e3:.2f} ms alone, {loud * 1e3:.2f} ms with them"
    return ""


# --- those who misbehave; each begins, and gives back what ends it

Bad = Callable[[House, Guest], Awaitable[Callable[[], None]]]


async def is_stopped(house: House, guest: Guest) -> Callable[[], None]:
    """The process that serves them hangs, with more to read than its socket holds."""
    monitor = parent(guest.broker)
    [worker] = [pid for pid in house.named("tl-ssh-worker") if parent(pid) == monitor]
    os.kill(worker, signal.SIGSTOP)
    guest._cat.stdin.write(bytes(1 << 20))

    def end() -> None:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)

    return end


async def talks_garbage(house: House, guest: Guest) -> Callable[[], None]:
    """After the login, in place of the next packet."""
    transport = guest.connection._transport
    assert transport is not None
    transport.write(os.urandom(1 << 20))
    await asyncio.wait_for(guest.connection.wait_closed(), 60)
    return lambda: None


async def never_reads(house: House, guest: Guest) -> Callable[[], None]:
    """What their shell prints for ever comes to stand in windows and buffers."""
    transport = guest.connection._transport
    assert transport is not None
    await guest.connection.create_process("cat /dev/zero", encoding=None)
    transport.pause_reading()
    return transport.abort


BAD: tuple[Bad, ...] = (is_stopped, talks_garbage, never_reads)


def parent(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("PPid:")).split()[1])


async def disturbed(house: House, crowd: list[Guest]) -> str:
    """Quiet first, then with three who misbehave, who leave `crowd`, and then without them again:
    what is as slow when they are gone was not slowed down by them."""
    busy = crowd[:BUSY]
    before = await round_trips(busy)
    ends = [await bad(house, crowd.pop()) for bad in BAD]
    try:
        loud = await round_trips(busy)
    finally:
        for end in ends:
            end()
    why = slower(before, loud)
    return why and slower(await round_trips(busy), loud)


async def whole(house: House) -> None:
    crowd = await gathering(house, CROWD)
    try:
        brokers = {guest.broker for guest in crowd}
        assert len(brokers) == CROWD  # processes of their own
        why = ""
        for _ in range(ATTEMPTS):
            why = await disturbed(house, crowd)
            if not why:
                break
        assert not why
        for guest in crowd:
            await guest.says(b"still here")
    finally:
        for guest in crowd:
            guest.connection.abort()


def test_those_who_misbehave_slow_down_nobody_else(hall: House) -> None:
    asyncio.run(whole(hall))
    eventually(lambda: not hall.named("tl-ssh-worker"), what="the workers to end")


def test_it_would_be_noticed() -> None:
    quiet = [0.001 + n / 1e6 for n in range(500)]
    assert not slower(quiet, [each * 1.9 for each in quiet])
    assert slower(quiet, [each * 2.5 for each in quiet]).startswith("median")
    assert slower(quiet, [*quiet[:-60], *[1.0] * 60]).startswith("95 of 100")
