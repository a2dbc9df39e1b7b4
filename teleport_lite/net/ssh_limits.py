"""Who may have how many connections that have not logged in. Pure: no sockets, no clock.

Everything here is decided before a process is forked for a stranger.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from teleport_lite.net.ssh_line import Outcome

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """OpenSSH's defaults where it has the same knob: MaxStartups, PerSourcePenalties."""

    # From `begin` on a share of `rate` percent is dropped, growing to all of them at `full`.
    begin: int = 10
    rate: int = 30
    full: int = 100
    per_source: int = 8
    # Beyond that a source's connections wait, unforked, for one of its own to log in or go:
    # ten at once from one machine are a script, not an attack.
    queue_per_source: int = 8
    queue: int = 256
    # Connections of people who have logged in count here, too: each is two or three processes.
    connections: int = 8192
    connections_per_source: int = 2048
    penalties: dict[Outcome, float] = field(
        default_factory=lambda: {
            Outcome.AUTH_FAILED: 5.0,
            Outcome.INVALID_USER: 5.0,
            Outcome.NO_AUTH: 1.0,
            Outcome.GRACE: 10.0,
            Outcome.CRASH: 90.0,
        }
    )
    # Below it a penalty only adds up; from it on the source is refused, at most that long.
    penalty_min: float = 15.0
    penalty_max: float = 600.0
    penalty_sources: int = 65_536
    # Never punished. Everybody behind a proxy on this host comes from its own address.
    exempt: tuple[Network, ...] = (
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    )


class Step(StrEnum):
    START = "start"
    WAIT = "wait"
    DROP = "drop"


class Startups:
    """Counts connections without a login, by source."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._started: Counter[str] = Counter()
        self._queued: Counter[str] = Counter()

    @property
    def started(self) -> int:
        return self._started.total()

    def arrive(self, source: str, dice: float, *, shared: bool = False) -> Step:
        """`dice` is a number from 0 to 100. Counts it, unless the answer is DROP.

        Behind a `shared` source are many people: the limit of one is not for it.
        """
        if not shared and self._started[source] >= self._limits.per_source:
            return self._queue(source)
        if self._unlucky(dice):
            return Step.DROP
        self._started[source] += 1
        return Step.START

    def leave(self, source: str) -> None:
        """One that had started has logged in or is gone."""
        _take(self._started, source)

    def start_waiting(self, source: str, dice: float) -> Step:
        """One that waited takes the place of one that left, or is dropped after all."""
        _take(self._queued, source)
        if self._unlucky(dice):
            return Step.DROP
        self._started[source] += 1
        return Step.START

    def _queue(self, source: str) -> Step:
        full = self._queued.total() >= self._limits.queue
        if full or self._queued[source] >= self._limits.queue_per_source:
            return Step.DROP
        self._queued[source] += 1
        return Step.WAIT

    def _unlucky(self, dice: float) -> bool:
        limits, now = self._limits, self.started
        if now < limits.begin:
            return False
        if now >= limits.full:
            return True
        # sshd(8), MaxStartups: from `rate` percent at `begin` linearly to all at `full`.
        share = (now - limits.begin) / (limits.full - limits.begin)
        return dice < limits.rate + (100 - limits.rate) * share


class Penalties:
    """Sources that misbehave stay outside for a while (sshd_config(5), PerSourcePenalties)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._until: dict[str, float] = {}
        self._refused: set[str] = set()

    def punish(self, source: str, outcome: Outcome, now: float) -> None:
        if self._exempt(source):
            return
        if source not in self._until and len(self._until) >= self._limits.penalty_sources:
            self._forget(now)
        until = max(self._until.get(source, now), now) + self._limits.penalties[outcome]
        self._until[source] = min(until, now + self._limits.penalty_max)
        if self._until[source] - now >= self._limits.penalty_min:
            self._refused.add(source)

    def refuses(self, source: str, now: float) -> bool:
        until = self._until.get(source)
        if until is None:
            return False
        if until <= now:
            del self._until[source]
            self._refused.discard(source)
            return False
        return source in self._refused

    def _exempt(self, source: str) -> bool:
        try:
            network = ipaddress.ip_network(source)
        except ValueError:
            return False  # no address, as whoever took the connection in has told it
        return any(
            network.version == each.version and network.subnet_of(each)  # type: ignore[arg-type]
            for each in self._limits.exempt
        )

    def _forget(self, now: float) -> None:
        """Make room: those whose time is over, or else whoever is nearest to it."""
        over = [source for source, until in self._until.items() if until <= now]
        for source in over or [min(self._until, key=lambda each: self._until[each])]:
            del self._until[source]
            self._refused.discard(source)


def _take(counter: Counter[str], source: str) -> None:
    counter[source] -= 1
    if counter[source] <= 0:
        del counter[source]
