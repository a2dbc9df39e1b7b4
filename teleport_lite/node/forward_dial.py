"""Connecting to where a client wants to go, as the login user, without waiting for anything.

Names take their time, so a child of ours looks them up. Then all addresses are tried, a little
one after the other (RFC 8305): the first that answers is taken.
"""

import errno
import ipaddress
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Iterator

from teleport_lite.errors import Malformed
from teleport_lite.node.confine import die_with_parent, no_terminal
from teleport_lite.node.forward_wire import Target
from teleport_lite.node.processes import fork_child
from teleport_lite.node.wire import Link
from teleport_lite.proto.codec import Message

# For one address, and for all of them with the lookup.
ONE_SECONDS, ALL_SECONDS = 10.0, 30.0
# RFC 8305 §8, Connection Attempt Delay.
_STAGGER = 0.25
_MOST_ADDRESSES = 16
# RFC 1035 §2.3.4.
_MOST_NAME = 255
# sun_path of unix(7), with its final zero.
_MOST_PATH = 107
_TIMED_OUT = "Connection timed out"
# RFC 6761 §6.3: always this, whatever a resolver thinks of it.
_LOCALHOST = ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))


class Address(Message, frozen=True):
    family: int
    host: str
    scope: int = 0


class Found(Message, frozen=True):
    """What a lookup has found."""

    addresses: list[Address] = []
    reason: str = ""


class Dial:
    """One wish of a client's. It is over when `sock` or `reason` is there; then call `close`."""

    def __init__(self, target: Target, now: float) -> None:
        self.target = target
        self.sock: socket.socket | None = None
        self.reason = ""
        self._until, self._next_at = now + ALL_SECONDS, now
        self._lookup: Link | None = None
        self._left: deque[Address] = deque()
        self._tries: dict[socket.socket, float] = {}
        self._said = ""  # by the last address that refused
        try:
            self._begin(now)
        except OSError as why:
            self.reason = why.strerror or str(why)

    @property
    def over(self) -> bool:
        return self.sock is not None or bool(self.reason)

    def wants(self) -> Iterator[tuple[int, int]]:
        if self._lookup is not None:
            yield self._lookup.fileno(), select.POLLIN
        for sock in self._tries:
            yield sock.fileno(), select.POLLOUT

    def alarm(self) -> float:
        """When to call `turn` even if nothing is ready."""
        times = [self._until, *self._tries.values()]
        if self._left:
            times.append(self._next_at)
        return min(times)

    def turn(self, ready: set[int], now: float) -> None:
        if self._lookup is not None and self._lookup.fileno() in ready:
            self._hear(self._lookup)
        for sock, until in list(self._tries.items()):
            if sock.fileno() in ready:
                self._tried(sock)
            elif now >= until:
                self._drop(sock, _TIMED_OUT)
        while not self.over and self._left and (now >= self._next_at or not self._tries):
            self._try(self._left.popleft(), now)
        if self.over:
            return
        if now >= self._until:
            self.reason = _TIMED_OUT
        elif self._lookup is None and not self._tries and not self._left:
            self.reason = self._said or "no address"

    def close(self) -> None:
        """Whatever is still under way ends. `sock` is the caller's."""
        for sock in self._tries:
            sock.close()
        self._tries.clear()
        self._end_lookup()

    # --- names

    def _begin(self, now: float) -> None:
        target = self.target
        if target.path:
            self._dial_path(target.path)
            return
        if not 0 < target.port < 1 << 16:
            self.reason = "no such port"
            return
        name = target.host.decode("ascii", "replace")
        if not name or len(name) > _MOST_NAME or not name.isprintable() or not name.isascii():
            self.reason = "Name or service not known"
            return
        self._left.extend(_without_lookup(name))
        if not self._left:
            self._look_up(name)
        self.turn(set(), now)

    def _look_up(self, name: str) -> None:
        ours, theirs = Link.pair()

        def body() -> None:
            no_terminal()
            die_with_parent()
            signal.alarm(int(ALL_SECONDS))
            theirs.send(_resolve(name))

        try:
            fork_child("tl-ssh-lookup", body, [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._lookup = ours

    def _hear(self, lookup: Link) -> None:
        try:
            found = lookup.receive(Found)
        except (EOFError, Malformed):
            found = Found(reason="the name could not be looked up")
        self._end_lookup()
        self._said = found.reason
        self._left.extend(found.addresses)

    def _end_lookup(self) -> None:
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None

    # --- addresses

    def _try(self, address: Address, now: float) -> None:
        self._next_at = now + _STAGGER
        where: tuple[str, int] | tuple[str, int, int, int] = (address.host, self.target.port)
        if address.family == socket.AF_INET6:
            where = (address.host, self.target.port, 0, address.scope)
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as why:
            self._said = why.strerror or str(why)
            return
        sock.setblocking(False)
        self._tries[sock] = now + ONE_SECONDS
        number = sock.connect_ex(where)
        if not number:
            self._tried(sock)
        elif number != errno.EINPROGRESS:
            self._drop(sock, os.strerror(number))

    def _tried(self, sock: socket.socket) -> None:
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._drop(sock, os.strerror(number))
        elif self.sock is None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = sock
            del self._tries[sock]

    def _drop(self, sock: socket.socket, said: str) -> None:
        self._said = said
        del self._tries[sock]
        sock.close()

    def _dial_path(self, path: bytes) -> None:
        """A server that is behind with accepting is one that refuses: EAGAIN (connect(2))."""
        check_path(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        number = sock.connect_ex(path)
        if number:
            sock.close()
            raise OSError(number, os.strerror(number))
        self.sock = sock


def check_path(path: bytes) -> None:
    """Raises OSError. A leading NUL would be a name of another kind (unix(7), "abstract")."""
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a path has no NUL in it")
    if len(path) > _MOST_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def _without_lookup(name: str) -> list[Address]:
    if name.rstrip(".").lower() == "localhost":
        return [Address(family=family, host=host) for family, host in _LOCALHOST]
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return []
    if found.version == 4:
        return [Address(family=socket.AF_INET, host=str(found))]
    if found.scope_id:
        return []  # the name of an interface is looked up, too
    return [Address(family=socket.AF_INET6, host=str(found))]


def _resolve(name: str) -> Found:
    """In the child."""
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as why:
        return Found(reason=why.strerror or str(why))
    except UnicodeError:
        return Found(reason="Name or service not known")
    addresses = [
        Address(family=int(family), host=str(where[0]), scope=_scope(where))
        for family, _, _, _, where in infos
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
    return Found(addresses=addresses[:_MOST_ADDRESSES])


def _scope(where: tuple[object, ...]) -> int:
    """Of an IPv6 address (RFC 4007): which interface a link-local one is on."""
    scope = where[3] if len(where) > 3 else 0
    return scope if isinstance(scope, int) else 0
