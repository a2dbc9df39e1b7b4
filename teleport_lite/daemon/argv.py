"""Keep `--token=...` out of the process list.

Everybody on the machine can read /proc/PID/cmdline. The kernel shows the memory the arguments
were given in, so the value is overwritten there (proc(5), arg_start in /proc/self/stat).
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path

_FLAG = b"--token"


def scrub() -> None:
    """Overwrite what stands behind every --token in this process's command line with x, in place.

    Every one: of a flag that is repeated the last counts, but the others can be read as well.
    Does nothing where it can not: on a kernel that hides the addresses the token stays visible.
    """
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
        fields = stat.rpartition(")")[2].split()
        # Fields 48 and 49 of proc(5), counted from 1; state, after the name, is field 3.
        start, end = int(fields[45]), int(fields[46])
        shown = Path("/proc/self/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return
    if not 0 < end - start < 1 << 20 or len(shown) != end - start:
        return
    for at, size in secrets(shown):
        ctypes.memset(start + at, ord("x"), size)


def secrets(shown: bytes) -> Iterator[tuple[int, int]]:
    """Where in a command line (words that end with NUL) the values of --token are: start, size."""
    at, is_next = 0, False
    for word in shown.split(b"\0"):
        if is_next:
            yield at, len(word)
        elif word.startswith(_FLAG + b"="):
            yield at + len(_FLAG) + 1, len(word) - len(_FLAG) - 1
        is_next = word == _FLAG and not is_next
        at += len(word) + 1
