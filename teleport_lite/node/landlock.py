"""No file, no TCP connection and no signal any more: landlock(7), for who stays the same user.

A process that is root gives its workers users of their own. Without that, the files of whoever
runs the daemon would be the worker's as well, its keys among them. What is open stays open.
"""

import ctypes
import os
import struct

# The same numbers on all machines (asm-generic/unistd.h).
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ASK_VERSION = 1
# linux/landlock.h: every right to files, to TCP ports, and what may be scoped, by the version of
# the interface that has brought it. What is handled and has no rule is denied.
_FILES = ((1, (1 << 13) - 1), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
_PORTS = ((4, 0b11),)
_SCOPES = ((6, 0b11),)
# How much of struct landlock_ruleset_attr a version knows.
_SIZES = ((1, 8), (4, 16), (6, 24))

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Of the kernel's interface, 0 if it has none, or does not let us."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


def shut_in() -> bool:
    """For good, for this process and what it forks. False where the kernel can not.

    There must be no new privileges (PR_SET_NO_NEW_PRIVS) before.
    """
    known = version()
    if not known:
        return False
    rights = struct.pack("=QQQ", *(_all(of, known) for of in (_FILES, _PORTS, _SCOPES)))
    size = max(size for since, size in _SIZES if since <= known)
    ruleset = int(_libc.syscall(_CREATE_RULESET, rights, ctypes.c_size_t(size), 0))
    if ruleset < 0:
        return False
    try:
        return int(_libc.syscall(_RESTRICT_SELF, ruleset, 0)) == 0
    finally:
        os.close(ruleset)


def _all(rights: tuple[tuple[int, int], ...], known: int) -> int:
    return sum(bits for since, bits in rights if since <= known)
