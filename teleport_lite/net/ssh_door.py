"""Shells, as clients ask for them: sessions, terminals, commands. What leads here is `ssh_entry`.

It decides nothing. After a login the desk asks the broker, which is the login user.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import paramiko
from paramiko.common import (
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_FAILURE,
    cMSG_CHANNEL_SUCCESS,
)

from teleport_lite.net import ssh_entry
from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_entry import Answer as Answer
from teleport_lite.net.ssh_entry import Clerk, Door, EntryTransport, shown_name
from teleport_lite.net.ssh_pump import Exit as Exit
from teleport_lite.net.ssh_pump import Pump
from teleport_lite.net.ssh_pump import Streams as Streams
from teleport_lite.pki.wire import Reader


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

    def ended(self) -> list[Exit]: ...

    def terminal(self, channel: int, terminal: Terminal) -> Answer: ...

    def env(self, channel: int, name: bytes, value: bytes) -> Answer: ...

    def start(self, channel: int, command: bytes | None, subsystem: str = "") -> Streams | None: ...

    def resize(self, channel: int, columns: int, rows: int, width: int, height: int) -> Answer: ...

    def signal(self, channel: int, name: str) -> Answer: ...


def serve(sock: socket.socket, desk: Desk, *, host_public: str, host_cert: str) -> str:
    """Speak SSH on `sock` until it ends. Returns why, "" for the usual reasons."""
    transport = _Transport(sock, desk)
    return ssh_entry.serve(transport, host_public=host_public, host_cert=host_cert)


class _Door(Door):
    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002  # paramiko's
        # `_Transport._parse_channel_open` has asked the desk already.
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


class _Transport(EntryTransport):
    def __init__(self, sock: socket.socket, desk: Desk) -> None:
        super().__init__(sock, desk)
        self._desk = desk
        self._no_more_sessions = False
        self._requests: dict[bytes, Callable[[int, Reader], bool]] = {
            b"pty-req": self._pty,
            b"env": self._env,
            b"shell": self._shell,
            b"exec": self._exec,
            b"subsystem": self._subsystem,
            b"window-change": self._window_change,
            b"signal": self._signal,
        }

    def door(self) -> Door:
        return _Door()

    def _news(self) -> None:
        for how in self._desk.ended():
            pump = self._movers.get(how.channel)
            if pump is not None:
                cast(Pump, pump).exited(how)

    def _granted(self, kind: str) -> None:
        self._no_more_sessions |= kind == "no-more-sessions@openssh.com"

    # --- channels and requests

    def _parse_channel_open(self, m: paramiko.Message) -> None:
        reader = Reader(m.asbytes())
        kind, remote = shown_name(reader.text()), reader.number(4)
        reader.number(4)  # their window
        reader.number(4)  # their largest packet
        self._drop_closed()  # one may have been closed a message ago
        answer = self._desk.ask(f"open {kind}")
        if answer.ok and self._no_more_sessions:
            answer = Answer(ok=False, reason="the client wanted no more sessions")
        if answer.ok and len(self._kept) < policy.MAX_SESSIONS:
            self.accept_channel(m)
            return
        code = (
            OPEN_FAILED_RESOURCE_SHORTAGE if answer.ok else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        )
        self._refuse_open(remote, code, answer.reason or "too many sessions")

    def _channel_request(self, channel: paramiko.Channel, m: paramiko.Message) -> None:
        reader = Reader(m.get_remainder())
        kind, wants_reply = reader.text(), reader.take(1) != b"\0"
        number = channel.get_id()
        act = self._requests.get(kind)
        if act is not None:
            ok = act(number, reader)
        else:
            ok = self._desk.ask(f"request {shown_name(kind)}").ok
        if wants_reply:
            reply = paramiko.Message()
            reply.add_byte(cMSG_CHANNEL_SUCCESS if ok else cMSG_CHANNEL_FAILURE)
            reply.add_int(channel.remote_chanid)
            self._send_user_message(reply)

    def _pty(self, number: int, reader: Reader) -> bool:
        terminal = Terminal(
            term=reader.text(),
            columns=reader.number(4),
            rows=reader.number(4),
            width=reader.number(4),
            height=reader.number(4),
            modes=reader.text(),
        )
        return self._desk.terminal(number, terminal).ok

    def _env(self, number: int, reader: Reader) -> bool:
        return self._desk.env(number, reader.text(), reader.text()).ok

    def _shell(self, number: int, _reader: Reader) -> bool:
        return self._start(number, None)

    def _exec(self, number: int, reader: Reader) -> bool:
        return self._start(number, reader.text())

    def _subsystem(self, number: int, reader: Reader) -> bool:
        name = shown_name(reader.text())
        return bool(name) and self._start(number, None, name)

    def _start(self, number: int, command: bytes | None, subsystem: str = "") -> bool:
        too_long = command is not None and len(command) > policy.MAX_COMMAND
        if number in self._movers or too_long:
            return False
        streams = self._desk.start(number, command, subsystem)
        if streams is None:
            return False
        self._movers[number] = Pump(self._kept[number], streams, self._send_user_message)
        return True

    def _window_change(self, number: int, reader: Reader) -> bool:
        sides = [reader.number(4) for _ in range(4)]
        return self._desk.resize(number, *sides).ok

    def _signal(self, number: int, reader: Reader) -> bool:
        return self._desk.signal(number, shown_name(reader.text())).ok
