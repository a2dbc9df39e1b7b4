"""A jump host: the same family without brokers, for the ways that a proxy has to nodes.

    daemon --sockets--> zygote --fork--> monitor --fork--> worker (nobody): paramiko
       ^                                   |                 |
       +--- "a way to web-1, for alice" ---+<--- "web-1" ----+
       +--- a descriptor ----------------->+---------------->+

The monitor verifies the certificate; the daemon knows the nodes and decides for the visitor the
monitor names (`proxy/jump.py`). Who has taken over a worker can ask for what its visitor may have.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import replace

from teleport_lite.access.verdict import Verdict
from teleport_lite.errors import Malformed
from teleport_lite.net.ssh_line import MAX_SAID, FromMonitor, ToMonitor, Wanted
from teleport_lite.net.ssh_policy import MAX_JUMPS
from teleport_lite.node import jump_worker
from teleport_lite.node.gate import Admitted, Gate, refusal
from teleport_lite.node.monitor import Connection, Monitor
from teleport_lite.node.story import Story
from teleport_lite.node.wire import FromWorker, Host, Link, Login, Reply, Way, take
from teleport_lite.node.worker import Task
from teleport_lite.pki.verify import Visitor
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.stream import Knowledge

# Clients send the name of their own account when none is given; that may be anything.
_MAX_LOGIN = 256
# `ssh_jump` cuts names at 256 bytes, and shows odd ones with four letters each.
_MAX_HOST = 1024
_EXPIRED = "the certificate has expired"
_STOPPING = "the proxy is stopping"
_ROTATED = "the CA of your certificate was rotated away, log in again"


class JumpMonitor(Monitor):
    """Without accounts and shells: whoever has a good certificate may ask for nodes."""

    TITLE = "tl-jump"
    _story: "JumpStory"

    def _default_work(self) -> Callable[[Task], None]:
        return jump_worker.run

    def _new_story(self, connection: Connection) -> "JumpStory":
        self._wishes: set[int] = set()
        return JumpStory(
            connection.line,
            clock=self._clock,
            peer=connection.peer,
            local=connection.local,
            data_dir=self._settings.data_dir,
        )

    def _new_gate(self, host: Host) -> Gate:
        return JumpGate(
            data_dir=self._settings.data_dir,
            host_id=host.host_id,
            peer_ip=self._connection.peer[0],
            clock=self._clock,
        )

    def _is_somebody(self, login: str) -> bool:  # noqa: ARG002  # no name is better than another
        return True

    def _let_in(self, link: Link, welcome: Admitted) -> None:
        self._is_in(welcome)
        link.send(Reply(ok=True), wait=False)

    def _turn(self) -> bool:
        """All ways lead through the daemon: without it there is nothing left to do."""
        return super()._turn() and self._story.heard

    def _hear_more(self, link: Link, said: FromWorker) -> None:
        way = said.open
        if way is None or self._welcome is None or not self._is_new(way):
            raise Malformed("the worker asks for what it may not have")
        self._wishes.add(way.number)
        visitor, why = self._welcome.visitor, ""
        if self._clock.now() >= visitor.not_after:
            why = _EXPIRED  # what is open stays; somebody could keep a connection for weeks
        elif not self._gate.trusts(visitor):
            why = _ROTATED
        elif not self._story.want(way, visitor):
            why = _STOPPING
        if why:
            self._answer(link, Reply(ok=False, reason=why, number=way.number))

    def _is_new(self, way: Way) -> bool:
        fits = way.number > 0 and way.port >= 0 and len(way.host) <= _MAX_HOST
        return fits and way.number not in self._wishes and len(self._wishes) < MAX_JUMPS

    def _hear_daemon(self) -> bool:
        said, fds = self._story.hear()
        try:
            found, link = said.found, self._worker
            if found is not None and link is not None and found.number in self._wishes:
                ok = found.ok and len(fds) == 1
                reply = Reply(ok=ok, reason=found.reason, number=found.number)
                self._answer(link, reply, *(fds if ok else ()))
        finally:
            for fd in fds:
                os.close(fd)
        return said.recheck

    def _answer(self, link: Link, reply: Reply, *fds: int) -> None:
        self._wishes.discard(reply.number)
        link.send(reply, *fds, wait=False)


class JumpGate(Gate):
    """Certificate, signature and locks. Roles and labels decide about each node, in the daemon."""

    def _visitor(self, login: Login, known: Knowledge) -> Visitor:
        if not 0 < len(login.login) <= _MAX_LOGIN or not login.login.isprintable():
            raise refusal("the login name is none")
        visitor = self._verify(login, None, known)
        if visitor.force_command is not None:
            raise refusal("a certificate with a forced command leads nowhere else")
        return replace(visitor, login=login.login)

    def _admitted(self, visitor: Visitor, by: str, known: Knowledge) -> Admitted:  # noqa: ARG002
        return Admitted(visitor=visitor, by="certificate")

    def _decide(self, visitor: Visitor, known: Knowledge) -> Verdict:
        return self._unlocked(visitor, known)


class JumpStory(Story):
    """The line to the daemon, which carries wishes and descriptors, too."""

    def look_for_daemon(self) -> bool:
        """Our ways have ended with ours."""
        return False

    def hear(self) -> tuple[ToMonitor, list[int]]:
        """The next word of the daemon. An empty one, and `heard` is False, if it is gone."""
        try:
            raw, fds = take(self._line, MAX_SAID, 1)
        except OSError:
            raw, fds = b"", []
        try:
            if raw:
                return read(ToMonitor, raw, limit=MAX_SAID), fds
        except Malformed:
            pass  # not a daemon of ours
        for fd in fds:
            os.close(fd)
        self.unheard()
        return ToMonitor(), []

    def want(self, way: Way, visitor: Visitor) -> bool:
        """Pass a wish on. False if the daemon does not take it."""
        wanted = Wanted(
            number=way.number,
            host=way.host,
            port=way.port,
            user=visitor.user,
            roles=list(visitor.claimed_roles if visitor.cluster else visitor.roles),
            cluster=visitor.cluster,
            traits={name: list(values) for name, values in visitor.traits.items()},
            bot_id=visitor.id,
        )
        flags = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
        try:
            self._line.send(write(FromMonitor(wanted=wanted)), flags)
        except OSError:
            return False
        return True
