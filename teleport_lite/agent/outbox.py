"""Audit events on their way to auth, in memory; what does not fit waits on disk (`backlog.py`)."""

from collections import deque
from threading import Lock

from teleport_lite.proto.stream import AgentEvent

# Events of some minutes of a busy host; the oldest that were not sent go first, and how many is
# said.
MAX_EVENTS = 2000
EVENTS_A_FRAME = 100


class Outbox:
    """Events until auth has them; bounded. Put from any thread.

    One frame is under way at a time, so that an answer is for that one and no other. An event may
    arrive twice, when a connection breaks between auth's trail and its answer.
    """

    def __init__(self) -> None:
        self._guard = Lock()  # guards all below
        self._events: deque[AgentEvent] = deque()
        self._sent: list[AgentEvent] = []
        self._alone = 0  # so many more are sent one at a time
        self.lost = 0
        self.put_ever = self.gone_ever = 0  # gone: auth has them, or they were dropped

    def __len__(self) -> int:
        """Those that auth does not have, sent or not."""
        with self._guard:
            return self._count()

    def _count(self) -> int:
        return len(self._events) + len(self._sent)

    def put(self, event: AgentEvent) -> None:
        with self._guard:
            if self._count() >= MAX_EVENTS:
                self._events.popleft()
                self.lost += 1
                self.gone_ever += 1
            self._events.append(event)
            self.put_ever += 1

    def take(self) -> list[AgentEvent]:
        """The next ones to send: none while others are under way. `taken` is told when auth has
        them, or `send_again`."""
        with self._guard:
            if self._sent:
                return []
            count = 1 if self._alone else EVENTS_A_FRAME
            self._sent = [self._events.popleft() for _ in range(min(count, len(self._events)))]
            return list(self._sent)

    def taken(self, count: int) -> None:
        with self._guard:
            gone = min(count, len(self._sent))
            del self._sent[:gone]
            self.gone_ever += gone
            self._alone = max(0, self._alone - gone)

    def count_lost(self) -> int:
        """How many were dropped since this was last asked."""
        with self._guard:
            lost, self.lost = self.lost, 0
            return lost

    def send_again(self) -> None:
        """The connection has ended, and nobody knows what became of those that were sent; or auth
        has said that it did not take them."""
        with self._guard:
            self._events.extendleft(reversed(self._sent))
            self._sent = []

    def refused(self) -> AgentEvent | None:
        """Auth can not read something of what was sent: all of it goes again, one at a time. The
        one that is refused alone is dropped, and returned."""
        with self._guard:
            if len(self._sent) == 1:
                self.gone_ever += 1
                self._alone = max(0, self._alone - 1)
                return self._sent.pop()
            self._alone = len(self._sent)
            return None

    def empty(self) -> list[AgentEvent]:
        """Take all of them out, to keep them elsewhere; none while some are under way."""
        with self._guard:
            if self._sent:
                return []
            found = list(self._events)
            self._events.clear()
            self._alone = 0
            self.gone_ever += len(found)
            return found

    def all(self) -> list[AgentEvent]:
        with self._guard:
            return [*self._sent, *self._events]
