"""The wire: paramiko's packetizer, and at the same time the event loop of a connection.

Paramiko asks it for the next message. When there is none, waiting for it is where everything
else happens: output of a shell, news from the broker, room to send. So one thread serves a
connection with all its channels, nothing polls ten times a second, and nothing needs a lock.
Messages for channels never reach paramiko: they go to the attendant, as views of the buffer.
"""

import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from select import POLLIN, POLLOUT
from struct import Struct
from typing import Any, Protocol

from paramiko import Message, SSHException
from paramiko.common import MSG_DEBUG, MSG_IGNORE, MSG_NAMES, MSG_UNIMPLEMENTED
from paramiko.packet import NeedRekeyException

from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_buffers import Incoming, Outgoing
from teleport_lite.net.ssh_seal import CtrEtm, Gcm, Seal
from teleport_lite.net.ssh_watch import Watch

# Owner of the connection's own socket; channels have numbers from 0 on.
SOCKET = -1
# The client is not read while that much waits for it: it may ask without reading the answers.
_TOO_MUCH = 2 << 20
# Descriptors are not read for it while that much does, not even in the same turn.
_ENOUGH = 1 << 20
# Buffers are given back when nothing has moved for so many seconds.
_IDLE = 1.0
_U32 = Struct(">I")


class Attendant(Protocol):
    """What happens on the other descriptors of the connection, and with its messages."""

    def before_wait(self, *, may_send: bool) -> None:
        """Say in `watch` what to wait for. Views that `deliver` was given end with this call."""

    def patience(self) -> float | None:
        """Last before each wait: for how many seconds; None is for ever."""

    def ready(self, fd: int) -> None:
        """Something has happened to it."""

    def deliver(self, kind: int, body: memoryview) -> None:
        """A message without its first byte. It may not keep `body`."""

    def goodbye(self) -> bytes:
        """A last message, or b""."""


class Wire:
    """Given to `Transport` as its `packetizer_class`: nothing here is private to paramiko but
    `_initial_kex_done`, which it sets. `services` are the messages that the attendant gets."""

    REKEY_BYTES = policy.REKEY_BYTES
    REKEY_PACKETS = policy.REKEY_PACKETS

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._in, self._out = Incoming(), Outgoing()
        self._ended = self.closed = False
        self._told_to_rekey = False
        self._asked_at = 0
        self.attendant: Attendant | None = None
        self.services: Collection[int] = ()
        self.watch = Watch()
        self.watch.change({SOCKET: {sock.fileno(): POLLIN}})
        self.in_a_hurry = True
        self.last_heard = time.monotonic()

    # --- what paramiko calls: keys

    def set_outbound_cipher(
        self, block_engine: Any, block_size: int, *rest: Any, iv_out: Any = None, **more: Any
    ) -> None:
        more.pop("sdctr", None)
        self._out.renew(_seal(block_engine, block_size, *rest, iv=iv_out, **more))

    def set_inbound_cipher(
        self, block_engine: Any, block_size: int, *rest: Any, iv_in: Any = None, **more: Any
    ) -> None:
        self._in.renew(_seal(block_engine, block_size, *rest, iv=iv_in, **more))
        self._told_to_rekey = False

    def reset_seqno_out(self) -> None:
        self._out.number = 0

    def reset_seqno_in(self) -> None:
        self._in.number = 0

    def need_rekey(self) -> bool:
        return any(
            way.bytes >= self.REKEY_BYTES or way.packets >= self.REKEY_PACKETS
            for way in (self._in, self._out)
        )

    @property
    def _initial_kex_done(self) -> bool:
        return self._in.first_keys

    @_initial_kex_done.setter
    def _initial_kex_done(self, done: bool) -> None:
        self._in.first_keys = self._out.first_keys = done

    # --- what paramiko calls: the rest of its interface, of which we use nothing

    def set_log(self, log: Any) -> None:
        """We do not log what strangers do."""

    def start_handshake(self, timeout: float) -> None:
        """The monitor sees to it that nobody stays without a login."""

    def complete_handshake(self) -> None:
        """As above."""

    # --- what paramiko calls: messages

    def write_all(self, data: bytes) -> None:
        self._out.add(data)

    def send_message(self, message: Message) -> None:
        self.send(message.asbytes())

    def send(self, payload: bytes) -> None:
        """It goes out before the next wait."""
        if not self.closed:
            self._out.put(payload)

    def pump(self, fd: int, remote: int, room: int, largest: int) -> int:
        """See `Outgoing.pump`."""
        return self._out.pump(self._sock, fd, remote, room, largest)

    def readline(self, timeout: float) -> str:  # noqa: ARG002  # the monitor has the clock
        while True:
            try:
                line = self._in.line()
            except SSHException:
                self.write_all(b"Invalid SSH identification string.\r\n")  # sshd's words
                raise
            if line is not None:
                return line.decode("ascii", "replace")
            self._turn()

    def read_message(self) -> tuple[int, Message]:
        """The next one that is for paramiko. Raises EOFError at the end, and SSHException."""
        while True:
            payload = None if self.closed else self._in.packet()
            if payload is None:
                self._check_keys()
                self._turn()
                continue
            kind = payload[0]
            if kind in self.services:
                assert self.attendant is not None
                self.attendant.deliver(kind, payload[1:])
                continue
            message = Message(bytes(payload[1:]))
            message.seqno = (self._in.number - 1) & 0xFFFF_FFFF
            if kind == MSG_DEBUG:
                # Paramiko would write it out for a log, in a time that is quadratic in the length
                # that it names; both kinds are to be passed over (RFC 4253 §11.2, §11.3).
                return MSG_IGNORE, Message()
            if kind in MSG_NAMES:
                return kind, message
            # RFC 4253 §11.4. Paramiko's loop would stumble over a name it does not have; but with
            # strict key exchange it has to hear of it.
            self.send(bytes([MSG_UNIMPLEMENTED]) + _U32.pack(message.seqno))
            return MSG_IGNORE, Message()

    def _check_keys(self) -> None:
        """Have paramiko begin a key exchange, once; a client that does not take part must go."""
        if not self.need_rekey():
            return
        if not self._told_to_rekey:
            self._told_to_rekey, self._asked_at = True, self._in.bytes
            raise NeedRekeyException
        if self._in.bytes - self._asked_at > policy.REKEY_GRACE:
            raise SSHException("client does not take part in a key exchange")

    @property
    def crowded(self) -> bool:
        """More waits than should be added to."""
        return self._out.waiting > _ENOUGH

    @property
    def largest(self) -> int:
        """The largest packet that is taken."""
        return self._in.largest

    @largest.setter
    def largest(self, size: int) -> None:
        self._in.largest = size

    def close(self) -> None:
        """A last message tells the client why; what does not fit now is lost."""
        if self.closed:
            return
        words = self.attendant.goodbye() if self.attendant is not None else b""
        if words:
            self.send(words)
        self._flush()
        self.closed = True
        self._sock.close()

    # --- the loop

    def _turn(self) -> None:
        if self._ended or self.closed:
            raise EOFError
        patience = None
        if self.attendant is not None:
            self._flush()
            self.attendant.before_wait(may_send=not self._out.waiting)
            patience = self.attendant.patience()
        self._flush()
        if self.closed:
            raise EOFError
        events = POLLIN if self._out.waiting < _TOO_MUCH else 0
        events |= POLLOUT if self._out.waiting else 0
        ours = self._sock.fileno()
        self.watch.change({SOCKET: {ours: events}})
        self._serve(self.watch.wait(self._rested(patience)), ours)

    def _serve(self, found: list[tuple[int, int]], ours: int) -> None:
        readable = False
        for fd, what in found:
            if fd == ours:
                readable = bool(what & ~POLLOUT)
            elif self.attendant is not None:
                self.attendant.ready(fd)
        if readable:
            self._fill()
        elif not found:
            self._rest()

    def _rested(self, patience: float | None) -> float | None:
        """How long to wait, at most: large buffers are not held while nothing happens."""
        if self._in.large or self._out.large:
            return _IDLE if patience is None else min(patience, _IDLE)
        return patience

    def _rest(self) -> None:
        self._in.rest()
        self._out.rest()

    def _fill(self) -> None:
        try:
            self._ended = not self._in.fill(self._sock)
        except BlockingIOError:
            return
        except OSError:
            self._ended = True
        self.last_heard = time.monotonic()
        if self.in_a_hurry and not self._ended:
            # OpenSSH's client leaves Nagle on until its session starts: each small packet of
            # its login waits for our acknowledgement, which Linux puts off by 40 ms.
            with suppress(OSError):  # it has been reset meanwhile; reading will tell
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _flush(self) -> None:
        try:
            self._out.flush(self._sock)
        except OSError:
            self._ended = True
            self._out.forget()


def _seal(
    engine: Any,
    block_size: int,  # noqa: ARG001  # paramiko's order of parameters
    mac_engine: Callable[..., Any] | None,
    mac_size: int,
    mac_key: bytes | None,
    *,
    etm: bool,
    aead: bool,
    iv: bytes | None,
) -> Seal:
    if aead:
        assert iv is not None
        return Gcm(engine, iv)
    if not etm or mac_engine is None or mac_key is None or mac_size != mac_engine().digest_size:
        raise SSHException("a cipher or MAC that we do not speak")
    return CtrEtm(engine, mac_engine, mac_key)
