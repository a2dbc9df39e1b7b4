"""The worker: the process that a stranger talks to. It has nothing to take.

No host key, no privileges, no files, no way to make another process; one socket to the
stranger and one line each to those who decide. It can ask the monitor for signatures and
logins, and after a login the broker for shells; both check everything again.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pwd import struct_passwd

from teleport_lite.errors import Denied, Malformed
from teleport_lite.net import ssh_door
from teleport_lite.net.ssh_door import Answer, Exit, Streams, Terminal
from teleport_lite.net.ssh_tap import RecordTap
from teleport_lite.net.ssh_visit import MODE_ENV, SESSION_ENV, Seat
from teleport_lite.node.confine import confine_worker, no_terminal
from teleport_lite.node.forward_desk import ForwardDesk
from teleport_lite.node.wire import (
    Ask,
    Close,
    Env,
    FromWorker,
    Host,
    Join,
    Link,
    Login,
    Moved,
    Pty,
    Reply,
    Resize,
    Session,
    Sign,
    Signal,
    Start,
    ToBroker,
    ToWorker,
)

# Of what a client says about a session that it wants to join.
_MAX_VISIT = 64
# For a broker to answer. It belongs to the user, who may stop it; a home may be on a slow network.
_BROKER_TIME = 60.0
# A pty, or stdin, stdout and stderr.
_MOST_FDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    tcp: socket.socket
    monitor: Link
    host: Host
    account: struct_passwd | None
    memory: int
    secret: Path  # must be out of reach
    banner: str = ""  # for everybody who comes, before the login


def run(task: Task) -> None:
    desk = Desk(task.monitor)
    with confined(task):
        why = ssh_door.serve(
            task.tcp,
            desk,
            host_public=task.host.ssh_public,
            host_cert=task.host.ssh_cert,
            banner=task.banner,
        )
    if why:
        last_words(task.monitor, why)


@contextmanager
def confined(task: Task) -> Iterator[None]:
    """Give everything up, and tell the monitor what goes wrong from there on."""
    no_terminal()
    try:
        confine_worker(task.account, memory=task.memory)
        if task.account is not None and os.access(task.secret, os.R_OK):
            raise Denied(f"{task.secret} can be read by {task.account.pw_name}")
        yield
    except Exception as bug:
        # Its type tells us where to look; its text may come from the stranger.
        last_words(task.monitor, f"worker failed: {type(bug).__name__}")
        raise


def last_words(monitor: Link, text: str) -> None:
    try:
        monitor.send(FromWorker(last_words=text[:200]), wait=False)
    except EOFError:
        return


class Desk:
    """What `ssh_door` asks, put to those who can answer."""

    def __init__(self, monitor: Link) -> None:
        self._monitor = monitor
        self._broker: Link | None = None
        self._ended: list[Exit] = []
        self.idle_seconds, self.goodbye = 0.0, ""
        # What a shell or a visit that starts later needs to know, by channel.
        self._terminals: dict[int, Terminal] = {}
        self._visits: dict[int, dict[bytes, bytes]] = {}
        self.forwards = ForwardDesk(lambda asked: self._call(asked)[0])

    # --- before the login

    def sign(self, exchange_hash: bytes) -> bytes:
        self._monitor.send(FromWorker(sign=Sign(exchange_hash=exchange_hash)))
        return self._decided(0)[0].data

    def login(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> Answer:
        asked = Login(
            login=login, algorithm=algorithm, certificate=certificate, signature=signature
        )
        self._monitor.send(FromWorker(login=asked))
        reply, fds = self._decided(1)
        self.idle_seconds = reply.idle
        if fds:
            self._broker = Link(socket.socket(fileno=fds[0]))
            self._broker.set_timeout(_BROKER_TIME)
        return Answer(ok=reply.ok, reason=reply.reason, last=reply.last)

    # --- after it

    def watched(self) -> tuple[int, ...]:
        broker = () if self._broker is None else (self._broker.fileno(),)
        return (self._monitor.fileno(), *broker)

    def hear(self, fd: int) -> None:
        """One of `watched` is readable. Raises EOFError if we are to end."""
        if self._broker is not None and fd == self._broker.fileno():
            self._hear(self._broker)
            return
        self.goodbye = self._monitor.receive(Reply).goodbye
        if not self.goodbye:
            raise Malformed("the monitor answers what nobody asked")

    def was_idle(self) -> None:
        self._monitor.send(FromWorker(idle=True))

    def ended(self) -> list[Exit]:
        ended, self._ended = self._ended, []
        return ended

    def ask(self, what: str) -> Answer:
        return self._answer(ToBroker(ask=Ask(what=what)))

    def terminal(self, channel: int, terminal: Terminal) -> Answer:
        pty = Pty(
            channel=channel,
            term=terminal.term,
            columns=terminal.columns,
            rows=terminal.rows,
            width=terminal.width,
            height=terminal.height,
            modes=terminal.modes,
        )
        answer = self._answer(ToBroker(pty=pty))
        if answer.ok:
            self._terminals[channel] = terminal
        return answer

    def env(self, channel: int, name: bytes, value: bytes) -> Answer:
        if name in (SESSION_ENV, MODE_ENV) and len(value) <= _MAX_VISIT:
            self._visits.setdefault(channel, {})[name] = value
            return Answer(ok=True)
        return self._answer(ToBroker(env=Env(channel=channel, name=name, value=value)))

    def start(
        self, channel: int, command: bytes | None, subsystem: str = ""
    ) -> Streams | Seat | Answer:
        terminal = self._terminals.get(channel)
        tap = None if terminal is None else self._announce(channel, terminal)
        if isinstance(tap, Seat):
            return tap
        wanted = Start(channel=channel, command=command, subsystem=subsystem)
        reply, fds = self._call(ToBroker(start=wanted))
        if not reply.ok:
            if tap is not None:
                tap.close()
            return Answer(ok=False, reason=reply.reason)
        if len(fds) == 1:
            return Streams(stdin=fds[0], stdout=fds[0], stderr=None, tap=tap)
        stdin, stdout, stderr = fds
        return Streams(stdin=stdin, stdout=stdout, stderr=stderr)

    def _announce(self, channel: int, terminal: Terminal) -> RecordTap | Seat:
        size = (terminal.columns, terminal.rows)
        asked = Session(channel=channel, columns=size[0], rows=size[1], term=terminal.term[:64])
        self._monitor.send(FromWorker(session=asked))
        reply, fds = self._decided(2)
        lines = [socket.socket(fileno=fd) for fd in fds]
        if not reply.ok or not lines:
            return Seat(words=reply.reason)
        scribe = lines[1] if len(lines) > 1 else None
        return RecordTap(
            control=lines[0], scribe=scribe, strict=reply.reason == "strict", size=size
        )

    def join(self, channel: int) -> Seat:
        wish = self._visits.pop(channel, {})
        asked = Join(
            channel=channel,
            sid=wish.get(SESSION_ENV, b"").decode("ascii", "replace"),
            mode=wish.get(MODE_ENV, b"observer").decode("ascii", "replace"),
        )
        self._monitor.send(FromWorker(join=asked))
        reply, fds = self._decided(1)
        if not reply.ok or not fds:
            return Seat(words=reply.reason)
        return Seat(words=reply.reason, fd=fds[0], types=asked.mode == "peer")

    def moved(self, channel: int, up: int, down: int) -> None:
        self._monitor.send(FromWorker(moved=Moved(channel=channel, up=up, down=down)))

    def resize(self, channel: int, columns: int, rows: int, width: int, height: int) -> Answer:
        sides = Resize(channel=channel, columns=columns, rows=rows, width=width, height=height)
        return self._answer(ToBroker(resize=sides))

    def signal(self, channel: int, name: str) -> Answer:
        return self._answer(ToBroker(signal=Signal(channel=channel, name=name)))

    def close(self, channel: int) -> None:
        self._terminals.pop(channel, None)
        self._visits.pop(channel, None)
        self._call(ToBroker(close=Close(channel=channel)))

    def _decided(self, most: int) -> tuple[Reply, list[int]]:
        """The monitor's answer, with so many descriptors at most. A goodbye may come first."""
        while True:
            reply, fds = self._monitor.receive_with_fds(Reply, most)
            if not reply.goodbye:
                return reply, fds
            self.goodbye = reply.goodbye

    def _answer(self, asked: ToBroker) -> Answer:
        reply = self._call(asked)[0]
        return Answer(ok=reply.ok, reason=reply.reason)

    def _call(self, asked: ToBroker) -> tuple[Reply, list[int]]:
        if self._broker is None:
            raise EOFError("nobody has logged in")
        self._broker.send(asked)
        while True:
            said, fds = self._hear(self._broker)
            if said is not None:
                return said, fds

    def _hear(self, broker: Link) -> tuple[Reply | None, list[int]]:
        said, fds = broker.receive_with_fds(ToWorker, _MOST_FDS)
        if said.ended is not None:
            ended = said.ended
            self._ended.append(
                Exit(channel=ended.channel, code=ended.code, signal=ended.signal, core=ended.core)
            )
        elif said.reply is None:
            self.forwards.hear(said, fds)
        return said.reply, fds
