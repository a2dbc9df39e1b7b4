"""Dialling a node that has an address, and nothing else that might live at it.

The address comes from the node itself, by way of auth. So a host that has been taken over may
name any address it likes, and somebody who is allowed to reach that host would be connected
to it from inside our network (SSRF). Hence: no address that leads to this network's own
machinery, and not one byte of the caller's before the other side has said that it speaks SSH.
"""

import asyncio
import ipaddress
import os
import socket
from typing import Any

from teleport_lite.errors import Unavailable
from teleport_lite.net.http import split_address
from teleport_lite.net.ssh_listen import KEEPALIVE

# For the name, the connection and the greeting together.
PATIENCE = 10.0
# Names looked up at the same time. The loop has four threads for that (six without uvloop), and
# one that is busy can not be stopped: nodes whose names nobody answers for must not take them all,
# or the proxy does not find auth any more.
LOOKUPS = 2
_GREETING = b"SSH-"
_CHUNK = 4096


class Names:
    """Finds the addresses of hosts, a few at a time."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(LOOKUPS)
        self._tasks: set[asyncio.Task[list[Any]]] = set()

    async def find(self, host: str, port: int) -> list[Any]:
        """As socket.getaddrinfo. Who gives up frees the place only when the thread is free."""
        if _is_number(host):
            return await _look_up(host, port)
        await self._slots.acquire()
        task = asyncio.get_running_loop().create_task(_look_up(host, port), name=f"name {host}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[list[Any]]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more


async def dial(
    address: str, *, patience: float = PATIENCE, names: Names | None = None
) -> tuple[socket.socket, bytes]:
    """A connected socket, not blocking, and what the SSH server has said so far.

    Raises Unavailable with the cause. `address` is host:port; nothing else is ever dialled.
    """
    try:
        async with asyncio.timeout(patience):
            return await _dial(address, names or Names())
    except TimeoutError:
        raise Unavailable(f"{address} does not answer within {patience:g} s") from None
    except OSError as why:  # of the resolver
        raise Unavailable(f"{address}: {why.strerror or why}") from why


def forbidden(address: str) -> bool:
    """Link-local (cloud metadata lives there), multicast, unspecified and reserved addresses."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            return forbidden(str(inner))
    if ip.is_loopback:
        return False  # a node on this very host; anything else there is no SSH server
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def _look_up(host: str, port: int) -> list[Any]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _dial(address: str, names: Names) -> tuple[socket.socket, bytes]:
    loop = asyncio.get_running_loop()
    try:
        host, port = split_address(address)
        if not host or not 0 < port < 1 << 16:
            raise ValueError(port)
        found = await names.find(host, port)
    except ValueError as why:  # UnicodeError is one
        raise Unavailable(f"{address[:100]!a} is no address that can be dialled") from why
    last = Unavailable(f"{address} leads nowhere")
    for family, kind, proto, _, where in found:
        if forbidden(str(where[0])):
            last = Unavailable(f"{address} leads to {where[0]}, where no node may be")
            continue
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, proto)
        try:
            for option in KEEPALIVE:
                sock.setsockopt(*option)
            await loop.sock_connect(sock, where)
            return sock, await _greeting(sock, address)
        except OSError as why:
            sock.close()
            # asyncio words some by itself, with the address once more.
            last = Unavailable(f"{address}: {os.strerror(why.errno) if why.errno else why}")
        except BaseException:
            sock.close()
            raise
    raise last


async def _greeting(sock: socket.socket, address: str) -> bytes:
    """RFC 4253 §4.2. Servers may say other things first; ours never do."""
    said = b""
    while len(said) < len(_GREETING):
        more = await asyncio.get_running_loop().sock_recv(sock, _CHUNK)
        if not more:
            raise Unavailable(f"{address} hangs up at once")
        said += more
        if said[: len(_GREETING)] != _GREETING[: len(said)]:
            raise Unavailable(f"{address} does not speak SSH")
    return said
