"""Keep `--token=...` out of the process list.

Everybody on the machine can read /proc/PID/cmdline. The kernel shows the memory the arguments
were given in, so the value is overwritten there (proc(5), arg_start in /proc/self/stat).
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path

_FLAG = b"--token"


def scrub(values: Sequence[str]) -> None:
    """Overwrite each of `values` in this process's command line with x, in place.

    Does nothing where it can not: on a kernel that hides the addresses the token stays visible.
    """
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
        fields = stat.rpartition(")")[2].split()
        # Fields 48 and 49 of proc(5), counted from 1; state, after the name, is field 3.
        start, end = int(fields[45]), int(fields[46])
    except (OSError, ValueError, IndexError):
        return
    if not 0 < end - start < 1 << 20:
        return
    shown = Path("/proc/self/cmdline").read_bytes()
    if len(shown) != end - start:
        return
    for value in values:
        _overwrite(start, shown, value.encode())


def _overwrite(start: int, shown: bytes, secret: bytes) -> None:
    """Only where the secret stands behind --token: a word like "root" may stand elsewhere too."""
    for before in (_FLAG + b"=", _FLAG + b"\0"):
        at = shown.find(before + secret + b"\0")
        while secret and at >= 0:
            ctypes.memset(start + at + len(before), ord("x"), len(secret))
            at = shown.find(before + secret + b"\0", at + 1)
