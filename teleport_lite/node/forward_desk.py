"""What `net/ssh_forwards.py` asks, put to the broker. Runs in the worker."""

import socket
from collections.abc import Callable

from teleport_lite.errors import Malformed
from teleport_lite.net.ssh_entry import Answer
from teleport_lite.net.ssh_forwards import Arrival, Display, Opened
from teleport_lite.net.ssh_forwards import Target as Named
from teleport_lite.node.forward_wire import (
    X11,
    Agent,
    Arrived,
    Connect,
    Listen,
    Over,
    Target,
    Unlisten,
)
from teleport_lite.node.wire import Reply, ToBroker, ToWorker


class ForwardDesk:
    """`call` asks the broker and waits for its reply."""

    def __init__(self, call: Callable[[ToBroker], Reply]) -> None:
        self._call = call
        self._opened: list[Opened] = []
        self._arrived: list[Arrival] = []

    def hear(self, said: ToWorker, fds: list[int]) -> None:
        """`opened` or `arrived`, which take their descriptor."""
        sock = socket.socket(fileno=fds[0]) if fds else None
        if said.opened is not None:
            opened = Opened(number=said.opened.number, sock=sock, reason=said.opened.reason)
            self._opened.append(opened)
        elif said.arrived is not None and sock is not None:
            self._arrived.append(_arrival(said.arrived, sock))
        else:
            raise Malformed("the broker said nothing")

    # --- what ssh_forwards calls

    def connect(self, number: int, target: Named) -> Answer:
        return self._answer(ToBroker(connect=Connect(number=number, target=_target(target))))

    def opened(self) -> list[Opened]:
        opened, self._opened = self._opened, []
        return opened

    def listen(self, target: Named) -> tuple[Answer, int]:
        reply = self._call(ToBroker(listen=Listen(target=_target(target))))
        port = int(reply.data or b"0")
        return Answer(ok=reply.ok, reason=reply.reason), port

    def unlisten(self, target: Named) -> Answer:
        return self._answer(ToBroker(unlisten=Unlisten(target=_target(target))))

    def arrived(self) -> list[Arrival]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def agent(self, channel: int) -> Answer:
        return self._answer(ToBroker(agent=Agent(channel=channel)))

    def display(self, channel: int, display: Display) -> Answer:
        asked = X11(
            channel=channel,
            single=display.single,
            protocol=display.protocol,
            cookie=display.cookie,
            screen=display.screen,
        )
        return self._answer(ToBroker(x11=asked))

    def over(self, number: int, *, sent: int, received: int, reason: str) -> None:
        self._call(ToBroker(over=Over(number=number, sent=sent, received=received, reason=reason)))

    def _answer(self, asked: ToBroker) -> Answer:
        reply = self._call(asked)
        return Answer(ok=reply.ok, reason=reply.reason)


def _target(named: Named) -> Target:
    return Target(host=named.host, port=named.port, path=named.path)


def _arrival(arrived: Arrived, sock: socket.socket) -> Arrival:
    at = arrived.at
    return Arrival(
        number=arrived.number,
        kind=arrived.kind,
        at=Named(host=at.host, port=at.port, path=at.path),
        host=arrived.host,
        port=arrived.port,
        sock=sock,
    )
