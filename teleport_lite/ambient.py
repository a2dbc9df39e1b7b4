"""Time and chance, the two things every process breathes. The only module that asks for them.

Both are handed in by constructor, so that tests move the clock and know every identifier.
"""

import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall time, aware, in UTC. For everything written into a certificate or a table."""

    def monotonic(self) -> float:
        """Seconds that never run backwards. For timeouts and intervals."""

    def uptime(self) -> float:
        """Likewise, and they go on while the host is suspended. For how old something is."""


class Chance(Protocol):
    def token(self, size: int) -> str:
        """`size` random bytes as lower-case hex; 16 make a join token that cannot be guessed."""

    def uuid(self) -> str:
        """A random UUID (RFC 9562, version 4)."""

    def bytes(self, size: int) -> bytes: ...

    def uniform(self, low: float, high: float) -> float:
        """A number for jitter; not for secrets."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def uptime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)  # clock_gettime(2)


class SystemChance:
    def token(self, size: int) -> str:
        return secrets.token_hex(size)

    def uuid(self) -> str:
        return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))

    def bytes(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * secrets.randbelow(1 << 32) / (1 << 32)
