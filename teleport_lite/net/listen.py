"""Listening sockets, and the address others will see us under."""

import os
import socket
from functools import cache

from teleport_lite.errors import Unavailable
from teleport_lite.net.http import split_address
from teleport_lite.net.inherited import Inherited, keep

# Of the process: what it was started with can be read once.
_inherited = cache(Inherited)
# By name: who was asked for them may lose them.
_open: dict[str, socket.socket] = {}


def listen(address: str, what: str, *, backlog: int = 1024) -> socket.socket:
    """A bound TCP socket, or the one that systemd has kept for us since the last process.

    Raises Unavailable naming `what`, the address and the cause.
    """
    host, port = split_address(address)
    kept = _inherited().take(host, port)
    if kept is not None:
        kept.listen(backlog)
        _open[what] = kept
        return kept
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=backlog)
    except (socket.gaierror, UnicodeError) as why:
        raise Unavailable(f"{what}: {address} is no address of this host") from why
    except OSError as why:
        cause = os.strerror(why.errno) if why.errno else str(why)
        raise Unavailable(
            f"{what}: can not listen on {address}: {cause}",
            hint=f"ss -ltnp 'sport = :{port}'",
        ) from why
    keep(sock, what)
    _open[what] = sock
    return sock


def unheard() -> list[str]:
    """What was to be listened on and is not any more. Before the process stops, that is a fault."""
    return [what for what, sock in _open.items() if not _listens(sock)]


def _listens(sock: socket.socket) -> bool:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError:
        return False  # it was closed


def forget_unused() -> None:
    """Everything listens: what else systemd has kept for us is not needed any more."""
    _inherited().forget_unused()


# TEST-NET-1 (RFC 5737): nobody is there, but a host with a network has a route towards it.
ANYWHERE = "192.0.2.1:9"


def own_address(towards: str) -> str:
    """The address others likely see us under: the one that reaches `towards`, or that leads
    anywhere if that is this very host; "" if there is none. Sends nothing."""
    found = _source(towards)
    if found.startswith("127.") or found == "::1":
        return _source(ANYWHERE) or found
    return found


def _source(server: str) -> str:
    host, port = split_address(server)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        family, kind, proto, _, target = found[0]
        with socket.socket(family, kind, proto) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError):
        return ""
