"""From standard input and output to the SSH port of a node: what stands behind every `ssh`.

proto/reach.py draws the conversation. Nothing is imported here that could be left out: the
program starts anew for every connection. What is carried is SSH, encrypted by its own ends;
this TLS shows the proxy who asks.
"""

import json
import os
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from teleport_lite.errors import KINDS, Error, Malformed, Unauthenticated, Unavailable

# As in proto/alpn.py and proto/reach.py, which would bring msgspec along
# (tests/client/test_reach.py compares them).
ALPN = "teleport-proxy-ssh"
SERVER_NAME = "proxy.teleport-lite.internal"
MAX_ANSWER = 16 * 1024
# For each step until the node is there: the proxy dials it in this time, or says why not.
PATIENCE = 30.0
CHUNK = 256 * 1024
LOG_IN = "tsh login"
LOOK = "tsh status"


def context_of(tls: str, cas: str) -> ssl.SSLContext:
    """Of the files of a profile. As `net.tls.client_context`, which takes no files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cas)
    context.load_cert_chain(tls)
    return context


def carry(
    address: tuple[str, int],
    context: ssl.SSLContext,
    asked: dict[str, object],
    *,
    source: int = 0,
    sink: int = 1,
    on_cas: Callable[[str], None] = lambda _: None,
) -> None:
    """Ask the proxy at `address` for the node that `asked` names (`ReachRequest`), and carry
    bytes between it and two descriptors until it is done, or nobody listens to it any more.
    `on_cas` is told the digest of the cluster's CAs when the node is there.

    Raises what the proxy refused with, Unauthenticated for a certificate it does not take,
    Unavailable, or Malformed for something that is no proxy.
    """
    name = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    try:
        plain = socket.create_connection(address, timeout=PATIENCE)
    except (OSError, UnicodeError) as why:
        raise _broken(name, why) from why
    with plain:
        try:
            wire = _shaken(plain, context, name)
        except ssl.SSLCertVerificationError as why:
            raise _rotated(name, context, asked) or _broken(name, why) from why
        wire.write(json.dumps(asked).encode() + b"\n")
        _Pump(wire, name, source, sink, on_cas).run()


class _Wire:
    """TLS on a socket that is not blocking. `SSLSocket` could not say the end of one
    direction alone: its `unwrap` loses what comes from the other side meanwhile."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self.socket, self._in, self._out = plain, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=SERVER_NAME)
        self._left = memoryview(b"")  # encrypted, not yet sent

    def shake_hands(self) -> None:
        """Blocks, with the socket's timeout. Raises OSError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._out.read())
                self._feed()
                continue
            except ssl.SSLError:
                with suppress(OSError):
                    self.socket.sendall(self._out.read())  # our alert: why we hang up
                raise
            return

    @property
    def busy(self) -> bool:
        """Something waits to be sent."""
        return bool(self._left) or self._out.pending > 0

    def write(self, data: bytes) -> None:
        """Encrypt. Call `flush`, and no more `write` while it is `busy`."""
        self._tls.write(data)

    def flush(self) -> None:
        """Send what the socket takes. If they have gone, reading will tell why."""
        try:
            while self.busy:
                self._left = self._left or memoryview(self._out.read())
                self._left = self._left[self.socket.send(self._left) :]
        except BlockingIOError:
            return
        except OSError:
            self._left = memoryview(b"")
            self._out.read()

    def fill(self) -> None:
        """Take what has arrived. Raises OSError when the connection broke."""
        with suppress(BlockingIOError):
            self._feed()

    def read(self) -> tuple[bytes, bool]:
        """Decrypted bytes, and whether that was all. Raises ssl.SSLError."""
        pieces: list[bytes] = []
        size = 0
        with suppress(ssl.SSLWantReadError):
            while size < CHUNK:
                piece = self._read_one()
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                size += len(piece)
        return b"".join(pieces), False

    def _read_one(self) -> bytes:
        """One record; b"" at the end."""
        try:
            return self._tls.read(CHUNK)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # The first: both of us have said goodbye. The second: they have not, but SSH has
            # a goodbye of its own.
            return b""

    @property
    def holds(self) -> bool:
        """There may be more to read without waiting."""
        return self._in.pending > 0 or self._tls.pending() > 0

    def end(self) -> bool:
        """Say that no more comes from us (RFC 8446 §6.1). False while it is not the time."""
        if self.holds:
            return False
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        return True

    def _feed(self) -> None:
        data = self.socket.recv(CHUNK)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()


def _shaken(plain: socket.socket, context: ssl.SSLContext, name: str) -> _Wire:
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context.set_alpn_protocols([ALPN])
        wire = _Wire(plain, context)
        wire.shake_hands()
        return wire
    except ssl.SSLCertVerificationError:
        raise
    except OSError as why:
        raise _broken(name, why) from why


class _Pump:
    """Bytes both ways, and before them the answer of the proxy. Neither side is read faster
    than the other one takes it. Our own end is passed on, and what the node still has to say
    is waited for."""

    def __init__(
        self, wire: _Wire, name: str, source: int, sink: int, on_cas: Callable[[str], None]
    ) -> None:
        self._wire, self._name, self._source, self._sink = wire, name, source, sink
        self._on_cas = on_cas
        self._answer: bytearray | None = bytearray()  # None: it was yes
        self._down = memoryview(b"")
        # Our input: read until it ends; then the end is said, once the proxy has answered.
        self._reading, self._said_end = True, False
        self._far_ended = False

    def run(self) -> None:
        self._wire.socket.setblocking(False)
        changed = [fd for fd in {self._source, self._sink} if _made_non_blocking(fd)]
        try:
            self._move()
        except (BrokenPipeError, _NobodyListens):
            return
        except OSError as why:
            # We had said that we are done: how abruptly they take it is no news.
            if not (self._said_end and isinstance(why, ConnectionResetError)):
                raise self._told(why) from why
        finally:
            for fd in changed:
                with suppress(OSError):
                    os.set_blocking(fd, True)

    def _move(self) -> None:
        while True:
            self._receive()
            self._put_out()
            if self._far_ended and not self._down:
                return
            if not self._reading and not self._said_end:
                self._end()
            self._wire.flush()
            ready = self._wait()
            if self._wire.socket.fileno() in ready and not self._down:
                self._wire.fill()
            if self._source in ready:
                self._take_in()

    def _wait(self) -> set[int]:
        """Which descriptors have something for us, once there is one."""
        wanted = {self._sink: select.POLLOUT if self._down else 0}
        far = select.POLLOUT if self._wire.busy else 0
        if not self._down and not self._far_ended:
            far |= select.POLLIN
        if far:
            wanted[self._wire.socket.fileno()] = far
        if self._reading and not self._wire.busy:
            wanted[self._source] = wanted.get(self._source, 0) | select.POLLIN
        poll = select.poll()
        for fd, events in wanted.items():
            poll.register(fd, events)
        at_once = self._wire.holds and not self._down
        patience = None if self._answer is None else PATIENCE * 1000
        ready = dict(poll.poll(0 if at_once else patience))
        if not ready and not at_once:
            raise TimeoutError
        if ready.get(self._sink, 0) & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            raise _NobodyListens
        return set(ready)

    def _take_in(self) -> None:
        with suppress(BlockingIOError):
            data = os.read(self._source, CHUNK)
            self._reading = bool(data)
            if data:
                self._wire.write(data)

    def _end(self) -> None:
        """Not before the answer: the proxy would take it for a change of mind."""
        if self._answer is None and not self._down and not self._far_ended:
            self._said_end = self._wire.end()

    def _receive(self) -> None:
        if self._down or self._far_ended:
            return
        data, self._far_ended = self._wire.read()
        if self._answer is not None:
            data = self._answered(data, self._answer)
        self._down = memoryview(data)

    def _answered(self, data: bytes, so_far: bytearray) -> bytes:
        """What follows the answer's line: the node may have spoken already."""
        so_far += data
        line, end, rest = bytes(so_far).partition(b"\n")
        if len(line) > MAX_ANSWER:
            raise Malformed(f"{self._name} does not answer like a proxy", hint=LOOK)
        if not end:
            if self._far_ended:
                raise Unavailable(f"{self._name} ended the connection without an answer", hint=LOOK)
            return b""
        cas = _check(line, self._name)
        self._answer = None
        if cas:
            self._on_cas(cas)
        return rest

    def _put_out(self) -> None:
        with suppress(BlockingIOError):
            while self._down:
                self._down = self._down[os.write(self._sink, self._down) :]

    def _told(self, why: OSError) -> Error:
        if self._answer is not None:
            return _broken(self._name, why)
        reason = getattr(why, "reason", "") or why.strerror or str(why)
        return Unavailable(f"{self._name}: the connection broke ({str(reason).lower()})")


class _NobodyListens(Exception):
    """Whoever started us has closed our output."""


def _check(line: bytes, name: str) -> str:
    """The digest of the cluster's CAs, "" if it tells none. Raises what the proxy refused with."""
    try:
        said = json.loads(line)
        ok, kind = said["ok"], KINDS.get(str(said.get("code")), Unavailable)
        message, hint = str(said.get("message", "")), str(said.get("hint", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as why:
        raise Malformed(f"{name} does not answer like a proxy", hint=LOOK) from why
    if ok is not True:
        raise kind(message[:2000] or f"{name} refused, and did not say why", hint=hint[:2000])
    return str(said.get("cas") or "")


def _rotated(name: str, context: ssl.SSLContext, asked: dict[str, object]) -> Error | None:
    """Nobody has to know a proxy whose CA was rotated; but why, that can be told."""
    from teleport_lite.client.rotated import rotated

    known = [ssl.DER_cert_to_PEM_cert(ca) for ca in context.get_ca_certs(binary_form=True)]
    return rotated(name, str(asked.get("cluster", "")), known)


def _broken(name: str, why: OSError | UnicodeError) -> Error:
    """One cause, and what to do. TLS says why in an alert (RFC 8446 §6.2)."""
    reason = str(getattr(why, "reason", "") or "")
    said = reason.lower().replace("_", " ")
    if isinstance(why, ssl.SSLCertVerificationError):
        return Unavailable(
            f"{name} is not a proxy of your cluster ({why.verify_message})", hint=LOOK
        )
    if "CERTIFICATE_EXPIRED" in reason:
        return Unauthenticated(f"{name}: your certificate has expired", hint=LOG_IN)
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return Unauthenticated(f"{name} does not accept your certificate ({said})", hint=LOG_IN)
    if isinstance(why, socket.gaierror | UnicodeError):
        return Unavailable(f"{name}: the host name does not resolve", hint=LOOK)
    if isinstance(why, TimeoutError):
        return Unavailable(f"{name} did not answer in time", hint=LOOK)
    said = said or str(getattr(why, "strerror", "") or why or type(why).__name__).lower()
    return Unavailable(f"{name}: {said}", hint=LOOK)


def _made_non_blocking(fd: int) -> bool:
    """Pipes and sockets only: a terminal is shared with others."""
    if os.isatty(fd) or not os.get_blocking(fd):
        return False
    os.set_blocking(fd, False)
    return True
