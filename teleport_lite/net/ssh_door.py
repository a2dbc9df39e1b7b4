"""Shells, as clients ask for them: sessions, terminals, commands. What leads here is `ssh_entry`.

It decides nothing. After a login the desk asks the broker, which is the login user.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, cast

from teleport_lite.net import ssh_entry
from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_channel import Channel
from teleport_lite.net.ssh_channels import PROHIBITED, RESOURCE_SHORTAGE, UNKNOWN_TYPE, Asked
from teleport_lite.net.ssh_entry import Answer as Answer
from teleport_lite.net.ssh_entry import Clerk, shown_name
from teleport_lite.net.ssh_forwards import ForwardDesk, Forwards
from teleport_lite.net.ssh_parting import PartingTransport
from teleport_lite.net.ssh_pump import Exit as Exit
from teleport_lite.net.ssh_pump import Pump
from teleport_lite.net.ssh_pump import Streams as Streams
from teleport_lite.net.ssh_visit import SUBSYSTEM, Seat, Visit
from teleport_lite.pki.wire import Reader

# Exit status of a session whose shell or command is refused.
_REFUSED = 1
# In the time that a connection may be idle, so often it is looked at.
_LOOKS = 20
# What is ours in the standard error of a session.
_NOTE = "teleport-lite: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A pty-req (RFC 4254 §6.2)."""

    term: bytes
    columns: int
    rows: int
    width: int
    height: int
    modes: bytes


class Desk(Clerk, Protocol):
    """A clerk who has shells."""

    # Set with the login: after so many seconds without a byte it is over; 0 is never.
    idle_seconds: float
    # Why it is over now, for the client; "" as long as it is not.
    goodbye: str

    @property
    def forwards(self) -> ForwardDesk: ...

    def was_idle(self) -> None:
        """For too long: the client knows."""

    def ended(self) -> list[Exit]: ...

    def terminal(self, channel: int, terminal: Terminal) -> Answer: ...

    def env(self, channel: int, name: bytes, value: bytes) -> Answer: ...

    def start(
        self, channel: int, command: bytes | None, subsystem: str = ""
    ) -> Streams | Seat | Answer:
        """An answer is a refusal. So is a seat, with words that the person must see: clients show
        nothing of the kind when a request fails."""

    def join(self, channel: int) -> Seat:
        """In somebody's session, which its environment names; or why there is none."""

    def moved(self, channel: int, up: int, down: int) -> None:
        """A session's channel is over; so many bytes came and went."""

    def resize(self, channel: int, columns: int, rows: int, width: int, height: int) -> Answer: ...

    def signal(self, channel: int, name: str) -> Answer: ...


def serve(
    sock: socket.socket, desk: Desk, *, host_public: str, host_cert: str, banner: str = ""
) -> str:
    """Speak SSH on `sock` until it ends. Returns why, "" for the usual reasons."""
    transport = _Transport(sock, desk)
    return ssh_entry.serve(transport, host_public=host_public, host_cert=host_cert, banner=banner)


class _Transport(PartingTransport):
    def __init__(self, sock: socket.socket, desk: Desk) -> None:
        super().__init__(sock, desk)
        self._desk = desk
        self._no_more_sessions = False
        self._moved_at, self._moved = 0.0, (0, 0)
        self._forwards = Forwards(self, desk.forwards)
        self._requests: dict[bytes, Callable[[Channel, Reader], bool]] = {
            b"pty-req": self._pty,
            b"env": self._env,
            b"shell": self._shell,
            b"exec": self._exec,
            b"subsystem": self._subsystem,
            b"window-change": self._window_change,
            b"signal": self._signal,
            b"eow@openssh.com": self._unread,
            b"auth-agent-req@openssh.com": self._agent,
            b"x11-req": self._x11,
        }

    def _news(self) -> None:
        more = True
        while more:
            for how in self._desk.ended():
                pump = self.mover(how.channel)
                if pump is not None:
                    cast(Pump, pump).exited(how)
            more = self._forwards.news()
        if self._desk.goodbye:
            self.part(self._desk.goodbye)

    # --- the end, if it is our idea

    def _auth_trigger(self) -> None:
        super()._auth_trigger()
        self._moved_at = time.monotonic()
        if self._desk.idle_seconds:
            self._watch_idleness()

    def _watch_idleness(self) -> None:
        """What moves on the channels counts, and that one comes or goes; keepalives do not."""
        limit, now = self._desk.idle_seconds, time.monotonic()
        moved = sum(one.heard + one.said for one in self._table.values()), len(self._table)
        if moved != self._moved:
            self._moved_at, self._moved = now, moved
        left = self._moved_at + limit - now
        if left <= 0:
            self._desk.was_idle()
            self.part(f"nothing has moved for {limit:.0f} s, and the role does not allow more")
        # Looking more often finds sooner when something moved last.
        self.later(min(left, limit / _LOOKS), self._watch_idleness)

    def over(self, channel: Channel) -> None:
        super().over(channel)
        self._tell_moved(channel)

    def leave(self) -> None:
        super().leave()
        with suppress(EOFError):
            for channel in self._table.values():
                if not channel.close_sent:
                    self._tell_moved(channel)

    def _wake(self, channel: Channel, seconds: float) -> None:
        self.later(seconds, lambda: self.stir(channel.number))

    def _tell_moved(self, channel: Channel) -> None:
        if channel.kind == "session":
            self._desk.moved(channel.number, channel.heard, channel.said)

    # --- channels and requests

    def _global_request(self, kind: str, reader: Reader) -> tuple[bool, bytes]:
        if self._forwards.asks(kind):
            return self._forwards.asked(kind, reader)
        ok, extra = super()._global_request(kind, reader)
        self._no_more_sessions |= ok and kind == "no-more-sessions@openssh.com"
        return ok, extra

    def _open_asked(self, asked: Asked) -> None:
        if self._forwards.opens(asked.kind):
            self._forwards.open_asked(asked)
            return
        answer = self._desk.ask(f"open {asked.kind}")
        if not answer.ok:
            self.refuse_open(asked, PROHIBITED, answer.reason)
        elif asked.kind != "session":
            self.refuse_open(asked, UNKNOWN_TYPE, "no such channels here")
        elif self._no_more_sessions:
            self.refuse_open(asked, PROHIBITED, "the client wanted no more sessions")
        elif self.live("session") > policy.MAX_SESSIONS:
            self.refuse_open(asked, RESOURCE_SHORTAGE, "too many sessions")
        else:
            asked.rest.end()
            self.confirm_open(asked)

    def _channel_request(self, channel: Channel, kind: bytes, reader: Reader) -> bool:
        act = self._requests.get(kind)
        if act is not None:
            return act(channel, reader)
        return self._desk.ask(f"request {shown_name(kind)}").ok

    def _pty(self, channel: Channel, reader: Reader) -> bool:
        terminal = Terminal(
            term=reader.text(),
            columns=reader.number(4),
            rows=reader.number(4),
            width=reader.number(4),
            height=reader.number(4),
            modes=reader.text(),
        )
        reader.end()
        return self._told(channel, self._desk.terminal(channel.number, terminal))

    def _env(self, channel: Channel, reader: Reader) -> bool:
        name, value = reader.text(), reader.text()
        reader.end()
        return self._desk.env(channel.number, name, value).ok

    def _shell(self, channel: Channel, reader: Reader) -> bool:
        reader.end()
        return self._start(channel, None)

    def _exec(self, channel: Channel, reader: Reader) -> bool:
        command = reader.text()
        reader.end()
        return self._start(channel, command)

    def _subsystem(self, channel: Channel, reader: Reader) -> bool:
        name = shown_name(reader.text())
        reader.end()
        if name == SUBSYSTEM:
            return self._join(channel)
        return bool(name) and self._start(channel, None, name)

    def _join(self, channel: Channel) -> bool:
        if channel.number in self._movers:
            return False
        self.attach(channel, Visit(channel, self._desk.join(channel.number)))
        return True

    def _start(self, channel: Channel, command: bytes | None, subsystem: str = "") -> bool:
        too_long = command is not None and len(command) > policy.MAX_COMMAND
        if channel.number in self._movers or too_long:
            return False
        notes, self._forwards.notes = self._forwards.notes, []
        for note in notes:
            channel.note(_NOTE + note)
        streams = self._desk.start(channel.number, command, subsystem)
        if isinstance(streams, Answer):
            # OpenSSH's client ends at once when it hears of a failure, and shows nothing that
            # came before. A channel that is closed instead is no success to anybody either.
            self._told(channel, streams)
            channel.send_exit_status(_REFUSED)
            channel.close()
            return False
        if isinstance(streams, Seat):
            self.attach(channel, Visit(channel, streams))
            return True
        if streams.tap is not None:
            streams.tap.bind(channel.note, lambda seconds: self._wake(channel, seconds))
        self.attach(channel, Pump(channel, streams, streams.tap))
        return True

    def _agent(self, channel: Channel, reader: Reader) -> bool:
        return self._told(channel, self._forwards.agent(channel, reader))

    def _x11(self, channel: Channel, reader: Reader) -> bool:
        return self._told(channel, self._forwards.display(channel, reader))

    def _told(self, channel: Channel, answer: Answer) -> bool:
        """Requests are answered with a yes or a no: why not, the person reads on stderr."""
        if not answer.ok:
            channel.note(_NOTE + answer.reason)
        return answer.ok

    def _window_change(self, channel: Channel, reader: Reader) -> bool:
        columns, rows, width, height = (reader.number(4) for _ in range(4))
        reader.end()
        ok = self._desk.resize(channel.number, columns, rows, width, height).ok
        pump = self._movers.get(channel.number)
        if ok and pump is not None:
            cast(Pump, pump).resized(columns, rows)
        return ok

    def _signal(self, channel: Channel, reader: Reader) -> bool:
        name = shown_name(reader.text())
        reader.end()
        return self._desk.signal(channel.number, name).ok

    def _unread(self, channel: Channel, reader: Reader) -> bool:
        reader.end()
        pump = self._movers.get(channel.number)
        if pump is not None:
            cast(Pump, pump).unread()
        return pump is not None
