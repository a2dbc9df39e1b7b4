"""The jump host, as clients speak to it: channels of type direct-tcpip (RFC 4254 §7.2), no more.

Where a channel leads the clerk finds out, and that takes its time: the node may have to be
dialled. Meanwhile the others go on.
"""

import socket
from dataclasses import dataclass
from typing import Protocol

import paramiko
from paramiko.common import (
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_FAILURE,
)

from teleport_lite.net import ssh_entry
from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_entry import Clerk, Door, EntryTransport, shown_name
from teleport_lite.net.ssh_forward import SocketPump
from teleport_lite.pki.wire import Reader

KIND = "direct-tcpip"
# RFC 1035; whoever looks it up says that a longer one is none.
_MOST_HOST = 256
# Clients show the reason as one line.
_MOST_REASON = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The answer to `open` with that number: a socket that leads there, or why there is none."""

    number: int
    sock: socket.socket | None
    reason: str = ""


class JumpClerk(Clerk, Protocol):
    def open(self, number: int, host: str, port: int) -> None:
        """Ask for a way to `host`; the answer comes from `opened`, in its own time."""

    def opened(self) -> list[Opened]: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """A channel that the client wants, and waits for."""

    remote: int
    window: int
    largest: int


def serve(sock: socket.socket, clerk: JumpClerk, *, host_public: str, host_cert: str) -> str:
    """Speak SSH on `sock` until it ends. Returns why, "" for the usual reasons."""
    transport = _Transport(sock, clerk)
    return ssh_entry.serve(transport, host_public=host_public, host_cert=host_cert)


class _Door(Door):
    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002  # paramiko's
        # `_Transport` asks paramiko for a channel only when there is a way for it.
        return OPEN_SUCCEEDED


class _Transport(EntryTransport):
    def __init__(self, sock: socket.socket, clerk: JumpClerk) -> None:
        super().__init__(sock, clerk)
        self._jump = clerk
        self._asked: dict[int, _Asked] = {}
        self._count = 0

    def door(self) -> Door:
        return _Door()

    def _news(self) -> None:
        for opened in self._jump.opened():
            asked = self._asked.pop(opened.number, None)
            if asked is None:
                if opened.sock is not None:
                    opened.sock.close()
            elif opened.sock is None:
                reason = opened.reason[:_MOST_REASON]
                self._refuse_open(asked.remote, OPEN_FAILED_CONNECT_FAILED, reason)
            else:
                self._begin(asked, opened.sock)

    def _parse_channel_open(self, m: paramiko.Message) -> None:
        reader = Reader(m.asbytes())
        kind = shown_name(reader.text())
        asked = _Asked(reader.number(4), reader.number(4), reader.number(4))
        if kind != KIND:
            reason = self.clerk.ask(f"open {kind}").reason
            self._refuse_open(asked.remote, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, reason)
            return
        host, port = reader.text(), reader.number(4)
        reader.text()  # where the client says it comes from
        reader.number(4)
        reader.end()
        self._drop_closed()  # one may have been closed a message ago
        if len(self._kept) + len(self._asked) >= policy.MAX_JUMPS:
            self._refuse_open(asked.remote, OPEN_FAILED_RESOURCE_SHORTAGE, "too many channels")
            return
        self._count += 1
        self._asked[self._count] = asked
        self._jump.open(self._count, host[:_MOST_HOST].decode("ascii", "backslashreplace"), port)

    def _begin(self, asked: _Asked, sock: socket.socket) -> None:
        """Paramiko opens the channel, from a message of ours: it would decode the host name."""
        message = paramiko.Message()
        message.add_string("session")
        message.add_int(asked.remote)
        message.add_int(asked.window)
        message.add_int(asked.largest)
        before = set(self._kept)
        self.accept_channel(paramiko.Message(message.asbytes()))
        [number] = set(self._kept) - before
        self._movers[number] = SocketPump(self._kept[number], sock)

    def _channel_request(self, channel: paramiko.Channel, m: paramiko.Message) -> None:
        """Such channels have no requests."""
        reader = Reader(m.get_remainder())
        reader.text()
        if reader.take(1) != b"\0":
            reply = paramiko.Message()
            reply.add_byte(cMSG_CHANNEL_FAILURE)
            reply.add_int(channel.remote_chanid)
            self._send_user_message(reply)
