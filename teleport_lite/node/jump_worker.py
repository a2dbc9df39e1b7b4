"""The worker of a jump host: as that of a node, it talks to the stranger and has nothing to take.

All it can ask for, the monitor asks the daemon for: ways to nodes. They come as descriptors.
"""

import socket

from teleport_lite.errors import Malformed
from teleport_lite.net import ssh_jump
from teleport_lite.net.ssh_entry import Answer
from teleport_lite.net.ssh_jump import Opened
from teleport_lite.node.wire import FromWorker, Link, Login, Reply, Sign, Way
from teleport_lite.node.worker import Task, confined, last_words

# To anything but a way to a node the answer is no, and that needs nobody's permission.
_REASONS = {
    "open session": "this is a jump host, it has no shells; try ssh -J",
    "open x11": "this is a jump host",
}
_NO = "only connections to the SSH service of a node are possible"


def run(task: Task) -> None:
    desk = _Desk(task.monitor)
    with confined(task):
        why = ssh_jump.serve(
            task.tcp, desk, host_public=task.host.ssh_public, host_cert=task.host.ssh_cert
        )
    if why:
        last_words(task.monitor, why)


class _Desk:
    """What `ssh_jump` asks, put to the monitor."""

    def __init__(self, monitor: Link) -> None:
        self._monitor = monitor
        self._opened: list[Opened] = []
        self.goodbye = ""

    def sign(self, exchange_hash: bytes) -> bytes:
        self._monitor.send(FromWorker(sign=Sign(exchange_hash=exchange_hash)))
        return self._reply().data

    def login(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> Answer:
        asked = Login(
            login=login, algorithm=algorithm, certificate=certificate, signature=signature
        )
        self._monitor.send(FromWorker(login=asked))
        reply = self._reply()
        return Answer(ok=reply.ok, last=reply.last)

    def open(self, number: int, host: str, port: int) -> None:
        self._monitor.send(FromWorker(open=Way(number=number, host=host, port=port)))

    def opened(self) -> list[Opened]:
        opened, self._opened = self._opened, []
        return opened

    def watched(self) -> tuple[int, ...]:
        return (self._monitor.fileno(),)

    def hear(self, fd: int) -> None:  # noqa: ARG002  # there is only one
        """The monitor has something to say. Raises EOFError if it has gone."""
        if self._hear() is not None:
            raise Malformed("the monitor answers what nobody asked")

    def ask(self, what: str) -> Answer:
        ok = what == "global no-more-sessions@openssh.com"
        return Answer(ok=ok, reason="" if ok else _REASONS.get(what, _NO))

    def close(self, channel: int) -> None:
        """The node notices by itself."""

    def _reply(self) -> Reply:
        """To what was just asked; answers to `open` may come in between."""
        while True:
            reply = self._hear()
            if reply is not None:
                return reply

    def _hear(self) -> Reply | None:
        reply, fds = self._monitor.receive_with_fds(Reply, 1)
        if reply.goodbye:
            self.goodbye = reply.goodbye
            return None
        if not reply.number:
            return reply
        sock = socket.socket(fileno=fds[0]) if fds else None
        self._opened.append(Opened(number=reply.number, sock=sock, reason=reply.reason))
        return None
