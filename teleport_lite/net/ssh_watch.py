"""What a connection waits for, and on whose behalf. Kept from turn to turn.

poll(2) and not epoll: a descriptor that its owner has closed while another process still has the
file open, as the broker has every terminal, could not be taken out of an epoll set any more, and
would be reported for ever. A connection has few descriptors; those of a poll object are only
rebuilt when one changes.
"""

import select
from collections.abc import Mapping

Wishes = Mapping[int, int]
_NONE: Wishes = {}


class Watch:
    """`owner` is any number; each has its own descriptors, and says for what events."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._wishes: dict[int, Wishes] = {}
        self._owners: dict[int, int] = {}

    def change(self, wishes: Mapping[int, Wishes]) -> None:
        """From now on those owners wait for this. First the old goes, then the new comes: a
        descriptor that one has closed may be another's by now."""
        changed = {
            owner: new for owner, new in wishes.items() if new != self._wishes.get(owner, _NONE)
        }
        for owner, new in changed.items():
            for fd in self._wishes.get(owner, _NONE).keys() - new.keys():
                if self._owners.get(fd) == owner:
                    self._forget(fd)
        for owner, new in changed.items():
            old = self._wishes.get(owner, _NONE)
            for fd, events in new.items():
                if old.get(fd) != events or self._owners.get(fd) != owner:
                    self._poll.register(fd, events)
                    self._owners[fd] = owner
            if new:
                self._wishes[owner] = new
            else:
                self._wishes.pop(owner, None)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """Descriptors and what has happened to them; None waits for ever."""
        found = self._poll.poll(None if seconds is None else seconds * 1000 + 1)
        for fd, events in found:
            if events & select.POLLNVAL:  # closed behind our back; or we would spin
                self._forget(fd)
        return found

    def owner(self, fd: int) -> int | None:
        return self._owners.get(fd)

    def _forget(self, fd: int) -> None:
        self._poll.unregister(fd)
        owner = self._owners.pop(fd)
        wishes = self._wishes.get(owner, _NONE)
        self._wishes[owner] = {each: events for each, events in wishes.items() if each != fd}
