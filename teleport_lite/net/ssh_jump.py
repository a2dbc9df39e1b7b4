"""The jump host, as clients speak to it: channels of type direct-tcpip (RFC 4254 §7.2), no more.

Where a channel leads the clerk finds out, and that takes its time: the node may have to be
dialled. Meanwhile the others go on.
"""

import socket
from dataclasses import dataclass
from typing import Protocol

from teleport_lite.net import ssh_entry
from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_channel import Channel
from teleport_lite.net.ssh_channels import CONNECT_FAILED, PROHIBITED, RESOURCE_SHORTAGE, Asked
from teleport_lite.net.ssh_entry import Clerk
from teleport_lite.net.ssh_forward import SocketPump
from teleport_lite.net.ssh_parting import PartingTransport
from teleport_lite.pki.wire import Reader

KIND = "direct-tcpip"
# RFC 1035; whoever looks it up says that a longer one is none.
_MOST_HOST = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The answer to `open` with that number: a socket that leads there, or why there is none."""

    number: int
    sock: socket.socket | None
    reason: str = ""


class JumpClerk(Clerk, Protocol):
    # Why it is over now, for the client; "" as long as it is not.
    goodbye: str

    def open(self, number: int, host: str, port: int) -> None:
        """Ask for a way to `host`; the answer comes from `opened`, in its own time."""

    def opened(self) -> list[Opened]: ...


def serve(
    sock: socket.socket, clerk: JumpClerk, *, host_public: str, host_cert: str, banner: str = ""
) -> str:
    """Speak SSH on `sock` until it ends. Returns why, "" for the usual reasons."""
    transport = _Transport(sock, clerk)
    return ssh_entry.serve(transport, host_public=host_public, host_cert=host_cert, banner=banner)


class _Transport(PartingTransport):
    def __init__(self, sock: socket.socket, clerk: JumpClerk) -> None:
        super().__init__(sock, clerk)
        self._jump = clerk
        self._wishes: dict[int, Asked] = {}
        self._count_of_wishes = 0

    def _news(self) -> None:
        for opened in self._jump.opened():
            asked = self._wishes.pop(opened.number, None)
            if asked is None:
                if opened.sock is not None:
                    opened.sock.close()
            elif opened.sock is None:
                self.refuse_open(asked, CONNECT_FAILED, opened.reason)
            else:
                channel = self.confirm_open(asked)
                self.attach(channel, SocketPump(channel, opened.sock, self))
        if self._jump.goodbye:
            self.part(self._jump.goodbye)

    def _open_asked(self, asked: Asked) -> None:
        if asked.kind != KIND:
            self.refuse_open(asked, PROHIBITED, self.clerk.ask(f"open {asked.kind}").reason)
            return
        host, port = asked.rest.text(), asked.rest.number(4)
        asked.rest.text()  # where the client says it comes from
        asked.rest.number(4)
        asked.rest.end()
        if self.live() > policy.MAX_JUMPS:
            self.refuse_open(asked, RESOURCE_SHORTAGE, "too many channels")
            return
        self._count_of_wishes += 1
        self._wishes[self._count_of_wishes] = asked
        named = host[:_MOST_HOST].decode("ascii", "backslashreplace")
        self._jump.open(self._count_of_wishes, named, port)

    def _channel_request(self, channel: Channel, kind: bytes, reader: Reader) -> bool:  # noqa: ARG002
        """Such channels have no requests."""
        return False
