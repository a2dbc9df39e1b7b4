"""Keep the heap of a process with many threads small."""

import ctypes

# mallopt(3), <malloc.h>
_M_ARENA_MAX = -8
# glibc gives each thread an arena, up to eight for each core; the thirty-two threads that
# answer requests would keep what their busiest moment needed. Two are enough behind the GIL.
_ARENAS = 2


def share_arenas() -> None:
    """Call before there are threads. Does nothing where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
