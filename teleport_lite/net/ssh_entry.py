"""The way in: key exchange, login and the event loop, whatever is behind it.

Paramiko has the key exchange; `ssh_login` the login, `ssh_wire` the packets and the waiting,
`ssh_channels` what comes after the login. Here they are put together, and given to what is behind
(`ssh_door`: shells, `ssh_jump`: ways to nodes). Nobody here decides: the clerk asks those who do.
"""

import heapq
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Protocol, cast

import paramiko
from paramiko.common import (
    MSG_DEBUG,
    MSG_DISCONNECT,
    MSG_EXT_INFO,
)
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.packet import Packetizer

from teleport_lite.errors import Malformed
from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_channel import MSG_DATA, Channel
from teleport_lite.net.ssh_channels import MSG_GLOBAL_REQUEST, Channels
from teleport_lite.net.ssh_channels import shown_name as shown_name
from teleport_lite.net.ssh_hostkey import ShownKey
from teleport_lite.net.ssh_login import Answer as Answer
from teleport_lite.net.ssh_login import Auth
from teleport_lite.net.ssh_login import Clerk as Clerk
from teleport_lite.net.ssh_login import Door as Door
from teleport_lite.net.ssh_wire import Wire
from teleport_lite.pki.verify import ssh_blob
from teleport_lite.pki.wire import Reader, text

# RFC 4252 §6: numbers from here on belong to logins and channels, not to the transport.
_FIRST_OF_SERVICES = 50
# PROTOCOL §1.9 (draft-miller-ssh-ping): OpenSSH's clients hide between them when keys are typed.
_MSG_PING, _MSG_PONG = 192, 193
_PING = b"ping@openssh.com"
# RFC 4253 §11.1.
_PROTOCOL_ERROR = 2
# Owner of the clerk's descriptors in `Watch`; channels have numbers from 0 on.
_CLERK = -2
_SHOWN = 160


class Mover(Protocol):
    """What moves the bytes of one channel. Owns its descriptors."""

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]: ...

    def ready(self, fd: int) -> None: ...

    def has(self, fd: int) -> bool: ...

    def close(self) -> None: ...


def serve(
    transport: "EntryTransport", *, host_public: str, host_cert: str, banner: str = ""
) -> str:
    """Speak SSH until it ends, in this thread. Returns why, "" for the usual reasons.

    `host_public` and `host_cert` are OpenSSH lines. `banner` is shown before the login
    (RFC 4252 §5.4).
    """
    transport.banner = banner
    # It would log a traceback for every port scanner.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
    for name, line in ((policy.HOST_CERT, host_cert), (policy.HOST_KEY, host_public)):
        transport.add_server_key(ShownKey(name, ssh_blob(line), transport.clerk.sign))
    transport.start_server(event=threading.Event(), server=transport.door())
    transport.run()
    transport.leave()
    return transport.why()


class EntryTransport(Channels, paramiko.Transport):  # type: ignore[misc]  # open_channel is ours
    """One thread: `run` is called, not started, and its reading is the event loop.

    Private parts of paramiko in use: what is declared or overridden below. A test has a list
    of them, so that an upgrade that moves one fails there. Its channels are not used.
    """

    _CLIENT_ID = policy.BANNER
    _preferred_kex = policy.KEX
    _preferred_ciphers = policy.CIPHERS
    _preferred_macs = policy.MACS
    _preferred_keys = (policy.HOST_KEY,)
    _preferred_pubkeys = policy.USER_KEYS
    _preferred_compression = ("none",)
    # Paramiko knows it by its older name only (RFC 8731: they are the same).
    _kex_info = {
        **paramiko.Transport._kex_info,  # type: ignore[attr-defined]  # not in stubs
        "curve25519-sha256": KexCurve25519,
    }
    active: bool
    _handler_table: dict[int, Callable[[paramiko.Message], None]]
    _expected_packet: tuple[int, ...]
    keepalive_seconds = policy.KEEPALIVE_SECONDS
    banner = ""

    def __init__(self, sock: socket.socket, clerk: Clerk) -> None:
        paramiko.Transport.__init__(self, sock, packetizer_class=cast(type[Packetizer], Wire))
        Channels.__init__(self)
        self._wire, self.clerk = cast(Wire, self.packetizer), clerk
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._movers: dict[int, Mover] = {}
        self._ended: list[Channel] = []
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._alarm_numbers = count()
        self._missed, self._asked_at = 0, 0.0
        self._may_send = False
        self._watched: tuple[int, ...] = ()
        self._wire.attendant = self
        # A client's extensions (RFC 8308) are none of ours, and paramiko would count to the
        # number it names.
        self._handler_table[MSG_EXT_INFO] = lambda _message: None
        for kind in (MSG_DATA, *self._readers):
            self._handler_table[kind] = _too_early

    # --- what is behind the door

    def door(self) -> Door:
        return Door()

    def _news(self) -> None:
        """What the clerk has heard meanwhile. Called before each wait."""

    def start(self) -> None:
        """Paramiko would start a thread here."""

    def leave(self) -> None:
        """It is over: pass on what was heard last, and let go of all that belongs to channels."""
        with suppress(EOFError, Malformed, paramiko.SSHException):
            self._ask_movers()
        self.give_up()
        for mover in self._movers.values():
            mover.close()
        self._movers.clear()

    def why(self) -> str:
        end = self.saved_exception
        if end is None or isinstance(end, EOFError):
            return ""
        known = isinstance(end, paramiko.SSHException | Malformed)
        return ascii(str(end) if known else type(end).__name__)[1:-1][:_SHOWN]

    # --- the loop

    def before_wait(self, *, may_send: bool) -> None:
        self._hear_all()
        exchanging_keys = not self.clear_to_send.is_set()
        self._wire.in_a_hurry = exchanging_keys or not self._movers
        may_send = may_send and not exchanging_keys
        if may_send != self._may_send:
            self._may_send = may_send
            self._stirred.update(self._movers)
        self._ask_movers()
        while self._ended:  # a mover may find that it has nothing left to do
            self._hear_all()
            self._ask_movers()
        watched = self.clerk.watched()
        if watched != self._watched:
            self._watched = watched
            self._wire.watch.change({_CLERK: dict.fromkeys(watched, select.POLLIN)})

    def _hear_all(self) -> None:
        """To let go of a channel is to ask the clerk, who may hear other news before the answer.
        They are read by then: no descriptor would wake us for them."""
        self._news()
        while self._ended:
            self._drop_ended()
            self._news()

    def _ask_movers(self) -> None:
        """What those want to wait for to whom something has happened. They pass on what has come
        for them first, so views of it end here."""
        stirred, self._stirred = self._stirred, set()
        wishes = {}
        for number in stirred:
            mover = self._movers.get(number)
            wishes[number] = {} if mover is None else dict(mover.wants(may_send=self._may_send))
        if wishes:
            self._wire.watch.change(wishes)
        self.keep()

    def ready(self, fd: int) -> None:
        owner = self._wire.watch.owner(fd)
        if owner == _CLERK:
            self._stirred.update(self._movers)
            self.clerk.hear(fd)
            return
        mover = None if owner is None else self._movers.get(owner)
        if owner is not None and mover is not None and mover.has(fd):
            self._stirred.add(owner)
            # Many may be ready in one turn: what they would read has to fit in our memory.
            if not self._wire.crowded:
                mover.ready(fd)

    def attach(self, channel: Channel, mover: Mover) -> None:
        """From now on `mover` sees to what the channel carries; it is closed with the channel."""
        self._movers[channel.number] = mover
        self.stir(channel.number)

    def mover(self, number: int) -> Mover | None:
        """That of a channel, to be told something; it will be asked again what it waits for."""
        self.stir(number)
        return self._movers.get(number)

    def over(self, channel: Channel) -> None:
        self._ended.append(channel)

    def _drop_ended(self) -> None:
        ended, self._ended = self._ended, []
        for channel in ended:
            mover = self._movers.pop(channel.number, None)
            if mover is not None:
                self._wire.watch.change({channel.number: {}})
                mover.close()
            self.clerk.close(channel.number)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` then, between messages. There is no taking back: let it look whether it
        still has something to do."""
        alarm = time.monotonic() + seconds, next(self._alarm_numbers), act
        heapq.heappush(self._alarms, alarm)

    def patience(self) -> float | None:
        """Seconds until the next alarm; those that are due go off, and then it is none."""
        rung = False
        while self._alarms:
            left = self._alarms[0][0] - time.monotonic()
            if left > 0:
                return 0.0 if rung else left
            rung = True
            self._stirred.update(self._movers)
            heapq.heappop(self._alarms)[2]()
        return 0.0 if rung else None

    def _keep_alive(self) -> None:
        """As sshd's ClientAliveInterval: only who is silent is asked, and OpenSSH's clients answer
        a request that they do not know."""
        now, heard = time.monotonic(), self._wire.last_heard
        if heard > self._asked_at:
            self._missed = 0
        if now - heard < self.keepalive_seconds:
            self.later(heard + self.keepalive_seconds - now, self._keep_alive)
            return
        if self._missed == policy.KEEPALIVE_MISSED:
            raise paramiko.SSHException("client does not answer any more")
        self._asked_at = now
        self._missed += 1
        self.send(bytes([MSG_GLOBAL_REQUEST]) + text(b"keepalive@openssh.com") + b"\1")
        self.later(self.keepalive_seconds, self._keep_alive)

    # --- sending

    def send(self, payload: bytes) -> None:
        """RFC 4253 §7.1: during a key exchange nothing of the services may be sent. Paramiko
        waits for its end, which in a single thread would never come; here such messages wait."""
        if not self.active:
            return
        if self.clear_to_send.is_set() or payload[0] < _FIRST_OF_SERVICES:
            self._wire.send(payload)
            return
        self._held.append(payload)
        self._held_bytes += len(payload)
        if self._held_bytes > policy.MAX_HELD:
            raise paramiko.SSHException("client does not finish a key exchange")

    def pump(self, channel: Channel, fd: int, most: int) -> int:
        if self.clear_to_send.is_set():
            return self._wire.pump(fd, channel.remote, most, channel.largest)
        data = os.read(fd, min(most, channel.largest))
        if data:
            self.send(channel.packet(data))
        return len(data)

    def _send_message(self, data: paramiko.Message) -> None:
        payload = data.asbytes()
        self.send(self._extensions() if payload[0] == MSG_EXT_INFO else payload)

    def _extensions(self) -> bytes:
        """RFC 8308 §2.3, with one more than paramiko has."""
        algorithms = ",".join(policy.USER_KEYS).encode()
        told = text(b"server-sig-algs") + text(algorithms) + text(_PING) + text(b"0")
        return bytes([MSG_EXT_INFO]) + (2).to_bytes(4, "big") + told

    def goodbye(self) -> bytes:
        """RFC 4253 §11.1: a client that has gone against the protocol is told what is wrong; who
        has not even begun with it gets no packets."""
        known = isinstance(self.saved_exception, paramiko.SSHException | Malformed)
        if not known or not self.remote_version:
            return b""
        code = _PROTOCOL_ERROR.to_bytes(4, "big")
        return bytes([MSG_DISCONNECT]) + code + text(self.why().encode()) + text(b"en")

    def debug(self, words: str, show: bool = True) -> None:
        """RFC 4253 §11.3: `ssh -v` prints it, and with `show` every client should."""
        self.send(bytes([MSG_DEBUG, show]) + text(words.encode()) + text(b"en"))

    def _parse_newkeys(self, m: paramiko.Message) -> None:
        if self.auth_handler is None:
            self.auth_handler = Auth(self, self.clerk, self.banner)
        super()._parse_newkeys(m)  # type: ignore[misc]  # not in stubs
        held, self._held, self._held_bytes = self._held, [], 0
        for payload in held:
            self.send(payload)

    def _auth_trigger(self) -> None:
        super()._auth_trigger()  # type: ignore[misc]  # not in stubs
        self._wire.largest = policy.MAX_PACKET
        self._wire.services = {MSG_DATA, _MSG_PING, *self._readers}
        self.openssh = "-OpenSSH" in self.remote_version[:16]
        self.later(self.keepalive_seconds, self._keep_alive)

    # --- messages

    def deliver(self, kind: int, body: memoryview) -> None:
        """Past paramiko: after the login, and never in the middle of a key exchange."""
        if self._expected_packet:
            raise paramiko.SSHException(f"client sends message {kind} during a key exchange")
        if kind == _MSG_PING:
            self.send(bytes([_MSG_PONG]) + body)
        else:
            super().deliver(kind, body)

    def _ensure_authed(self, ptype: int, message: paramiko.Message) -> None:
        """Paramiko would answer some of what comes before the login, and stumble over others.
        `_too_early` answers all of it."""

    def _global_request(self, kind: str, reader: Reader) -> tuple[bool, bytes]:  # noqa: ARG002
        return self.clerk.ask(f"global {kind}").ok, b""


def _too_early(_message: paramiko.Message) -> None:
    """In paramiko's table: after the login such messages do not get there."""
    raise paramiko.SSHException("client wants a channel before its login")
