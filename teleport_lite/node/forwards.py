"""Everything that is forwarded on one connection, on the broker's side: it connects, it listens,
and hands the sockets to the worker, which only moves bytes. Targets are the login user's right on
this host, since the broker is the login user.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping

from teleport_lite.errors import Malformed
from teleport_lite.net.ssh_policy import MAX_DIALS, MAX_FORWARDS, MAX_LISTENERS
from teleport_lite.node.forward_dial import Dial
from teleport_lite.node.forward_listen import (
    Listener,
    listen_agent,
    listen_tcp,
    listen_unix,
    listen_x11,
)
from teleport_lite.node.forward_wire import (
    X11,
    Arrived,
    Connect,
    Happened,
    Opened,
    Over,
    Target,
)
from teleport_lite.node.forward_x11 import allow_display
from teleport_lite.node.permit import Refusal, Rights, demand
from teleport_lite.node.wire import FromBroker, Link, ToBroker, ToWorker

# For descriptors to come free again when the system has none left.
_PAUSE = 1.0
_SHOWN = 256


class Forwards:
    """`wants`, `patience` and `turn` belong to the broker's loop; `do` is asked by the worker.

    Raises EOFError when the worker or the monitor is gone.
    """

    def __init__(
        self,
        *,
        worker: Link,
        monitor: Link,
        rights: Rights,
        displays: tuple[int, int] = (10, 1010),
        xauth_env: Mapping[str, str],
    ) -> None:
        self._worker, self._monitor, self._rights = worker, monitor, rights
        self._displays, self._xauth_env = displays, xauth_env
        self._dials: dict[int, Dial] = {}
        # Handed over, by number: what the trail calls it.
        self._open: dict[int, dict[str, str]] = {}
        self._listeners: list[Listener] = []
        self._arrivals = 0
        self._accept_at = 0.0

    # --- the loop

    def wants(self) -> Iterator[tuple[int, int]]:
        for dial in self._dials.values():
            yield from dial.wants()
        if self._may_accept():
            for listener in self._listeners:
                for sock in listener.socks:
                    yield sock.fileno(), select.POLLIN

    def patience(self) -> float | None:
        """Seconds until `turn` has something to do by itself."""
        now = time.monotonic()
        times = [now if dial.over else dial.alarm() for dial in self._dials.values()]
        if self._accept_at > now:
            times.append(self._accept_at)
        return max(0.0, min(times) - now) if times else None

    def turn(self, ready: set[int]) -> None:
        now = time.monotonic()
        for number, dial in list(self._dials.items()):
            dial.turn(ready, now)
            if dial.over:
                self._settle(number, dial)
        for listener in list(self._listeners):
            for sock in listener.socks:
                if sock.fileno() in ready and self._may_accept():
                    self._accept(listener, sock)
                    break  # it may have been its only one

    def close(self) -> None:
        """The connection is over: nothing that we have made stays."""
        for dial in self._dials.values():
            dial.close()
        for listener in self._listeners:
            listener.close()
        self._dials.clear()
        self._listeners.clear()

    # --- what the worker asks for

    def do(self, asked: ToBroker) -> bytes:
        """Returns what the reply adds. Raises Refusal, OSError, or Malformed for nonsense."""
        if asked.connect:
            self._connect(asked.connect)
        elif asked.listen:
            return self._listen(asked.listen.target)
        elif asked.unlisten:
            self._unlisten(asked.unlisten.target)
        elif asked.agent:
            self._agent()
        elif asked.x11:
            self._x11(asked.x11)
        elif asked.over:
            self._over(asked.over)
        else:
            raise Malformed("nothing was asked")
        return b""

    def env(self, channel: int) -> dict[str, str]:
        """What shells on that channel find in their environment."""
        found = {}
        for one in self._listeners:
            if one.kind == "agent":
                found["SSH_AUTH_SOCK"] = os.fsdecode(one.at.path)
            elif one.kind == "x11" and one.channel == channel:
                found["DISPLAY"] = f"localhost:{one.at.port}.{one.screen}"
        return found

    def channel_closed(self, channel: int) -> None:
        """Its display goes with it."""
        for one in [each for each in self._listeners if each.channel == channel]:
            self._drop(one)

    # --- ssh -L, -D, -W

    def _connect(self, asked: Connect) -> None:
        number, target = asked.number, asked.target
        if number <= 0 or number in self._dials or number in self._open:
            raise Malformed("that number is taken")
        facts = {"direction": "local", "addr": shown(target)}
        unix = bool(target.path)
        what = "open direct-streamlocal@openssh.com" if unix else "open direct-tcpip"
        with _Told(self, facts):
            demand(what, self._rights)
            if len(self._dials) >= MAX_DIALS or self._count() >= MAX_FORWARDS:
                raise Refusal("too many connections are forwarded")
        self._dials[number] = Dial(target, time.monotonic())

    def _settle(self, number: int, dial: Dial) -> None:
        del self._dials[number]
        dial.close()
        facts = {"direction": "local", "addr": shown(dial.target)}
        if dial.sock is None:
            self.tell("port failed", facts | {"reason": dial.reason[:_SHOWN]})
            self._worker.send(ToWorker(opened=Opened(number=number, reason=dial.reason)))
            return
        self._open[number] = facts
        self.tell("port", facts)
        with dial.sock:
            self._worker.send(ToWorker(opened=Opened(number=number)), dial.sock.fileno())

    def _over(self, asked: Over) -> None:
        facts = self._open.pop(asked.number, None)
        if facts is None:
            raise Malformed("no connection has that number")
        if "addr" not in facts:
            return  # agents and displays: what they were given for is told already
        if asked.reason:
            self.tell("port failed", facts | {"reason": asked.reason[:_SHOWN]})
            return
        count = {"sent": str(asked.sent), "received": str(asked.received)}
        self.tell("port ended", facts | count)

    # --- ssh -R

    def _listen(self, target: Target) -> bytes:
        unix = bool(target.path)
        what = "global streamlocal-forward@openssh.com" if unix else "global tcpip-forward"
        with _Told(self, {"direction": "remote", "addr": shown(target)}):
            demand(what, self._rights)
            if any(one.at == target for one in self._listeners):
                raise Refusal("that is forwarded already")
            self._room_to_listen()
            listener = listen_unix(target) if unix else listen_tcp(target)
        self._listeners.append(listener)
        self.tell("port", {"direction": "remote", "addr": shown(listener.at)})
        return str(listener.at.port).encode()

    def _unlisten(self, target: Target) -> None:
        """What is open already stays, as in sshd."""
        kind = "unix" if target.path else "tcp"
        for one in self._listeners:
            if one.kind == kind and one.at == target:
                self._drop(one)
                return
        raise Refusal("that is not forwarded")

    def _room_to_listen(self) -> None:
        if len(self._listeners) >= MAX_LISTENERS:
            raise Refusal("too many places to listen at")

    def _drop(self, listener: Listener) -> None:
        listener.close()
        self._listeners.remove(listener)

    def _accept(self, listener: Listener, sock: socket.socket) -> None:
        try:
            conn, where = sock.accept()
        except OSError as why:
            if why.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._accept_at = time.monotonic() + _PAUSE
            return
        self._arrivals += 1
        number = -self._arrivals
        host, port = (where[0], where[1]) if isinstance(where, tuple) else ("", 0)
        arrived = Arrived(number=number, kind=listener.kind, at=listener.at, host=host, port=port)
        facts: dict[str, str] = {}
        if listener.kind in ("tcp", "unix"):
            facts = {"direction": "remote", "addr": shown(listener.at)}
            if host:
                facts["from"] = shown(Target(host=host.encode(), port=port))
            self.tell("port", facts)
        self._open[number] = facts
        with conn:
            if conn.family != socket.AF_UNIX:
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._worker.send(ToWorker(arrived=arrived), conn.fileno())
        if listener.single:
            self._drop(listener)

    def _may_accept(self) -> bool:
        """Who comes while there is no room waits in the kernel's queue."""
        return self._count() < MAX_FORWARDS and time.monotonic() >= self._accept_at

    def _count(self) -> int:
        return len(self._dials) + len(self._open)

    # --- ssh -A, -X

    def _agent(self) -> None:
        with _Told(self, {}, "agent failed"):
            demand("request auth-agent-req@openssh.com", self._rights)
            if any(one.kind == "agent" for one in self._listeners):
                return  # one is enough for all sessions
            self._room_to_listen()
            self._listeners.append(listen_agent())
        self.tell("agent", {})

    def _x11(self, asked: X11) -> None:
        with _Told(self, {}, "x11 failed"):
            demand("request x11-req", self._rights)
            if any(one.channel == asked.channel for one in self._listeners):
                raise Refusal("there is a display already")
            self._room_to_listen()
            listener = listen_x11(
                *self._displays,
                channel=asked.channel,
                single=asked.single,
                screen=asked.screen,
            )
            try:
                allow_display(listener.at.port, asked.protocol, asked.cookie, self._xauth_env)
            except BaseException:
                listener.close()
                raise
        self._listeners.append(listener)
        self.tell("x11", {"display": str(listener.at.port)})

    # --- the trail

    def tell(self, what: str, facts: dict[str, str]) -> None:
        self._monitor.send(FromBroker(happened=Happened(what=what, facts=facts)))


class _Told:
    """What is refused inside is told to the trail on its way out."""

    def __init__(self, forwards: Forwards, facts: dict[str, str], what: str = "port failed"):
        self._forwards, self._facts, self._what = forwards, facts, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, why: BaseException | None, _trace: object) -> None:
        if isinstance(why, Refusal | OSError):
            self._forwards.tell(self._what, self._facts | {"reason": reason_of(why)})


def reason_of(why: Exception) -> str:
    """Without Python's "[Errno 13]" and without file names of ours."""
    text = (why.strerror if isinstance(why, OSError) else "") or str(why)
    return text[:_SHOWN]


def shown(target: Target) -> str:
    """For people: what clients name may be any bytes."""
    raw = target.path or target.host
    text = raw[:_SHOWN].decode("ascii", "backslashreplace")
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)[:_SHOWN]
    if target.path:
        return text
    return f"[{text}]:{target.port}" if ":" in text else f"{text}:{target.port}"
