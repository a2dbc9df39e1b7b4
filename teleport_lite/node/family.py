"""The children of a monitor, by what they are, and how they ended."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterable

from teleport_lite.node.children import Children
from teleport_lite.node.confine import deaf_to_the_end
from teleport_lite.node.processes import fork_child, kill_children, kill_descendants

# For a process that has been killed to be gone, and for what it leaves behind to be found.
PATIENCE = 1.0
# For all that a visitor has left running, who may resist; and between looks at everything.
_SWEEP, _ROUND = 5.0, 0.05


class Family:
    """Readable (`fileno`) when one of them has ended, or all have to; then call `look`.

    Systemd sends SIGTERM to everybody when the host goes down, or when an administrator stops the
    unit. The monitor hears it for all: they end in their order, and clients are told.
    """

    def __init__(self, title: str) -> None:
        self.title = title  # of the processes, as ps shows them
        self.told_to_end = ""  # why
        self._children = Children()
        signal.signal(signal.SIGTERM, self._hear)
        self._pids: dict[str, int] = {}
        self._statuses: dict[int, int] = {}

    def fileno(self) -> int:
        return self._children.fileno()

    def start(self, who: str, body: Callable[[], None], keep: Iterable[int]) -> int:
        """Fork one that runs `body` with no descriptors but `keep`. Returns its process id."""

        def deaf() -> None:
            deaf_to_the_end()
            body()

        self._pids[who] = fork_child(f"{self.title}-{who}", deaf, keep)
        return self._pids[who]

    def _hear(self, _number: int, _frame: object) -> None:
        self.told_to_end = "this host ends its sessions"

    def look(self) -> None:
        """Of what else there is, daemons of visitors, any number may end here."""
        for pid, status in self._children.ended().items():
            if pid in self._pids.values():
                self._statuses[pid] = status

    def has_ended(self, who: str) -> bool:
        return who not in self._pids or self._pids[who] in self._statuses

    def status(self, who: str) -> int:
        """As wait(2) has it; 0 while it runs or when it never did."""
        return self._statuses.get(self._pids.get(who, 0), 0)

    def wait(self, who: str, seconds: float) -> bool:
        """Has `who` ended within that time?"""
        deadline = time.monotonic() + seconds
        while True:
            self.look()
            left = deadline - time.monotonic()
            if self.has_ended(who):
                return True
            if left <= 0:
                return False
            select.select([self._children], [], [], left)

    def end(self, who: str) -> None:
        if not self.wait(who, 0.0):
            os.kill(self._pids[who], signal.SIGKILL)
            self.wait(who, PATIENCE)

    def sweep(self) -> None:
        """Whatever a visitor has left running, daemons included. With root's hand, since the
        broker may have been stopped by the user it belongs to."""
        deadline = time.monotonic() + _SWEEP
        while kill_descendants() and time.monotonic() < deadline:
            again = time.monotonic() + _ROUND
            self._children.ended()
            while kill_children() and time.monotonic() < again:
                self._children.ended()
