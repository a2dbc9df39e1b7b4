"""Looks after the store of auth, and says how it is: when it changes, and every ten seconds."""

import logging
from collections.abc import Callable
from typing import Protocol

from teleport_lite.ambient import Clock
from teleport_lite.store.health import StoreHealth

log = logging.getLogger("teleport_lite.auth")

# Seconds between looks: a disk that has room again is used within two of them.
LOOK_EVERY = 1.0
# Nobody wants to read it more often.
SAY_EVERY = 10.0


class Tended(Protocol):
    """A store, as far as it is looked after."""

    @property
    def health(self) -> StoreHealth: ...
    def look(self) -> str: ...


class StoreWatch:
    """`tick` every LOOK_EVERY seconds, from any one thread."""

    def __init__(
        self, store: Tended, clock: Clock, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """`tell` hears "read-only: the disk is full", and "" when all is well again."""
        self._store, self._clock, self.tell = store, clock, tell
        self._words = ""
        self._since, self._refused = 0.0, 0
        self._said_at: float | None = None
        self._said = False  # of the trouble that there is now

    def tick(self) -> None:
        """News are said before it looks: where somebody holds a lock that takes seconds."""
        if self._store.health.trouble and not self._words:
            self._say(self._store.health.trouble)
        self._say(self._store.look())

    def _say(self, cause: str) -> None:
        now = self._clock.monotonic()
        words = f"read-only: {cause}" if cause else ""
        if words and not self._words:
            self._since, self._refused = now, self._store.health.refused
        if words != self._words:
            self.tell(words)
        # One that comes and goes every second is said every ten, too.
        if words and (self._said_at is None or now - self._said_at >= SAY_EVERY):
            self._said_at, self._said = now, True
            log.error("auth is %s; %d changes were refused", words, self._count())
        elif self._said and not words:
            self._said = False
            seconds = now - self._since
            log.warning(
                "auth writes again, after %.0f s; %d changes were refused meanwhile",
                seconds,
                self._count(),
            )
        self._words = words

    def _count(self) -> int:
        return self._store.health.refused - self._refused
