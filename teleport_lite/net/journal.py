"""Standard error, when it is the journal: that knows the time, and reads a priority from a line.

systemd.exec(5): $JOURNAL_STREAM has device and inode of the stream. sd-daemon(3): "<N>" at the
beginning of each line is its priority, as in syslog(3).
"""

import os
import sys
from contextlib import suppress

VARIABLE = "JOURNAL_STREAM"
ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7


def is_journal(descriptor: int) -> bool:
    """A descriptor that was led elsewhere since is not, whatever the variable says."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get(VARIABLE) == f"{found.st_dev}:{found.st_ino}"


def prefixed(text: str, priority: int) -> str:
    """Each line of it: one without would be of the unit's usual priority."""
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


def complain(text: str, priority: int = ERROR) -> None:
    """Lines for standard error, in one piece, from a process that has no log of its own."""
    if is_journal(2):
        text = prefixed(text, priority)
    with suppress(OSError, ValueError):  # it is closed; there is nowhere left to say it
        sys.stderr.write(f"{text.rstrip()}\n")
        sys.stderr.flush()
