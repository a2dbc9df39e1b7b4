"""The agent's end of the agent stream: a WebSocket client (RFC 6455) on a blocking TLS socket.

wsproto does the protocol; this does the waiting. One thread reads and writes; others hand it
frames through `send`.
"""

import select
import socket
import ssl
import time
from collections import deque
from threading import Lock

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.net.problems import as_error
from teleport_lite.net.way import Way
from teleport_lite.proto.codec import MAX_FRAME, read_any

MAX_WAITING = 256
CHUNK = 65536


class StreamClient:
    """Open on construction. Raises Unavailable, ssl.SSLError, or what the server refused with."""

    def __init__(
        self,
        way: Way,
        context: ssl.SSLContext,
        path: str,
        *,
        timeout: float = 15.0,
    ) -> None:
        self._address, self._timeout = way.address, timeout
        self._wire = way.tls(context, timeout=timeout)
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._waiting: deque[bytes] = deque()
        self._guard = Lock()  # guards _waiting
        self._inbox: deque[bytes] = deque()
        self._partial = ""
        self._refusal = b""
        self._status = 0
        self._ended = False
        try:
            self._bell_in, self._bell_out = socket.socketpair()
        except OSError as why:  # no descriptors left
            self._wire.close()
            raise Unavailable(f"can not open a stream to {way.address}: {why.strerror}") from why
        for bell in (self._bell_in, self._bell_out):  # full of rings is rung, too
            bell.setblocking(False)
        try:
            self._write(Request(host="auth", target=path))
            self._handshake(time.monotonic() + timeout)
        except BaseException:
            self.close()
            raise

    def send(self, frame: bytes) -> bool:
        """Queue a frame from any thread. False when the queue is full: the other side is stuck."""
        with self._guard:
            if len(self._waiting) >= MAX_WAITING:
                return False
            self._waiting.append(frame)
        self._ring()
        return True

    def receive(self, timeout: float) -> bytes | None:
        """The next frame, or None after `timeout` seconds. Raises Unavailable when it is over."""
        if self._inbox:
            return self._inbox.popleft()
        if self._ended:
            raise Unavailable(f"{self._address} closed the stream")
        self._flush()
        if not self._wire.pending() and not self._wait(timeout):
            return None
        self._take(self._read_now())
        return self._inbox.popleft() if self._inbox else None

    def wake(self) -> None:
        """Make a waiting `receive` return."""
        self._ring()

    def flush(self) -> None:
        """Write out what is queued, for the thread that owns the stream."""
        self._flush()

    def close(self) -> None:
        for each in (self._wire, self._bell_in, self._bell_out):
            each.close()

    def _wait(self, timeout: float) -> bool:
        """True if there is something to read. poll, for select knows no descriptor over 1023."""
        poll = select.poll()
        poll.register(self._wire, select.POLLIN)
        poll.register(self._bell_in, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, timeout) * 1000)}
        if self._bell_in.fileno() in ready:
            self._bell_in.recv(4096)
            self._flush()
        return self._wire.fileno() in ready

    def _ring(self) -> None:
        try:
            self._bell_out.send(b"!")
        except OSError:
            return  # closed meanwhile: nobody is waiting

    def _handshake(self, until: float) -> None:
        while time.monotonic() < until:
            for event in self._events(self._read()):
                if isinstance(event, AcceptConnection):
                    return
                if isinstance(event, RejectConnection):
                    self._status = event.status_code
                    if not event.has_body:
                        raise as_error(self._status, None, self._address)
                elif isinstance(event, RejectData):
                    self._refusal += event.data[: MAX_FRAME - len(self._refusal)]
                    if event.body_finished:
                        raise self._refused()
                else:
                    self._note(event)
        raise Unavailable(f"{self._address} did not answer in time")

    def _refused(self) -> Exception:
        try:
            body = read_any(bytes(self._refusal), limit=MAX_FRAME)
        except Malformed:
            body = None
        return as_error(self._status, body, self._address)

    def _take(self, data: bytes) -> None:
        for event in self._events(data):
            self._note(event)

    def _note(self, event: Event) -> None:
        if isinstance(event, TextMessage):
            self._partial += event.data
            if len(self._partial) > MAX_FRAME:
                raise Malformed(f"{self._address} sent a frame over {MAX_FRAME} bytes")
            if event.message_finished:
                self._inbox.append(self._partial.encode())
                self._partial = ""
        elif isinstance(event, BytesMessage):
            raise Unavailable(f"{self._address} does not speak the agent stream")
        elif isinstance(event, Ping):
            self._write(event.response())
        elif isinstance(event, CloseConnection):
            self._ended = True

    def _events(self, data: bytes) -> list[Event]:
        if not data:  # to wsproto, nothing is the end
            return []
        try:
            self._ws.receive_data(data)
            return list(self._ws.events())
        except (RemoteProtocolError, LocalProtocolError) as why:
            raise Unavailable(f"{self._address} does not speak the agent stream") from why

    def _read(self) -> bytes:
        try:
            data = self._wire.recv(CHUNK)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError:
            raise
        except OSError as why:
            raise Unavailable(f"{self._address}: the stream broke ({why})") from why
        if not data:
            raise Unavailable(f"{self._address} closed the connection")
        return data

    def _read_now(self) -> bytes:
        """What is there; b"" if a record has only half arrived, or was none of ours."""
        self._wire.settimeout(0)
        try:
            return self._read()
        finally:
            self._wire.settimeout(self._timeout)

    def _write(self, event: Event) -> None:
        """Waits `timeout` seconds at the most for the other side to take it."""
        try:
            self._wire.sendall(self._ws.send(event))
        except (OSError, LocalProtocolError) as why:
            raise Unavailable(f"{self._address}: the stream broke ({why})") from why

    def _flush(self) -> None:
        with self._guard:
            frames, self._waiting = list(self._waiting), deque()
        for frame in frames:
            self._write(TextMessage(data=frame.decode()))
