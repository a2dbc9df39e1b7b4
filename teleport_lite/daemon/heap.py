"""Room for many: a heap that stays small, short looks through it, descriptors."""

import ctypes
import gc
import resource

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
# Linux' own limit for a process (fs.nr_open), and more than memory has room for.
_DESCRIPTORS = 1 << 20


def settle() -> None:
    """Call when everything has started: what is here now stays, and is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


def raise_descriptors() -> None:
    """As many as the system lets us have: shells have 1,024 by default, for programs that still
    use select(2), and a proxy needs three for each host behind it. Call when the zygotes have
    been started, whose shells keep what we were given."""
    given, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _DESCRIPTORS)
    if given != resource.RLIM_INFINITY and given < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
