"""Listening sockets, and the address others will see us under."""

import socket

from teleport_lite.errors import Unavailable
from teleport_lite.net.http import split_address


def listen(address: str, what: str, *, backlog: int = 1024) -> socket.socket:
    """A bound TCP socket. Raises Unavailable naming `what`, the address and the cause."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=backlog)
    except socket.gaierror as why:
        raise Unavailable(f"{what}: {address} is no address of this host") from why
    except OSError as why:
        raise Unavailable(
            f"{what}: can not listen on {address}: {why.strerror or why}",
            hint=f"ss -ltnp 'sport = :{port}'",
        ) from why


def own_address_towards(server: str) -> str:
    """Which of our addresses reaches `server`; "" if none does. Sends nothing."""
    host, port = split_address(server)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        family, kind, proto, _, target = found[0]
        with socket.socket(family, kind, proto) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError:
        return ""
