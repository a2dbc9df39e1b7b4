"""The way of events to auth: through memory while it takes them, else by the disk.

    tell --> outbox ----------------------------> auth      auth is there, nothing waits
    tell --> late --> spool --> outbox ---------> auth      it is away, or has much to catch up with

The order is always the same: what is in the outbox is older than what is in the spool, and that is
older than what is late. So the story of a session stays in order, whatever is away for how long.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from teleport_lite.agent.outbox import Outbox
from teleport_lite.audit.spool import Spool, Taken
from teleport_lite.errors import Error
from teleport_lite.proto.stream import AgentEvent

log = logging.getLogger("teleport_lite.agent")

# Seconds between looks, and while there is something to hand on.
EVERY, AT_ONCE = 1.0, 0.02
# Events that wait for auth already: what comes from the disk must not push out what happens now.
_BUSY = 200
# Events in memory before the disk is asked, though auth is there.
_MANY = 1000
# Events in memory while the disk takes none; the newest go, so that the beginning is told.
MAX_LATE = 5000
# Looks in vain between two lines of the log: a minute.
_SAY_EACH = 60


class Backlog:
    """`look` every EVERY seconds; `keep` at the end, when a last look may still be under way.

    All methods from any thread.
    """

    def __init__(
        self, spool: Spool, outbox: Outbox, flows: Callable[[], bool] = lambda: True
    ) -> None:
        """`flows` says whether auth takes events now."""
        self._spool, self._outbox, self._flows = spool, outbox, flows
        self._guard = threading.Lock()  # guards all below
        self._late: deque[AgentEvent] = deque()
        self._lost = 0  # since the disk took one
        self._taken: Taken | None = None
        self._until = self._in_vain = 0
        self._over = False

    def tell(self, event: AgentEvent) -> None:
        """Never raises, and never waits for auth."""
        with self._guard:
            if self._over:
                self._spool.put(event)
            elif self._is_clear():
                self._outbox.put(event)
            else:
                self._postpone(event)

    def look(self) -> bool:
        """Hand on the next segment, once auth has the one before. True if there was one."""
        with self._guard:
            return not self._over and self._look()

    def pause(self) -> float:
        """Seconds until the next look."""
        with self._guard:
            return AT_ONCE if self._taken is not None and self._flows() else EVERY

    def waiting(self) -> bool:
        """Is there anything that auth does not have yet?"""
        with self._guard:
            return bool(len(self._outbox) or self._late or self._spool.waiting())

    def _is_clear(self) -> bool:
        """May an event go by memory alone? Not past others that wait."""
        waiting = self._late or self._taken is not None or self._spool.waiting()
        return not waiting and self._flows() and len(self._outbox) < _MANY

    def _postpone(self, event: AgentEvent) -> None:
        self._save_outbox()
        if not self._flush() or not self._spool.offer(event):
            self._hold(event)

    def _hold(self, event: AgentEvent) -> None:
        """The disk takes nothing now."""
        if len(self._late) < MAX_LATE:
            self._late.append(event)
        else:
            self._lost += 1

    def _save_outbox(self) -> None:
        """While auth is away a crash of ours loses nothing. Not with later ones on the disk: the
        order would be another."""
        if self._flows() or self._taken is not None or self._spool.waiting():
            return
        self._late.extendleft(reversed(self._outbox.empty()))

    def _flush(self) -> bool:
        """Put what is late on the disk. True if nothing is, now."""
        while self._late:
            if not self._spool.offer(self._late[0]):
                return False
            self._late.popleft()
        if self._lost:
            self._spool.count_lost(self._lost)
            log.warning("%d audit events were dropped: the disk took none", self._lost)
            self._lost = 0
        return True

    def _look(self) -> bool:
        self._save_outbox()
        self._flush()
        if self._taken is not None:
            if self._outbox.gone_ever < self._until:
                return False
            self._spool.done(self._taken)
            self._taken = None
        if len(self._outbox) > _BUSY:
            return False
        try:
            self._taken, self._in_vain = self._spool.take(), 0
        except (Error, OSError) as why:
            if self._in_vain % _SAY_EACH == 0:
                log.warning("events of sessions wait on disk and can not be read: %s", why)
            self._in_vain += 1
        if self._taken is None:
            return self._hand_on_late()
        for event in self._taken.events:
            self._outbox.put(event)
        self._until = self._outbox.put_ever
        return True

    def _hand_on_late(self) -> bool:
        """The disk is full and has nothing of ours, but auth listens."""
        if not self._flows() or self._spool.waiting():
            return False
        count = min(len(self._late), _MANY - len(self._outbox))
        for _ in range(count):
            self._outbox.put(self._late.popleft())
        return count > 0

    def keep(self) -> int:
        """Put what auth does not have yet on disk, for the next daemon. Returns how many.

        Where the disk or the spool is full a segment stays as it was: better told twice.
        """
        with self._guard:
            self._over = True
            first = self._outbox.all()
            left = [*first, *self._late]
            if (first or self._taken) and self._spool.put_first(first, instead=self._taken):
                first = []
            kept = [self._spool.put(event) for event in (*first, *self._late)]
            if self._lost:
                self._spool.count_lost(self._lost)
            if self._taken is not None and first and all(kept):
                self._spool.done(self._taken)
            self._taken = None
            self._late.clear()
            return len(left)
