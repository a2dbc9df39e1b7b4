"""Standard error, when it is the journal: that knows the time, and reads a priority from a line.

systemd.exec(5): $JOURNAL_STREAM has device and inode of the stream. sd-daemon(3): "<N>" at the
beginning of each line is its priority, as in syslog(3).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress

VARIABLE = "JOURNAL_STREAM"
# Characters, of up to four bytes each. LineMax= of journald.conf(5) is 48 KiB.
_LONGEST = 8192
ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7


def is_journal(descriptor: int) -> bool:
    """A descriptor that was led elsewhere since is not, whatever the variable says."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get(VARIABLE) == f"{found.st_dev}:{found.st_ino}"


def prefixed(text: str, priority: int) -> str:
    """Each line of it: one without would be of the unit's usual priority.

    A line that is too long the journal breaks, and reads a priority where the rest begins: whoever
    the line tells of could choose one there, and 0 is shown on all terminals.
    """
    pieces = (piece for line in text.splitlines() for piece in _pieces(line))
    return "\n".join(f"<{priority}>{piece}" for piece in pieces)


def _pieces(line: str) -> Iterator[str]:
    for at in range(0, max(len(line), 1), _LONGEST):
        yield line[at : at + _LONGEST]


def complain(text: str, priority: int = ERROR) -> None:
    """Lines for standard error, in one piece, from a process that has no log of its own."""
    if is_journal(2):
        text = prefixed(text, priority)
    with suppress(OSError, ValueError):  # it is closed; there is nowhere left to say it
        sys.stderr.write(f"{text.rstrip()}\n")
        sys.stderr.flush()
