"""Keep the heap of a process with many threads small, and the looks through it short."""

import ctypes
import gc

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


# Objects that come and go before the youngest are looked through; Python's own 700 is for
# scripts. An agent brings 130 to auth, so a thousand that come back at once were three looks at
# everything, of 300 ms each, in which nobody was answered (benchmarks/storm.py).
_YOUNG = 10_000


def settle() -> None:
    """Call when everything has started: what is here now stays, and is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
