"""Listening on the host for a client (ssh -R, -A, -X), as the login user: what others on the host
connect to. Loopback only, as sshd with GatewayPorts no, its default."""

import errno
import os
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from teleport_lite.node.forward_dial import check_path
from teleport_lite.node.forward_wire import Target

# As sshd's.
_BACKLOG = 128
# Two families want the same free port: somebody may be faster with one of them.
_TRIES = 10
_FAMILIES = {b"127.0.0.1": (socket.AF_INET,), b"::1": (socket.AF_INET6,)}
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
# What the kernel says where there is no IPv6.
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_X11_BASE = 6000


class Listener:
    """`kind` is "tcp", "unix", "agent" or "x11". `at` is what the client calls it."""

    def __init__(
        self,
        kind: str,
        at: Target,
        socks: list[socket.socket],
        *,
        made: "tuple[Made, ...]" = (),
        channel: int = -1,
        single: bool = False,
        screen: int = 0,
    ) -> None:
        self.kind, self.at, self.socks = kind, at, socks
        self.channel, self.screen = channel, screen  # of X11
        self.single = single  # one connection, and then no more
        self._made = made
        for sock in socks:
            sock.setblocking(False)

    def close(self) -> None:
        for sock in self.socks:
            sock.close()
        self.socks.clear()
        for made in self._made:
            made.remove()


class Made:
    """A file or directory that we have made, and remove again if it is still the same one."""

    def __init__(self, path: Path) -> None:
        # Home may be another directory by then, or a relative path mean another one.
        self._path, self._is = Path.cwd() / path, _identity(path)

    def remove(self) -> None:
        with suppress(OSError):
            if self._is is not None and _identity(self._path) == self._is:
                if stat.S_ISDIR(self._is[2]):
                    self._path.rmdir()
                else:
                    self._path.unlink()


def listen_tcp(asked: Target) -> Listener:
    """Both families for a name, one for an address of one (as sshd). Raises OSError."""
    if not 0 <= asked.port < 1 << 16:
        raise OSError(errno.EINVAL, "no such port")
    families = _FAMILIES.get(asked.host, tuple(_LOOPBACK))
    for attempt in range(_TRIES):
        try:
            socks = _bind(families, asked.port)
        except OSError as why:
            if asked.port or why.errno != errno.EADDRINUSE or attempt == _TRIES - 1:
                raise
            continue
        port = int(socks[0].getsockname()[1])
        return Listener("tcp", Target(host=asked.host, port=port), socks)
    raise AssertionError("the last attempt raises")


def listen_unix(asked: Target) -> Listener:
    """Never over what is there already (StreamLocalBindUnlink no). Raises OSError."""
    check_path(asked.path)
    sock = _bind_path(asked.path)
    return Listener("unix", asked, [sock], made=(Made(Path(os.fsdecode(asked.path))),))


def listen_agent() -> Listener:
    """In a directory of its own, which only the login user enters, named as sshd does. Its path
    is `at.path`. Raises OSError."""
    directory = Path(tempfile.mkdtemp(prefix="ssh-", dir="/tmp"))  # 0700, and new
    path = directory / f"agent.{os.getpid()}"
    try:
        sock = _bind_path(os.fsencode(path))
    except OSError:
        directory.rmdir()
        raise
    return Listener(
        "agent", Target(path=os.fsencode(path)), [sock], made=(Made(path), Made(directory))
    )


def listen_x11(first: int, last: int, *, channel: int, single: bool, screen: int) -> Listener:
    """The first display that is free; its number is `at.port`. Raises OSError."""
    for display in range(first, last + 1):
        try:
            socks = _bind((socket.AF_INET, socket.AF_INET6), _X11_BASE + display)
        except OSError as why:
            if why.errno != errno.EADDRINUSE:
                raise
            continue
        at = Target(port=display)
        return Listener("x11", at, socks, channel=channel, single=single, screen=screen)
    raise OSError(errno.EADDRINUSE, "all displays for X11 forwarding are in use")


def _bind(families: tuple[socket.AddressFamily, ...], port: int) -> list[socket.socket]:
    """All of them or none: else one family could lead to somebody else's service."""
    socks: list[socket.socket] = []
    try:
        for family in families:
            try:
                sock = _bound(family, port)
            except OSError as why:
                if why.errno in _NO_FAMILY and len(families) > 1:
                    continue
                raise
            socks.append(sock)
            port = int(sock.getsockname()[1])
        if not socks:
            raise OSError(errno.EADDRNOTAVAIL, "there is no loopback address")
    except OSError:
        for sock in socks:
            sock.close()
        raise
    return socks


def _bound(family: socket.AddressFamily, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((_LOOPBACK[family], port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_path(path: bytes) -> socket.socket:
    """Only the user themselves may connect (StreamLocalBindMask 0177)."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mode
