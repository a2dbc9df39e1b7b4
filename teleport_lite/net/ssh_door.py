"""Paramiko's questions, put in our words. The only module that subclasses its server.

It decides nothing. Before a login the desk asks the monitor, which checks the certificate and
the signature by itself; after it the desk asks the broker, which is the login user. What
clients send after the login is parsed here by the strict reader, not by paramiko's, which
takes missing fields for zeros.
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
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_FAILURE,
    cMSG_CHANNEL_OPEN_FAILURE,
    cMSG_CHANNEL_SUCCESS,
    cMSG_REQUEST_FAILURE,
    cMSG_REQUEST_SUCCESS,
)
from paramiko.pkey import PublicBlob

from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_hostkey import ShownKey
from teleport_lite.net.ssh_loop import Wire
from teleport_lite.net.ssh_packets import GuardedPackets
from teleport_lite.net.ssh_pump import Exit as Exit
from teleport_lite.net.ssh_pump import Pump
from teleport_lite.net.ssh_pump import Streams as Streams
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A pty-req (RFC 4254 §6.2)."""

    term: bytes
    columns: int
    rows: int
    width: int
    height: int
    modes: bytes


class Desk(Protocol):
    """Those who decide, as seen from the door. Calls raise EOFError when they are gone."""

    def sign(self, exchange_hash: bytes) -> bytes: ...

    def login(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> Answer: ...

    def watched(self) -> tuple[int, ...]: ...

    def hear(self, fd: int) -> None: ...

    def ended(self) -> list[Exit]: ...

    def ask(self, what: str) -> Answer: ...

    def terminal(self, channel: int, terminal: Terminal) -> Answer: ...

    def env(self, channel: int, name: bytes, value: bytes) -> Answer: ...

    def start(self, channel: int, command: bytes | None, subsystem: str = "") -> Streams | None: ...

    def resize(self, channel: int, columns: int, rows: int, width: int, height: int) -> Answer: ...

    def signal(self, channel: int, name: str) -> Answer: ...

    def close(self, channel: int) -> None: ...


def serve(sock: socket.socket, desk: Desk, *, host_public: str, host_cert: str) -> str:
    """Speak SSH on `sock` until it ends, in this thread. Returns why, "" for the usual reasons.

    `host_public` and `host_cert` are OpenSSH lines.
    """
    # It would log a traceback for every port scanner.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
    transport = _Transport(sock, desk)
    for name, line in ((policy.HOST_CERT, host_cert), (policy.HOST_KEY, host_public)):
        transport.add_server_key(ShownKey(name, ssh_blob(line), desk.sign))
    transport.start_server(event=threading.Event(), server=_Door())
    transport.run()
    return transport.why()


class _Door(paramiko.ServerInterface):
    """What is not here is refused: paramiko's own answers are all no."""

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002  # paramiko's signature
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        assert isinstance(key, _Offered)
        return AUTH_SUCCESSFUL if key.would_do(username) else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002  # as above
        # `_Transport._parse_channel_open` has asked the desk already.
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


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
    def __init__(self, transport: "_Transport", desk: Desk) -> None:
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


class _Transport(paramiko.Transport):
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

    def __init__(self, sock: socket.socket, desk: Desk) -> None:
        wire = Wire(sock)
        super().__init__(cast(socket.socket, wire), packetizer_class=GuardedPackets)
        self._wire, self._desk = wire, desk
        self._held: list[paramiko.Message] = []
        self._kept: dict[int, paramiko.Channel] = {}
        self._pumps: dict[int, Pump] = {}
        self._no_more_sessions = False
        wire.attendant = self
        # We never open channels, so nobody can confirm one; a client's extensions (RFC 8308)
        # are none of ours, and paramiko would count to the number it names.
        for number in (MSG_CHANNEL_OPEN_SUCCESS, MSG_CHANNEL_OPEN_FAILURE, MSG_EXT_INFO):
            self._handler_table[number] = lambda _message: None
        self._channel_handler_table = {
            **self._channel_handler_table,
            MSG_CHANNEL_REQUEST: self._channel_request,
        }
        self._requests: dict[bytes, Callable[[int, Reader], bool]] = {
            b"pty-req": self._pty,
            b"env": self._env,
            b"shell": self._shell,
            b"exec": self._exec,
            b"subsystem": self._subsystem,
            b"window-change": self._window_change,
            b"signal": self._signal,
        }

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
        for how in self._desk.ended():
            pump = self._pumps.get(how.channel)
            if pump is not None:
                pump.exited(how)
        self._drop_closed()
        exchanging_keys = not self.clear_to_send.is_set()
        self._wire.in_a_hurry = exchanging_keys or not self._pumps
        may_send = may_send and not exchanging_keys
        for pump in self._pumps.values():
            yield from pump.wants(may_send=may_send)
        for fd in self._desk.watched():
            yield fd, select.POLLIN

    def ready(self, fd: int) -> None:
        if fd in self._desk.watched():
            self._desk.hear(fd)
            return
        for pump in self._pumps.values():
            if pump.has(fd):
                pump.ready(fd)

    def _drop_closed(self) -> None:
        for number, channel in list(self._kept.items()):
            if channel.closed:
                del self._kept[number]
                pump = self._pumps.pop(number, None)
                if pump is not None:
                    pump.close()
                self._desk.close(number)

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
            self.auth_handler = _Auth(self, self._desk)
        super()._parse_newkeys(m)  # type: ignore[misc]  # not in stubs
        held, self._held = self._held, []
        for message in held:
            self._send_message(message)

    def _auth_trigger(self) -> None:
        super()._auth_trigger()  # type: ignore[misc]  # not in stubs
        cast(GuardedPackets, self.packetizer).largest = policy.MAX_PACKET

    # --- channels and requests

    def _parse_channel_open(self, m: paramiko.Message) -> None:
        reader = Reader(m.asbytes())
        kind, remote = _name(reader.text()), reader.number(4)
        reader.number(4)  # their window
        reader.number(4)  # their largest packet
        self._drop_closed()  # one may have been closed a message ago
        answer = self._desk.ask(f"open {kind}")
        if answer.ok and self._no_more_sessions:
            answer = Answer(ok=False, reason="the client wanted no more sessions")
        if answer.ok and len(self._kept) < policy.MAX_SESSIONS:
            super()._parse_channel_open(m)  # type: ignore[misc]  # not in stubs
            return
        code = (
            OPEN_FAILED_RESOURCE_SHORTAGE if answer.ok else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        )
        refusal = paramiko.Message()
        refusal.add_byte(cMSG_CHANNEL_OPEN_FAILURE)
        refusal.add_int(remote)
        refusal.add_int(code)
        refusal.add_string(answer.reason or "too many sessions")
        refusal.add_string("en")
        self._send_message(refusal)

    def _queue_incoming_channel(self, channel: paramiko.Channel) -> None:
        """A channel is open. Paramiko itself holds only a weak reference to it."""
        self._kept[channel.get_id()] = channel

    def _parse_global_request(self, m: paramiko.Message) -> None:
        reader = Reader(m.asbytes())
        kind, wants_reply = _name(reader.text()), reader.take(1) != b"\0"
        ok = self._desk.ask(f"global {kind}").ok
        if ok and kind == "no-more-sessions@openssh.com":
            self._no_more_sessions = True
        if wants_reply:
            reply = paramiko.Message()
            reply.add_byte(cMSG_REQUEST_SUCCESS if ok else cMSG_REQUEST_FAILURE)
            self._send_message(reply)

    def _channel_request(self, channel: paramiko.Channel, m: paramiko.Message) -> None:
        reader = Reader(m.get_remainder())
        kind, wants_reply = reader.text(), reader.take(1) != b"\0"
        number = channel.get_id()
        act = self._requests.get(kind)
        if act is not None:
            ok = act(number, reader)
        else:
            ok = self._desk.ask(f"request {_name(kind)}").ok
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
        name = _name(reader.text())
        return bool(name) and self._start(number, None, name)

    def _start(self, number: int, command: bytes | None, subsystem: str = "") -> bool:
        too_long = command is not None and len(command) > policy.MAX_COMMAND
        if number in self._pumps or too_long:
            return False
        streams = self._desk.start(number, command, subsystem)
        if streams is None:
            return False
        self._pumps[number] = Pump(self._kept[number], streams, self._send_user_message)
        return True

    def _window_change(self, number: int, reader: Reader) -> bool:
        sides = [reader.number(4) for _ in range(4)]
        return self._desk.resize(number, *sides).ok

    def _signal(self, number: int, reader: Reader) -> bool:
        return self._desk.signal(number, _name(reader.text())).ok


def _name(raw: bytes) -> str:
    """RFC 4251 §6: names are printable ASCII of at most 64 characters; ours may be seen in logs."""
    return ascii(raw[:64].decode("ascii", "replace"))[1:-1]
