"""What many tests need: waiting for a condition, and free ports."""

import errno
import functools
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
# Ports of one process that runs tests, and where those of all of them begin.
_BLOCK, _FIRST = 128, 10_240


def eventually(condition: Callable[[], T], *, seconds: float = 60, what: str = "") -> T:
    """Call `condition` until it returns something true; fail loudly when time is up.

    Who asks by starting programs leaves two thirds of a processor to what is waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        found = condition()
        if found:
            return found
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(min(max(0.02, 2 * (now - asked)), 1))


def free_port() -> int:
    """For somebody else to listen at in a moment, or for nobody. The kernel gives it to no
    connection and to nobody who asks for any port, and no other process of tests hands it out."""
    for port in itertools.islice(_ports(os.getpid()), _BLOCK):
        if all(_is_free(family, host, port) for family, host in _LOOPBACK):
            return port
    raise AssertionError(f"all {_BLOCK} ports of this process are taken")


_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


@functools.cache
def _ports(_pid: int) -> Iterator[int]:
    """Ours, in turn. The block is held by a name that the kernel takes back when we end, and that
    means as little in another network namespace as the ports do."""
    chosen_by_kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for first in range(_FIRST, chosen_by_kernel - _BLOCK, _BLOCK):
        held = socket.socket(socket.AF_UNIX)
        try:
            held.bind(f"\0teleport-lite-test-ports-{first}")
        except OSError:
            held.close()
        else:
            _held.append(held)
            return itertools.cycle(range(first, first + _BLOCK))
    raise AssertionError("too many processes of tests for the ports there are")


_held: list[socket.socket] = []


def _is_free(family: socket.AddressFamily, host: str, port: int) -> bool:
    with closing(socket.socket(family)) as probe:
        # As servers do it: connections that have ended are nobody's.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as why:
            # A machine without IPv6 has nobody there either.
            return family == socket.AF_INET6 and why.errno not in (errno.EADDRINUSE, errno.EACCES)
    return True
