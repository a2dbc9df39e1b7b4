"""Forwarding, as clients ask for it: ssh -L, -R, -D, -W, -A, -X, and the same for unix sockets.

RFC 4254 §6.3, §7 and OpenSSH's PROTOCOL §2.4. It decides nothing and connects to nothing: the
desk asks the broker, which is the login user, and what comes back are sockets.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from teleport_lite.net.ssh_channel import Channel
from teleport_lite.net.ssh_channels import CONNECT_FAILED, PROHIBITED, Asked
from teleport_lite.net.ssh_entry import Answer, EntryTransport
from teleport_lite.net.ssh_forward import SocketPump
from teleport_lite.net.ssh_jump import Opened as Opened
from teleport_lite.pki.wire import Reader, text

# What a client may name, and we would pass on: a path of unix(7) is shorter, a name of DNS too.
_MOST_NAME = 1024
# What is refused before there is a session to tell it on is told on the first; so many of them.
_MOST_NOTES = 8
# Hosts that a client may name for `ssh -R` without a word from us: it is loopback in any case.
_OURS = (b"", b"localhost", b"127.0.0.1", b"::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A path of a unix socket, or a host and a port."""

    host: bytes = b""
    port: int = 0
    path: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Somebody on the host wants to get to the client."""

    number: int
    kind: str  # "tcp", "unix", "agent" or "x11"
    at: Target  # as the client has named it
    host: str
    port: int
    sock: socket.socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """An x11-req (RFC 4254 §6.3.1)."""

    single: bool
    protocol: bytes
    cookie: bytes
    screen: int


class ForwardDesk(Protocol):
    """Those who connect and listen. Calls raise EOFError when they are gone."""

    def connect(self, number: int, target: Target) -> Answer:
        """Ask for a connection; whether it comes about is told by `opened`, in its own time."""

    def opened(self) -> list[Opened]: ...

    def listen(self, target: Target) -> tuple[Answer, int]:
        """The answer, and the port."""

    def unlisten(self, target: Target) -> Answer: ...

    def arrived(self) -> list[Arrival]: ...

    def agent(self, channel: int) -> Answer: ...

    def display(self, channel: int, display: Display) -> Answer: ...

    def over(self, number: int, *, sent: int, received: int, reason: str) -> None:
        """That connection has ended, or the client did not want it."""


class Forwards:
    """Of one connection. `notes` is what the person at the other end has yet to be told."""

    def __init__(self, transport: EntryTransport, desk: ForwardDesk) -> None:
        self._transport, self._desk = transport, desk
        self._asked: dict[int, Asked] = {}
        self._count = 0
        self.notes: list[str] = []
        self._kinds: dict[str, Callable[[Reader], Target]] = {
            "direct-tcpip": _direct_tcpip,
            "direct-streamlocal@openssh.com": _direct_streamlocal,
        }
        self._requests: dict[str, Callable[[Reader], tuple[bool, bytes]]] = {
            "tcpip-forward": lambda reader: self._listen(_tcp(reader)),
            "cancel-tcpip-forward": lambda reader: self._unlisten(_tcp(reader)),
            "streamlocal-forward@openssh.com": lambda reader: self._listen(_unix(reader)),
            "cancel-streamlocal-forward@openssh.com": lambda reader: self._unlisten(_unix(reader)),
        }

    def news(self) -> bool:
        """What the desk has heard meanwhile. True if there may be more by now: who can not be let
        in is told to the desk, which hears whatever comes before the answer."""
        for opened in self._desk.opened():
            self._opened(opened)
        arrived = self._desk.arrived()
        for arrival in arrived:
            self._arrived(arrival)
        return bool(arrived)

    # --- ssh -L, -D, -W

    def opens(self, kind: str) -> bool:
        """Is a channel of that kind our business?"""
        return kind in self._kinds

    def open_asked(self, asked: Asked) -> None:
        target = self._kinds[asked.kind](asked.rest)
        self._count += 1
        answer = self._desk.connect(self._count, target) if _sound(target) else _NONSENSE
        if answer.ok:
            self._asked[self._count] = asked
        else:
            self._transport.refuse_open(asked, PROHIBITED, answer.reason)

    def _opened(self, opened: Opened) -> None:
        asked = self._asked.pop(opened.number)
        if opened.sock is None:
            self._transport.refuse_open(asked, CONNECT_FAILED, opened.reason)
        else:
            self._move(self._transport.confirm_open(asked), opened.number, opened.sock)

    def _move(self, channel: Channel, number: int, sock: socket.socket) -> None:
        def over() -> None:
            self._over(number, sent=channel.said, received=channel.heard)

        self._transport.attach(channel, SocketPump(channel, sock, self._transport, over))

    def _over(self, number: int, *, sent: int = 0, received: int = 0, reason: str = "") -> None:
        with suppress(EOFError):  # at the end of all they may have gone first
            self._desk.over(number, sent=sent, received=received, reason=reason)

    # --- ssh -R

    def asks(self, kind: str) -> bool:
        """Is a global request of that kind our business?"""
        return kind in self._requests

    def asked(self, kind: str, reader: Reader) -> tuple[bool, bytes]:
        return self._requests[kind](reader)

    def _listen(self, target: Target) -> tuple[bool, bytes]:
        answer, port = self._desk.listen(target) if _sound(target, 0) else (_NONSENSE, 0)
        if not answer.ok:
            self.refused(answer.reason)
            return False, b""
        if target.host not in _OURS:
            self._transport.debug("listens on loopback only, whatever address was asked for")
        given = not target.path and not target.port  # RFC 4254 §7.1: only then it is told
        return True, port.to_bytes(4, "big") if given else b""

    def _unlisten(self, target: Target) -> tuple[bool, bytes]:
        answer = self._desk.unlisten(target) if _sound(target, 0) else _NONSENSE
        if not answer.ok:
            self._transport.debug(answer.reason)
        return answer.ok, b""

    def refused(self, reason: str) -> None:
        """A request about the whole connection has no place for a reason. OpenSSH's client shows
        debug messages with -v only, so the first session says it, too."""
        self._transport.debug(reason)
        if reason not in self.notes and len(self.notes) < _MOST_NOTES:
            self.notes.append(reason)

    # --- ssh -R, -A, -X: the other way round

    def agent(self, channel: Channel, reader: Reader) -> Answer:
        reader.end()
        return self._desk.agent(channel.number)

    def display(self, channel: Channel, reader: Reader) -> Answer:
        display = Display(
            single=reader.take(1) != b"\0",
            protocol=reader.text(),
            cookie=reader.text(),
            screen=reader.number(4),
        )
        reader.end()
        if len(display.protocol) + len(display.cookie) > _MOST_NAME:
            return _NONSENSE
        return self._desk.display(channel.number, display)

    def _arrived(self, arrival: Arrival) -> None:
        def done(channel: Channel | None, reason: str) -> None:
            if channel is None:
                arrival.sock.close()
                self._over(arrival.number, reason=reason or "the client refused")
            else:
                self._move(channel, arrival.number, arrival.sock)

        kind, extra = _offer(arrival)
        self._transport.open_channel(kind, extra, done)


_NONSENSE = Answer(ok=False, reason="no such address")


def _offer(arrival: Arrival) -> tuple[str, bytes]:
    """Type and data of the CHANNEL_OPEN."""
    who = text(arrival.host.encode()) + arrival.port.to_bytes(4, "big")
    at = arrival.at
    if arrival.kind == "tcp":
        return "forwarded-tcpip", text(at.host) + at.port.to_bytes(4, "big") + who
    if arrival.kind == "unix":
        return "forwarded-streamlocal@openssh.com", text(at.path) + text(b"")
    if arrival.kind == "x11":
        return "x11", who
    return "auth-agent@openssh.com", b""


def _direct_tcpip(reader: Reader) -> Target:
    target = Target(host=reader.text(), port=reader.number(4))
    reader.text()  # where the client says it comes from
    reader.number(4)
    reader.end()
    return target


def _direct_streamlocal(reader: Reader) -> Target:
    target = Target(path=reader.text() or b"\0")
    reader.text()  # reserved
    reader.number(4)
    reader.end()
    return target


def _tcp(reader: Reader) -> Target:
    target = Target(host=reader.text(), port=reader.number(4))
    reader.end()
    return target


def _unix(reader: Reader) -> Target:
    """An empty path would mean a port."""
    target = Target(path=reader.text() or b"\0")
    reader.end()
    return target


def _sound(target: Target, least_port: int = 1) -> bool:
    if target.path:
        return len(target.path) <= _MOST_NAME and b"\0" not in target.path
    return len(target.host) <= _MOST_NAME and least_port <= target.port < 1 << 16
