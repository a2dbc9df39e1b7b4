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

from teleport_lite.errors import Unavailable
from teleport_lite.net.http import split_address
from teleport_lite.net.ssh_listen import KEEPALIVE

# For the name, the connection and the greeting together.
PATIENCE = 10.0
_GREETING = b"SSH-"
_CHUNK = 4096


async def dial(address: str, *, patience: float = PATIENCE) -> tuple[socket.socket, bytes]:
    """A connected socket, not blocking, and what the SSH server has said so far.

    Raises Unavailable with the cause. `address` is host:port; nothing else is ever dialled.
    """
    try:
        async with asyncio.timeout(patience):
            return await _dial(address)
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


async def _dial(address: str) -> tuple[socket.socket, bytes]:
    loop = asyncio.get_running_loop()
    try:
        host, port = split_address(address)
        if not host or not 0 < port < 1 << 16:
            raise ValueError(port)
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
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
