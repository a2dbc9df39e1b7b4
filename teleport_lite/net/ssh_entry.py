"""The way in: key exchange, login and the event loop, whatever is behind it.

Paramiko's questions, put in our words; with what is behind it (`ssh_door`: shells, `ssh_jump`:
ways to nodes) the only modules that subclass its server. They decide nothing: the clerk asks
the monitor, which checks certificate and signature by itself. What clients send after the login
is parsed by the strict reader, not by paramiko's, which takes missing fields for zeros.
"""

import heapq
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol, cast

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_DEBUG,
    MSG_EXT_INFO,
    MSG_USERAUTH_BANNER,
)
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.pkey import PublicBlob

from teleport_lite.errors import Malformed
from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_channel import Channel
from teleport_lite.net.ssh_channels import MSG_GLOBAL_REQUEST, Channels
from teleport_lite.net.ssh_channels import shown_name as shown_name
from teleport_lite.net.ssh_hostkey import ShownKey
from teleport_lite.net.ssh_loop import Wire
from teleport_lite.net.ssh_packets import GuardedPackets
from teleport_lite.pki.verify import ssh_blob
from teleport_lite.pki.wire import Reader, text

# RFC 4252 §6: numbers from here on belong to logins and channels, not to the transport.
_FIRST_OF_SERVICES = 50
# RFC 4254 §4: and from here on to the connection protocol, up to the local extensions.
_CONNECTION = range(80, 128)
_SHOWN = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    ok: bool
    reason: str = ""
    last: bool = False  # of the login tries: say goodbye


class Clerk(Protocol):
    """Those who decide, as seen from the door. Calls raise EOFError when they are gone."""

    def sign(self, exchange_hash: bytes) -> bytes: ...

    def login(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> Answer: ...

    def watched(self) -> tuple[int, ...]: ...

    def hear(self, fd: int) -> None: ...

    def ask(self, what: str) -> Answer: ...

    def close(self, channel: int) -> None: ...


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


class Door(paramiko.ServerInterface):
    """What is not here is refused: paramiko's own answers are all no."""

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002  # paramiko's signature
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        assert isinstance(key, _Offered)
        return AUTH_SUCCESSFUL if key.would_do(username) else AUTH_FAILED


class _Offered(paramiko.PKey):
    """Any key a client offers, unread: the monitor reads it. Paramiko itself would read it, and
    hang up when it cannot; here an odd key fails, and the next one may fit."""

    def __init__(self, handler: "_Auth", algorithm: str, blob: bytes) -> None:
        self._handler, self._algorithm, self._raw = handler, algorithm, blob
        self.public_blob = PublicBlob(algorithm, blob)

    def would_do(self, login: str) -> bool:
        """With a signature at hand the question is put once, with it."""
        return self._handler.signed or self._handler.present(
            login, self._algorithm, self._raw, None
        )

    def verify_ssh_sig(self, data: bytes, msg: paramiko.Message) -> bool:  # noqa: ARG002  # why:
        """`data` is what paramiko thinks was signed. The monitor puts that together itself."""
        login = self._handler.auth_username or ""
        return self._handler.present(login, self._algorithm, self._raw, msg.asbytes())


class _Auth(AuthHandler):
    def __init__(self, transport: "EntryTransport", desk: Clerk) -> None:
        super().__init__(transport)
        self._entry, self._desk, self._banner = transport, desk, transport.banner
        self._was_last = self.signed = False

    def present(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> bool:
        answer = self._desk.login(login, algorithm, certificate, signature)
        self._was_last = answer.last
        if answer.reason:  # only who has proved to be somebody is told one
            self._show(f"{answer.reason}\n")
        return answer.ok

    def _parse_userauth_request(self, m: paramiko.Message) -> None:
        """RFC 4252 §5, §7. Read strictly first: paramiko takes missing fields for zeros."""
        reader = Reader(m.asbytes())
        _login, _service, method = reader.text(), reader.text(), reader.text()
        if method == b"publickey":
            self.signed = reader.take(1) != b"\0"
            for _ in ("algorithm", "key", "signature")[: 3 if self.signed else 2]:
                reader.text()
            reader.end()
        banner, self._banner = self._banner, ""
        if banner:  # RFC 4252 §5.4: before the login is answered; once is enough
            self._show(banner)
        super()._parse_userauth_request(m)  # type: ignore[misc]  # not in stubs

    def _show(self, words: str) -> None:
        self._entry.send(bytes([MSG_USERAUTH_BANNER]) + text(words.encode()) + text(b"en"))

    def _parse_userauth_info_response(self, _m: paramiko.Message) -> None:
        """We ask no questions; paramiko would count to the number of answers it names."""
        raise paramiko.SSHException("an answer to a question that nobody asked")

    def _generate_key_from_request(self, algorithm: str, keyblob: bytes) -> paramiko.PKey:
        return _Offered(self, algorithm, keyblob)

    def _send_auth_result(self, username: str, method: str, result: int) -> None:
        super()._send_auth_result(username, method, result)  # type: ignore[misc]  # not in stubs
        if self._was_last:
            self._disconnect_no_more_auth()  # type: ignore[attr-defined]  # not in stubs


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
    keepalive_seconds = policy.KEEPALIVE_SECONDS
    banner = ""

    def __init__(self, sock: socket.socket, clerk: Clerk) -> None:
        wire = Wire(sock)
        paramiko.Transport.__init__(
            self, cast(socket.socket, wire), packetizer_class=GuardedPackets
        )
        Channels.__init__(self)
        self._wire, self.clerk = wire, clerk
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._movers: dict[int, Mover] = {}
        self._ended: list[Channel] = []
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._alarm_numbers = count()
        self._missed = 0
        wire.attendant = self
        # A client's extensions (RFC 8308) are none of ours, and paramiko would count to the
        # number it names.
        self._handler_table[MSG_EXT_INFO] = lambda _message: None
        for kind in self._readers:
            self._handler_table[kind] = self._deliverer(kind)

    # --- what is behind the door

    def door(self) -> Door:
        return Door()

    def _news(self) -> None:
        """What the clerk has heard meanwhile. Called before each wait."""

    def start(self) -> None:
        """Paramiko would start a thread here."""

    def leave(self) -> None:
        """It is over: let go of everything that belongs to channels."""
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

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]:
        self._news()
        self._drop_ended()
        exchanging_keys = not self.clear_to_send.is_set()
        self._wire.in_a_hurry = exchanging_keys or not self._movers
        may_send = may_send and not exchanging_keys
        for mover in self._movers.values():
            yield from mover.wants(may_send=may_send)
        for fd in self.clerk.watched():
            yield fd, select.POLLIN

    def ready(self, fd: int) -> None:
        if fd in self.clerk.watched():
            self.clerk.hear(fd)
            return
        for mover in self._movers.values():
            if mover.has(fd):
                mover.ready(fd)

    def attach(self, channel: Channel, mover: Mover) -> None:
        """From now on `mover` sees to what the channel carries; it is closed with the channel."""
        self._movers[channel.number] = mover

    def over(self, channel: Channel) -> None:
        self._ended.append(channel)

    def _drop_ended(self) -> None:
        ended, self._ended = self._ended, []
        for channel in ended:
            mover = self._movers.pop(channel.number, None)
            if mover is not None:
                mover.close()
            self.clerk.close(channel.number)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` then, between messages. There is no taking back: let it look whether it
        still has something to do."""
        alarm = time.monotonic() + seconds, next(self._alarm_numbers), act
        heapq.heappush(self._alarms, alarm)

    def patience(self) -> float | None:
        """Seconds until the next alarm; those that are due go off."""
        while self._alarms:
            left = self._alarms[0][0] - time.monotonic()
            if left > 0:
                return left
            heapq.heappop(self._alarms)[2]()
        return None

    def _keep_alive(self) -> None:
        """As sshd's ClientAliveInterval: only who is silent is asked, and OpenSSH's clients answer
        a request that they do not know."""
        silent = time.monotonic() - self._wire.last_heard
        if silent < self.keepalive_seconds:
            self._missed = 0
            self.later(self.keepalive_seconds - silent, self._keep_alive)
            return
        if self._missed == policy.KEEPALIVE_MISSED:
            raise paramiko.SSHException("client does not answer any more")
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
            self.packetizer.send_message(paramiko.Message(payload))
            return
        self._held.append(payload)
        self._held_bytes += len(payload)
        if self._held_bytes > policy.MAX_HELD:
            raise paramiko.SSHException("client does not finish a key exchange")

    def _send_message(self, data: paramiko.Message) -> None:
        self.send(data.asbytes())

    def debug(self, words: str, show: bool = True) -> None:
        """RFC 4253 §11.3: `ssh -v` prints it, and with `show` every client should."""
        self.send(bytes([MSG_DEBUG, show]) + text(words.encode()) + text(b"en"))

    def _parse_newkeys(self, m: paramiko.Message) -> None:
        if self.auth_handler is None:
            self.auth_handler = _Auth(self, self.clerk)
        super()._parse_newkeys(m)  # type: ignore[misc]  # not in stubs
        held, self._held, self._held_bytes = self._held, [], 0
        for payload in held:
            self.send(payload)

    def _auth_trigger(self) -> None:
        super()._auth_trigger()  # type: ignore[misc]  # not in stubs
        cast(GuardedPackets, self.packetizer).largest = policy.MAX_PACKET
        self.openssh = "-OpenSSH" in self.remote_version[:16]
        self.later(self.keepalive_seconds, self._keep_alive)

    # --- messages

    def _ensure_authed(
        self,
        ptype: int,
        message: paramiko.Message,  # noqa: ARG002  # paramiko's signature
    ) -> paramiko.Message | None:
        """Paramiko would answer some of them, and stumble over the others."""
        if ptype in _CONNECTION and not self.is_authenticated():
            raise paramiko.SSHException("client wants a channel before its login")
        return None

    def _deliverer(self, kind: int) -> Callable[[paramiko.Message], None]:
        return lambda message: self.deliver(kind, message.asbytes())

    def _global_request(self, kind: str, reader: Reader) -> tuple[bool, bytes]:  # noqa: ARG002
        return self.clerk.ask(f"global {kind}").ok, b""
