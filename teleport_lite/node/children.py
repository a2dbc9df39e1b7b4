"""Knowing when a child process ends, without a thread and without work in a signal handler."""

import os
import signal
from contextlib import suppress


class Children:
    """One per process. `fileno` turns readable when some child has ended."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Python's own handler, in C, writes a byte; ours has nothing to do.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._read

    def ended(self) -> dict[int, int]:
        """Wait statuses by process id, of all that have ended since the last call."""
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
        found: dict[int, int] = {}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            found[pid] = status
