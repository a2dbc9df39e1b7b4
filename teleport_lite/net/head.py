"""Looking at the first bytes of a connection without taking them (MSG_PEEK).

The socket can then be handed to anything: a TLS transport, an SSH server, a relay. Only a PROXY
header is taken off.
"""

import asyncio
import logging
import select
import socket
from collections.abc import Callable

from teleport_lite.errors import Denied, Malformed
from teleport_lite.net.peek import MAX_HEAD
from teleport_lite.net.proxy_header import Address, ProxyHeader, read_header
from teleport_lite.pki.attest import ROOT_TLV, TLV

# The value of the field of ours, source and target of the header it came in -> UUID of the proxy
# that has signed it. Raises Denied (pki/attest.py).
Attested = Callable[[bytes, Address, Address], str]

# How long to wait when the kernel wakes us without a reason; it does so when memory is short.
_BREATH = 0.05


async def peek(wire: socket.socket, at_least: int) -> bytes:
    """The bytes that wait at a non-blocking socket, `at_least` so many, MAX_HEAD at the most.

    Fewer only if no more will come. Waits for ever: bring a deadline. Raises OSError.
    """
    head = _now(wire)
    while len(head) < at_least:
        ended, before = _ended(wire), len(head)
        head = _now(wire)  # after that question: what came with the end is in it
        if ended or len(head) >= at_least:
            break
        if len(head) == before:
            await _readable(wire, at_least)
            if not ready(wire, before + 1):
                await asyncio.sleep(_BREATH)
    return head


async def take_header(wire: socket.socket) -> ProxyHeader | None:
    """Take a PROXY header off the front; None, and nothing taken, if there is none.

    Raises Malformed and OSError. Waits for ever: bring a deadline.
    """
    wanted = 1
    while True:
        head = await peek(wire, wanted)
        found = read_header(head)
        if isinstance(found, ProxyHeader):
            wire.recv(found.length)  # they are there: we have just seen them
            return found
        if found is None:
            return None
        if len(head) < wanted:
            raise Malformed("the connection ended before it said what it is for")
        wanted = found


def check_attested(header: ProxyHeader, attested: Attested | None) -> tuple[Address, str]:
    """The source that a header names, and the UUID of the proxy of this cluster that vouches.

    Raises Denied if none does.
    """
    signed = header.tlv(TLV)
    if signed is None or attested is None or header.source is None or header.target is None:
        raise Denied("a PROXY header that no proxy of this cluster has signed is not believed")
    return header.source, attested(signed, header.source, header.target)


def from_root(header: ProxyHeader) -> str:
    """The cluster that a connection has come from, down a tunnel; "" for one that came in by a
    port. It only takes rights away, so whoever writes the header is believed."""
    said = header.tlv(ROOT_TLV)
    return "" if said is None else said.decode("ascii", "replace") or "?"


def ready(wire: socket.socket, wanted: int) -> bool:
    """Whether `peek` would return at once."""
    try:
        return len(_now(wire)) >= wanted or _ended(wire)
    except OSError:
        return True


def _now(wire: socket.socket) -> bytes:
    try:
        return wire.recv(MAX_HEAD, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return b""


def _ended(wire: socket.socket) -> bool:
    """Whether the other side has closed, or broken, its half of the connection."""
    poll = select.poll()
    poll.register(wire, select.POLLRDHUP)
    return bool(poll.poll(0))


async def _readable(wire: socket.socket, at_least: int) -> None:
    """Without the low-water mark the loop would be woken, over and over, by what is there."""
    loop, number = asyncio.get_running_loop(), wire.fileno()
    woken = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, at_least)
    loop.add_reader(number, wake)
    try:
        await woken
    finally:  # whoever gets the socket next waits for single bytes, and registers it himself
        loop.remove_reader(number)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


class Seldom:
    """Log lines that strangers can cause: one of each kind in `every` seconds."""

    def __init__(self, log: logging.Logger, *, every: float = 60.0) -> None:
        self._log, self._every = log, every
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, kind: str, text: str, *words: object) -> None:
        now = asyncio.get_running_loop().time()
        if kind in self._last and now - self._last[kind] < self._every:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        more = self._left_out.pop(kind, 0)
        self._last[kind] = now
        suffix = f" ({more} more like it since the last such line)" if more else ""
        self._log.warning(text + suffix, *words)
