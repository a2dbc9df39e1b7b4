"""Events that were told while no daemon was there, on their way to auth."""

import logging
import threading

from teleport_lite.agent.link import Outbox
from teleport_lite.audit.spool import Spool, Taken
from teleport_lite.errors import Error

log = logging.getLogger("teleport_lite.agent")

# Seconds between looks.
EVERY = 1.0
# Events that wait for auth already: what comes from the disk must not push out what happens now.
_BUSY = 200


class Backlog:
    """`look` every EVERY seconds; `keep` at the end, when a last look may still be under way."""

    def __init__(self, spool: Spool, outbox: Outbox) -> None:
        self._spool, self._outbox = spool, outbox
        self._guard = threading.Lock()  # guards the three below
        self._taken: Taken | None = None
        self._until = 0
        self._over = False

    def look(self) -> bool:
        """Hand on the next segment, once auth has the one before. True if there was one."""
        with self._guard:
            return not self._over and self._look()

    def _look(self) -> bool:
        if self._taken is not None:
            if self._outbox.gone_ever < self._until:
                return False
            self._spool.done(self._taken)
            self._taken = None
        if len(self._outbox) > _BUSY:
            return False
        try:
            self._taken = self._spool.take()
        except (Error, OSError) as why:
            log.warning("events of sessions wait on disk and can not be read: %s", why)
        if self._taken is None:
            return False
        for event in self._taken.events:
            self._outbox.put(event)
        self._until = self._outbox.put_ever
        return True

    def keep(self) -> int:
        """Put what auth does not have yet on disk, for the next daemon. Returns how many.

        Where the disk or the spool is full a segment stays as it was: better told twice.
        """
        with self._guard:
            self._over = True
            left = self._outbox.all()
            kept = [self._spool.put(event) for event in left]
            if self._taken is not None and all(kept):
                self._spool.done(self._taken)
            self._taken = None
            return len(left)
