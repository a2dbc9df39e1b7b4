"""Files of this host that must not be lost for a full disk: written now, else when there is room.

What auth says counts at once for what is in this process; other processes hear of it when it is
on the disk. Without this a full disk would end every connection to auth as soon as it is open.
"""

import logging
from collections.abc import Callable
from threading import Lock

from teleport_lite.ambient import Clock
from teleport_lite.errors import Error

log = logging.getLogger("teleport_lite.agent")

# Seconds between tries, and between lines in the log.
TRY_EVERY, SAY_EVERY = 5.0, 10.0

Write = Callable[[], None]


class Saving:
    """The latest of each name counts. From any thread."""

    def __init__(self, clock: Clock, tell: Callable[[str], None] = lambda _: None) -> None:
        """`tell` hears what can not be kept, and why; "" when all is kept again."""
        self._clock, self._tell = clock, tell
        self._guard = Lock()  # guards all below; held while files are written, so that none is old
        self._late: dict[str, tuple[Write, Write]] = {}
        self._told = ""
        self._said_at: float | None = None

    def save(self, name: str, write: Write, then: Write = lambda: None) -> None:
        """Do `write`, and `then` once it has succeeded. Never raises an Error of `write`."""
        with self._guard:
            self._late[name] = (write, then)
        self.retry()

    @property
    def pending(self) -> bool:
        return bool(self._late)

    def retry(self) -> None:
        """Try what is late."""
        done: list[Write] = []
        with self._guard:
            trouble = ""
            for name, (write, then) in list(self._late.items()):
                try:
                    write()
                except Error as why:
                    trouble = f"{name} can not be kept: {why.message}"
                    continue
                del self._late[name]
                done.append(then)
            self._say(trouble)
        for then in done:
            then()

    def _say(self, trouble: str) -> None:
        now = self._clock.monotonic()
        if trouble and (self._said_at is None or now - self._said_at >= SAY_EVERY):
            self._said_at = now
            log.warning("%s; tried again every %.0f s", trouble, TRY_EVERY)
        if trouble != self._told:
            self._told = trouble
            self._tell(trouble)
        if not trouble:
            self._said_at = None
