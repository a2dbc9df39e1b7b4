"""The way in: key exchange, login and the event loop, whatever is behind it.

Paramiko's questions, put in our words; with what is behind it (`ssh_door`: shells, `ssh_jump`:
ways to nodes) the only modules that subclass its server. They decide nothing: the clerk asks
the monitor, which checks certificate and signature by itself. What clients send after the login
is parsed by the strict reader, not by paramiko's, which takes missing fields for zeros.
"""

import logging
import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_OPEN_SUCCESS,
    MSG_CHANNEL_REQUEST,
    MSG_EXT_INFO,
    cMSG_CHANNEL_OPEN_FAILURE,
    cMSG_REQUEST_FAILURE,
    cMSG_REQUEST_SUCCESS,
)
from paramiko.pkey import PublicBlob

from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_hostkey import ShownKey
from teleport_lite.net.ssh_loop import Wire
from teleport_lite.net.ssh_packets import GuardedPackets
from teleport_lite.pki.verify import ssh_blob
from teleport_lite.pki.wire import Reader

# RFC 4252 §6: numbers from here on belong to logins and channels, not to the transport.
_FIRST_OF_SERVICES = 50
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


def serve(transport: "EntryTransport", *, host_public: str, host_cert: str) -> str:
    """Speak SSH until it ends, in this thread. Returns why, "" for the usual reasons.

    `host_public` and `host_cert` are OpenSSH lines.
    """
    # It would log a traceback for every port scanner.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
    for name, line in ((policy.HOST_CERT, host_cert), (policy.HOST_KEY, host_public)):
        transport.add_server_key(ShownKey(name, ssh_blob(line), transport.clerk.sign))
    transport.start_server(event=threading.Event(), server=transport.door())
    transport.run()
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
        self._desk = desk
        self._was_last = self.signed = False

    def present(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> bool:
        answer = self._desk.login(login, algorithm, certificate, signature)
        self._was_last = answer.last
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
        super()._parse_userauth_request(m)  # type: ignore[misc]  # not in stubs

    def _parse_userauth_info_response(self, _m: paramiko.Message) -> None:
        """We ask no questions; paramiko would count to the number of answers it names."""
        raise paramiko.SSHException("an answer to a question that nobody asked")

    def _generate_key_from_request(self, algorithm: str, keyblob: bytes) -> paramiko.PKey:
        return _Offered(self, algorithm, keyblob)

    def _send_auth_result(self, username: str, method: str, result: int) -> None:
        super()._send_auth_result(username, method, result)  # type: ignore[misc]  # not in stubs
        if self._was_last:
            self._disconnect_no_more_auth()  # type: ignore[attr-defined]  # not in stubs


class EntryTransport(paramiko.Transport):
    """One thread: `run` is called, not started, and its reading is the event loop.

    Private parts of paramiko in use: what is declared or overridden below. A test has a list
    of them, so that an upgrade that moves one fails there.
    """

    _CLIENT_ID = policy.BANNER
    _preferred_kex = policy.KEX
    _preferred_ciphers = policy.CIPHERS
    _preferred_macs = policy.MACS
    _preferred_keys = (policy.HOST_KEY,)
    _preferred_pubkeys = policy.USER_KEYS
    _preferred_compression = ("none",)
    active: bool
    _handler_table: dict[int, Callable[[paramiko.Message], None]]
    _channel_handler_table: dict[int, Callable[[Any, paramiko.Message], None]]

    def __init__(self, sock: socket.socket, clerk: Clerk) -> None:
        wire = Wire(sock)
        super().__init__(cast(socket.socket, wire), packetizer_class=GuardedPackets)
        self._wire, self.clerk = wire, clerk
        self._held: list[paramiko.Message] = []
        self._kept: dict[int, paramiko.Channel] = {}
        self._movers: dict[int, Mover] = {}
        wire.attendant = self
        # We never open channels, so nobody can confirm one; a client's extensions (RFC 8308)
        # are none of ours, and paramiko would count to the number it names.
        for number in (MSG_CHANNEL_OPEN_SUCCESS, MSG_CHANNEL_OPEN_FAILURE, MSG_EXT_INFO):
            self._handler_table[number] = lambda _message: None
        self._channel_handler_table = {
            **self._channel_handler_table,
            MSG_CHANNEL_REQUEST: self._channel_request,
        }

    # --- what is behind the door

    def door(self) -> Door:
        return Door()

    def _news(self) -> None:
        """What the clerk has heard meanwhile. Called before each wait."""

    def _parse_channel_open(self, m: paramiko.Message) -> None:
        raise NotImplementedError

    def _channel_request(self, channel: paramiko.Channel, m: paramiko.Message) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Paramiko would start a thread here."""

    def why(self) -> str:
        end = self.saved_exception
        if end is None or isinstance(end, EOFError):
            return ""
        text = str(end) if isinstance(end, paramiko.SSHException) else type(end).__name__
        return ascii(text)[1:-1][:_SHOWN]

    # --- the loop

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]:
        self._news()
        self._drop_closed()
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

    def _drop_closed(self) -> None:
        for number, channel in list(self._kept.items()):
            if channel.closed:
                del self._kept[number]
                mover = self._movers.pop(number, None)
                if mover is not None:
                    mover.close()
                self.clerk.close(number)

    # --- sending

    def _send_message(self, data: paramiko.Message) -> None:
        """RFC 4253 §7.1: during a key exchange nothing of the services may be sent. Paramiko
        waits for its end, which in a single thread would never come; here such messages wait."""
        if not self.clear_to_send.is_set() and data.asbytes()[0] >= _FIRST_OF_SERVICES:
            self._held.append(data)
        else:
            self.packetizer.send_message(data)

    def _send_user_message(self, data: paramiko.Message) -> None:
        if self.active:
            self._send_message(data)

    def _parse_newkeys(self, m: paramiko.Message) -> None:
        if self.auth_handler is None:
            self.auth_handler = _Auth(self, self.clerk)
        super()._parse_newkeys(m)  # type: ignore[misc]  # not in stubs
        held, self._held = self._held, []
        for message in held:
            self._send_message(message)

    def _auth_trigger(self) -> None:
        super()._auth_trigger()  # type: ignore[misc]  # not in stubs
        cast(GuardedPackets, self.packetizer).largest = policy.MAX_PACKET

    # --- channels and requests

    def _queue_incoming_channel(self, channel: paramiko.Channel) -> None:
        """A channel is open. Paramiko itself holds only a weak reference to it."""
        self._kept[channel.get_id()] = channel

    def _parse_global_request(self, m: paramiko.Message) -> None:
        reader = Reader(m.asbytes())
        kind, wants_reply = shown_name(reader.text()), reader.take(1) != b"\0"
        ok = self.clerk.ask(f"global {kind}").ok
        if ok:
            self._granted(kind)
        if wants_reply:
            reply = paramiko.Message()
            reply.add_byte(cMSG_REQUEST_SUCCESS if ok else cMSG_REQUEST_FAILURE)
            self._send_message(reply)

    def _granted(self, kind: str) -> None:
        """A global request that the clerk has said yes to."""

    def accept_channel(self, m: paramiko.Message) -> None:
        """Let paramiko open the channel that `m` asks for, and tell the client."""
        super()._parse_channel_open(m)  # type: ignore[misc]  # not in stubs

    def _refuse_open(self, remote: int, code: int, reason: str) -> None:
        """RFC 4254 §5.1. `remote` is the client's number of the channel."""
        refusal = paramiko.Message()
        refusal.add_byte(cMSG_CHANNEL_OPEN_FAILURE)
        refusal.add_int(remote)
        refusal.add_int(code)
        refusal.add_string(reason)
        refusal.add_string("en")
        self._send_message(refusal)


def shown_name(raw: bytes) -> str:
    """RFC 4251 §6: names are printable ASCII of at most 64 characters; ours may be seen in logs."""
    return ascii(raw[:64].decode("ascii", "replace"))[1:-1]
