"""Readers of the first bytes of connections, of tunnels, and of answers over HTTP."""

import asyncio
import json
import socket
from collections import deque
from contextlib import suppress
from threading import Lock

from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from teleport_lite.client import ping, reach
from teleport_lite.client.transport import Transport
from teleport_lite.errors import Error, Malformed
from teleport_lite.net import http as our_http
from teleport_lite.net import peek, proxy_header
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_frames import MAX_DATA, Deframer, Kind, credit, frame
from teleport_lite.net.mux_heart import Heart
from teleport_lite.net.problems import as_error
from teleport_lite.net.stream import StreamClient
from teleport_lite.proto.codec import MAX_FRAME, write
from teleport_lite.proto.tunnel import Control, GoingAway, TunnelHello
from tests.fuzz.ssh_rig import talking
from tests.fuzz.target import Finding, any_of, target
from tests.net.hellos import real_hello
from tests.net.mux_pair import HELLO, End
from tests.net.test_mux_fuzz import NoTls, Nowhere


def _client_hello() -> bytes:
    return real_hello(alpn=["teleport-proxy-ssh", "h2"], sni="proxy.example.com")


def _in_records(message: bytes, size: int) -> bytes:
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


@target(
    seeds=lambda: [
        b"SSH-2.0-x\r\n",
        b"GET / HTTP/1.1\r\n",
        _client_hello(),
        _in_records(_client_hello()[5:], 200),
    ],
)
def first_bytes(data: bytes) -> None:
    """SSH, TLS or HTTP; and the answer does not depend on how the bytes arrive."""
    found = peek.look(data, final=True)
    for end in sorted({1, 5, len(data) // 2, len(data) - 1}):
        before = peek.read(data[:end]) if 0 <= end < len(data) else found
        if isinstance(before, int):
            if before <= end:
                raise Finding(f"{end} bytes are there, and {before} are waited for")
        elif before != found:
            raise Finding(f"{end} bytes say {before}, all say {found}")


@target(
    seeds=lambda: [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\n",
        b"PROXY UNKNOWN ff\r\n",
        proxy_header.write_header(("192.0.2.1", 1), ("192.0.2.2", 2), [(0xE4, b"signed")]),
        proxy_header.write_header(("2001:db8::1", 1), ("::1", 2)),
    ],
)
def proxy_headers(data: bytes) -> None:
    found = proxy_header.read_header(data)
    if isinstance(found, int):
        if not len(data) < found <= proxy_header.MAX_HEADER:
            raise Finding(f"{len(data)} bytes are there, and {found} are waited for")
    elif found is not None:
        if not 0 < found.length <= len(data):
            raise Finding(f"a header of {found.length} bytes in {len(data)}")
        for host, port in filter(None, (found.source, found.target)):
            if proxy_header.plain_address(host) != host or not 0 <= port < 1 << 16:
                raise Finding(f"address {host} port {port}")


FRAMES = [
    frame(Kind.SYN, 1, write(HELLO)),
    frame(Kind.SYN, 2, write(HELLO)),
    frame(Kind.SYN, 3, write(HELLO)),
    frame(Kind.DATA, 1, b"data"),
    frame(Kind.DATA, 3, bytes(MAX_DATA)),
    frame(Kind.WIN, 1, (1000).to_bytes(4, "big")),
    frame(Kind.FIN, 1),
    frame(Kind.RST, 1, b"why"),
    frame(Kind.PING, 9),
    frame(Kind.PONG, 9),
    frame(Kind.CONTROL, 0, write(Control(hello=TunnelHello(version=1)))),
    frame(Kind.CONTROL, 0, write(Control(going_away=GoingAway()))),
]


@target(
    seeds=lambda: [b"".join(FRAMES[:4]), b"".join(FRAMES[5:])],
    parts=lambda: any_of(FRAMES),
    most=1 << 17,
)
def tunnel_frames(data: bytes) -> None:
    """However the bytes are cut, the same frames come out."""

    def read(size: int) -> list[tuple[int, int, bytes]]:
        found: list[tuple[int, int, bytes]] = []

        def deliver(kind: int, stream: int, payload: memoryview) -> None:
            if kind == Kind.WIN:
                credit(payload)
            if kind == Kind.DATA and found and found[-1][:2] == (kind, stream):
                payload = memoryview(found.pop()[2] + bytes(payload))
            found.append((kind, stream, bytes(payload)))

        deframer, view = Deframer(), memoryview(data)
        for at in range(0, len(data), size):
            deframer.feed(view[at : at + size], deliver)
        return found

    if read(max(1, len(data))) != read(7):
        raise Finding("what comes in pieces reads differently")


@target(
    raises=(),
    seeds=lambda: [b"\0" + b"".join(FRAMES), b"\3" + b"".join(FRAMES[1:])],
    parts=lambda: any_of(FRAMES),
    most=1 << 17,
)
def tunnel(data: bytes) -> None:
    """A whole tunnel, fed with frames: what it holds stays within what it has granted."""
    asyncio.run(_tunnel(data))


async def _tunnel(data: bytes) -> None:
    how = data[:1] or b"\0"
    dialled, takes = bool(how[0] & 1), bool(how[0] & 2)
    mux = Mux(
        NoTls(),  # type: ignore[arg-type]  # as much of it as is asked for
        dialled=dialled,
        owner=End(takes=takes),
        heart=Heart(),
        max_streams=4,
    )
    mux._transport = Nowhere()  # type: ignore[assignment]  # the same
    deframer = Deframer()
    start = frame(Kind.CONTROL, 0, write(Control(hello=TunnelHello(version=1))))
    try:
        deframer.feed(memoryview(start), mux._deliver)
        for at in range(1, len(data), 4096):
            deframer.feed(memoryview(data)[at : at + 4096], mux._deliver)
            await asyncio.sleep(0)
    except Error:
        pass
    if len(mux) > 4:
        raise Finding(f"{len(mux)} streams")
    for each in list(mux._streams.values()):
        each.lost("over")
    await asyncio.sleep(0)


# --- answers


class _Door:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.name = "auth"

    def open(self) -> socket.socket:
        return self._sock


def _http(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nContent-Length: "
    return head + str(len(body)).encode() + b"\r\n\r\n" + body


_REFUSED = b'{"error": {"code": "denied", "message": "no", "hint": "tctl", "trace": "1"}}'
_ANSWERS = [
    _http(b'{"ok": true}'),
    _http(_REFUSED, b"403 Forbidden"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.0 500 x\r\n\r\n",
]


@target(raises=(Error,), seeds=lambda: _ANSWERS)
def answers_to_tools(data: bytes) -> None:
    """What `tctl` reads."""
    with talking(data) as sock:
        Transport(_Door(sock), limit=1 << 20).ask("/v1/status", {})


@target(raises=(Error,), seeds=lambda: _ANSWERS)
def answers_to_agents(data: bytes) -> None:
    with talking(data) as sock, our_http.Connection(sock, "auth") as connection:
        connection.ask("/v1/ca")


@target(
    raises=(Error,),
    seeds=lambda: [
        b'{"cluster_name": "a.b", "server_version": "1", "ca_pins": ["x"], '
        b'"proxy": {"ssh": {"ssh_public_addr": "a:1"}}}',
        b'{"ok": true}',
        _REFUSED,
        b'{"ok": false, "code": "denied", "message": "m", "hint": "h"}',
    ],
)
def answers_of_proxies(data: bytes) -> None:
    """What a proxy says of itself, and about a way to a node; and any refusal."""
    with suppress(ValueError, RecursionError):
        said = json.loads(data)
        with suppress(Malformed):
            ping._read(said, "proxy", verified=True)
        shown = as_error(403, said, "proxy")
        if not all(char.isprintable() or char in "\n\t" for char in shown.message + shown.hint):
            raise Finding("a refusal that moves the cursor")
    reach._check(data.partition(b"\n")[0], "proxy")


class _Nobody:
    """Of a TLS socket as much as is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.sent = 0

    def recv(self, size: int) -> bytes:
        taken, self._data = self._data[: min(size, 1000)], self._data[1000:]
        return taken

    def sendall(self, data: bytes) -> None:
        self.sent += len(data)

    def settimeout(self, seconds: float) -> None: ...

    def pending(self) -> int:
        return 1

    def close(self) -> None: ...


_WELCOME = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: ACCEPT\r\n\r\n"
)


@target(
    raises=(Error,),
    seeds=lambda: [
        b"\0" + _http(_REFUSED, b"403 Forbidden"),
        b"\1\x81\x02{}\x89\x00\x88\x02\x03\xe8",
        b"\1\x01\x01{\x80\x01}",
        b"\1\x82\x01x",
    ],
)
def agent_stream(data: bytes) -> None:
    """Auth's end of the WebSocket: before it is open, and after."""
    client = StreamClient.__new__(StreamClient)
    client._address, client._timeout = "auth", 1.0
    client._wire = _Nobody(b"")  # type: ignore[assignment]  # as above
    client._ws = WSConnection(ConnectionType.CLIENT)
    client._waiting, client._guard, client._inbox = deque(), Lock(), deque()
    client._partial, client._refusal, client._status, client._ended = "", b"", 0, False
    asked = client._ws.send(Request(host="auth", target="/v1/stream"))
    said = data[1:]
    if data[:1] == b"\1":
        said = _WELCOME.replace(b"ACCEPT", _accept(asked)) + said
    client._wire = _Nobody(said)  # type: ignore[assignment]
    client._handshake(1e18)
    while (frame := client.receive(0.0)) is not None:
        if len(frame) > 4 * MAX_FRAME:
            raise Finding("a frame too long")


def _accept(asked: bytes) -> bytes:
    """RFC 6455 §4.2.2."""
    import base64
    import hashlib

    key = next(
        line[19:] for line in asked.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: ")
    )
    magic = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(key + magic).digest())
