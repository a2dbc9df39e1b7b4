"""A clock that tests move, and chance that is no chance: for code that takes Clock and Chance.

    clock, chance = FakeClock(), FakeChance()
    desk = Desk(clock=clock, chance=chance)
    clock.tick(minutes=30)

Both are safe from several threads.
"""

import hashlib
import itertools
import uuid
from datetime import UTC, datetime, timedelta

# A Monday noon, far from every change of day, month and year.
T0 = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class FakeClock:
    """Wall and monotonic time that stand still until told to move."""

    def __init__(self, start: datetime = T0) -> None:
        if start.tzinfo is None:
            raise ValueError("a clock needs a time zone")
        self._now = start
        self._since_start = self._suspended = 0.0

    @classmethod
    def here(cls) -> "FakeClock":
        """Starts at the real time, for tests in which OpenSSL looks at certificates too."""
        return cls(datetime.now(UTC).replace(microsecond=0))

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._since_start

    def uptime(self) -> float:
        return self._since_start + self._suspended

    def suspend(self, **span: float) -> None:
        """The host sleeps for so long, and its processes with it."""
        self._now += timedelta(**span)
        self._suspended += timedelta(**span).total_seconds()

    def tick(self, **span: float) -> None:
        """Time passes: `tick(minutes=30)`, in the words of timedelta."""
        passed = timedelta(**span)
        if passed < timedelta():
            raise ValueError("time does not pass backwards; to put the clock back, use set()")
        self._now += passed
        self._since_start += passed.total_seconds()

    def set(self, when: datetime) -> None:
        """Somebody sets the clock: wall time jumps, either way; monotonic time does not."""
        self._now = when


class FakeChance:
    """Every value once, and the same ones in every run."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._count = itertools.count(1)

    def token(self, size: int) -> str:
        return self.bytes(size).hex()

    def uuid(self) -> str:
        return str(uuid.UUID(bytes=self.bytes(16), version=4))

    def bytes(self, size: int) -> bytes:
        return hashlib.shake_256(f"{self._seed}{next(self._count)}".encode()).digest(size)

    def uniform(self, low: float, high: float) -> float:
        """Always the middle."""
        return (low + high) / 2
