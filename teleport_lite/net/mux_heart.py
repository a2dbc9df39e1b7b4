"""Is the other side still there? One timer for all tunnels of a loop.

A connection can be dead without a word: a NAT forgets it, a machine is unplugged, a process is
stopped. TCP would notice after minutes, or never when the kernel still answers for a stopped
process. So each side counts the seconds since it last heard anything at all, asks after INTERVAL
of silence, and gives up after DEADLINE.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds."""

    # Of silence until a PING. The side that was dialled waits half as long again: as a rule it
    # hears the other's PING before, and one question each way is enough to keep a NAT awake.
    interval: float = 5.0
    # Of silence until the tunnel counts as dead. Looked at every fifth of an interval.
    deadline: float = 15.0
    # From the first packet to the end of TLS and the first word.
    greeting: float = 10.0


class Beating(Protocol):
    """A tunnel, as seen from here."""

    heard: float  # when anything arrived last, in the loop's time
    asked: float  # when the last PING left
    patience: float  # of silence until a PING
    greeted: bool

    def ping(self) -> None: ...
    def die(self, why: str) -> None: ...


class Heart:
    """Runs its timer only while there are tunnels."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self._tick = self.pace.interval / 5
        self._all: set[Beating] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._expected = 0.0

    def add(self, tunnel: Beating) -> None:
        self._all.add(tunnel)
        if self._timer is None:
            self._again(asyncio.get_running_loop())

    def discard(self, tunnel: Beating) -> None:
        self._all.discard(tunnel)
        if not self._all and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._expected = loop.time() + self._tick
        self._timer = loop.call_at(self._expected, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        pace, now = self.pace, loop.time()
        # We were stopped, or busy: what the others said meanwhile has not been read yet.
        late = max(0.0, now - self._expected)
        for tunnel in list(self._all):
            if late > self._tick:
                tunnel.heard += late
            silent = now - tunnel.heard
            if not tunnel.greeted and silent > pace.greeting:
                tunnel.die(f"did not finish its greeting within {pace.greeting:.0f} s")
            elif silent > pace.deadline:
                tunnel.die(f"nothing was heard for {silent:.0f} s")
            elif tunnel.greeted and silent >= tunnel.patience <= now - tunnel.asked:
                tunnel.ping()
        if self._all:
            self._again(loop)
        else:
            self._timer = None
