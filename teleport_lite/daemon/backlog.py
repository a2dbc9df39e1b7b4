"""Events that were told while no daemon was there, on their way to auth."""

import logging

from teleport_lite.agent.link import Outbox
from teleport_lite.audit.spool import Spool, Taken
from teleport_lite.errors import Error

log = logging.getLogger("teleport_lite.agent")

# Seconds between looks.
EVERY = 1.0
# Events that wait for auth already: what comes from the disk must not push out what happens now.
_BUSY = 200


class Backlog:
    """`look` every EVERY seconds, from one thread at a time; `keep` at the end."""

    def __init__(self, spool: Spool, outbox: Outbox) -> None:
        self._spool, self._outbox = spool, outbox
        self._taken: Taken | None = None
        self._until = 0

    def look(self) -> bool:
        """Hand on the next segment, once auth has the one before. True if there was one."""
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
        """Put what auth does not have yet on disk, for the next daemon. Returns how many."""
        left = self._outbox.all()
        for event in left:
            self._spool.put(event)
        if self._taken is not None:
            self._spool.done(self._taken)
            self._taken = None
        return len(left)
