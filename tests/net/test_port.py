"""One port for everything, on real sockets: who is let through, who is not, and who waits."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import pytest

from teleport_lite.errors import Denied
from teleport_lite.net.head import Attested
from teleport_lite.net.peek import MAX_HEAD, Kind, Opening
from teleport_lite.net.port import Arrival, Port, PortLimits
from teleport_lite.net.proxy_header import Address, write_header
from teleport_lite.pki.attest import TLV, attest, attested
from teleport_lite.testing.certs import PaperCluster
from tests.net.hellos import HandMade, extension, real_hello, sized
from tests.net.serving import LOOPS, auth_papers, shown, trusting
from tests.support import eventually

CLUSTER = PaperCluster()
PROXY = CLUSTER.host("proxy1", roles=("Proxy",))
NOW = CLUSTER.now  # stands still: headers are made when tests are collected
HELLO = real_hello(alpn=("teleport-auth@test.example",), sni="auth.example")
TLS = Opening(Kind.TLS, ("teleport-auth@test.example",), "auth.example")
SSH, HTTP = b"SSH-2.0-OpenSSH_9.2\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SOURCE, TARGET = ("203.0.113.7", 40000), ("192.0.2.1", 443)
LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"
PLAIN = write_header(SOURCE, TARGET)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
# Generous: the machine is shared.
LONG = 60
both = pytest.mark.parametrize("loop", LOOPS)


def sign(source: Address = SOURCE, target: Address = TARGET) -> bytes:
    return write_header(source, target, [(TLV, signature(source, target))])


def signature(source: Address = SOURCE, target: Address = TARGET) -> bytes:
    cert, key = PROXY.tls_cert, PROXY.tls_private
    return attest(cert, key, source=source, target=target, now=NOW)


def check(tlv: bytes, source: Address, target: Address) -> str:
    return attested(
        tlv,
        source=source,
        target=target,
        host_cas=CLUSTER.host_cas,
        cluster=CLUSTER.name,
        now=NOW,
    )


SIGNED = sign()


class Ported:
    """A port of ours in a loop of its own thread. Says back what it has seen, and the bytes."""

    def __init__(
        self,
        *,
        loop: str = "uvloop",
        limits: PortLimits | None = None,
        check: Attested | None = check,
        route: Callable[[Arrival], Any] | None = None,
        listener: socket.socket | None = None,
        **more: Any,
    ) -> None:
        self.loop = LOOPS[loop]()
        self.arrivals: list[Arrival] = []
        self._more = {"limits": limits, "attested": check, **more}
        self._route, self._listener = route or self._echo, listener
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    async def _echo(self, arrival: Arrival) -> None:
        """Everything that was sent is still there, but for a header."""
        with arrival.socket as wire:
            while part := await self.loop.sock_recv(wire, 65536):
                await self.loop.sock_sendall(wire, part)

    async def _take(self, arrival: Arrival) -> None:
        self.arrivals.append(arrival)
        await self._route(arrival)

    def __enter__(self) -> Self:
        self._thread.start()
        listener = self._listener or socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address: tuple[str, int] = listener.getsockname()[:2]

        async def start() -> None:
            self.port = Port(route=self._take, **self._more)
            self.port.listen(listener)

        self.wait(start())
        return self

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=LONG)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wait(self.port.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=LONG)
        self.loop.close()

    def dial(self, first: bytes = b"") -> socket.socket:
        wire = socket.create_connection(self.address, timeout=LONG)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sendall(first)
        return wire

    def serves(self, first: bytes, *, less: int = 0, check_ends: bool = True) -> Arrival:
        """Whether all of it arrives, and more, but for the first `less` bytes."""
        more = b"and this"
        before = len(self.arrivals)
        with self.dial(first) as wire:
            wire.sendall(more)
            whole = first[less:] + more
            assert hears(wire, len(whole)) == whole
            assert len(self.arrivals) == before + 1
            arrival = self.arrivals[-1]
            if check_ends and not less:
                assert arrival.peer == wire.getsockname()
                assert arrival.local == wire.getpeername()
            return arrival

    def refuses(self, first: bytes) -> None:
        before = len(self.arrivals)
        with self.dial(first) as wire:
            assert closed(wire)
        assert len(self.arrivals) == before


def hears(wire: socket.socket, size: int) -> bytes:
    heard = b""
    while len(heard) < size and (part := wire.recv(65536)):
        heard += part
    return heard


def closed(wire: socket.socket) -> bool:
    """Ended by the other side, without an answer."""
    try:
        return wire.recv(65536) == b""
    except ConnectionResetError:
        return True


def dribble(wire: socket.socket, data: bytes, size: int = 1) -> None:
    for at in range(0, len(data), size):
        wire.sendall(data[at : at + size])


# What is let through


@both
def test_each_kind_arrives_with_all_its_bytes(loop: str) -> None:
    with Ported(loop=loop) as port:
        assert port.serves(SSH).opening == Opening(Kind.SSH)
        assert port.serves(HTTP).opening == Opening(Kind.HTTP)
        assert port.serves(HELLO).opening == TLS
        assert (port.port.counts["ssh"], port.port.counts["tls"]) == (1, 1)
        assert port.port.counts["accepted"] == 3
        eventually(lambda: port.port.pending == port.port.routed == 0)


@both
def test_a_hello_that_dribbles_in_is_read_with_few_looks(loop: str) -> None:
    hello = HandMade().but(extensions=sized(2, extension(21, bytes(8000)))).wire(record=700)
    with Ported(loop=loop) as port, port.dial() as wire:
        before = time.process_time()
        dribble(wire, hello, 37)
        wire.sendall(b"rest")
        assert hears(wire, len(hello) + 4) == hello + b"rest"
        assert port.arrivals[0].opening.kind is Kind.TLS
        assert time.process_time() - before < LONG / 2


@both
def test_the_socket_is_as_new_when_it_is_handed_on(loop: str) -> None:
    """A low-water mark that stayed behind would make its owner wait for ever."""
    with Ported(loop=loop) as port, port.dial() as wire:
        dribble(wire, HELLO, 100)
        hears(wire, len(HELLO))
        mine = port.arrivals[0].socket
        assert mine.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
        assert mine.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not mine.getblocking()
        wire.sendall(b"x")
        assert wire.recv(1) == b"x"


@both
def test_tls_is_spoken_on_it_as_if_nobody_had_looked(loop: str) -> None:
    context = shown(CLUSTER, auth_papers(CLUSTER)).context

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data.upper())

    async def route(arrival: Arrival) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(Echo, arrival.socket, ssl=context)

    client = trusting(CLUSTER, CLUSTER.host())
    client.check_hostname = False
    with Ported(loop=loop, route=route) as port:
        for header in b"", sign():
            with (
                port.dial(header) as wire,
                client.wrap_socket(wire, server_hostname="x") as tls,
            ):
                tls.sendall(b"hello")
                assert tls.recv(100) == b"HELLO"
        assert [each.peer == SOURCE for each in port.arrivals] == [False, True]
        with port.dial() as wire, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(wire, server_hostname="x")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_ipv4_on_a_listener_for_both_is_written_as_ipv4() -> None:
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with Ported(listener=listener) as port:
        for host in "127.0.0.1", "::1":
            port.address = (host, port.address[1])
            arrival = port.serves(SSH, check_ends=False)
            assert (arrival.peer[0], arrival.local[0]) == (host, host)


# What is refused


EMPTY = b"\x16\x03\0\0\0"
SSL_2 = b"\x80\x2e\x01\x03\x01"
OVERSIZE = b"\x16\x03\x01\x20\x00\x01" + MAX_HEAD.to_bytes(3, "big")
GARBAGE = [
    b"\0",
    b"\xff" * 65536,
    b"EHLO x\r\n",
    b"\x80\x2e\x01\x03\x01",
    OVERSIZE,
    b"\x16\x03\0\0\0",
]


@both
def test_garbage_is_closed_at_once(loop: str) -> None:
    with Ported(loop=loop, limits=PortLimits(deadline=10 * LONG)) as port:
        for each in GARBAGE:
            port.refuses(each)
        assert port.port.counts["refused"] == len(GARBAGE)


@both
def test_an_end_before_it_said_anything_is_an_end(loop: str) -> None:
    with Ported(loop=loop, limits=PortLimits(deadline=10 * LONG)) as port:
        for first in b"", b"SS", HELLO[:5], HELLO[:-1], LINE[:-1], sign()[:-1]:
            with port.dial(first) as wire:
                wire.shutdown(socket.SHUT_WR)
                assert closed(wire)
            with port.dial(first) as wire:
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        eventually(lambda: port.port.pending == 0, seconds=LONG)
        assert port.arrivals == []


@both
def test_an_end_right_behind_the_hello_does_not_hide_it(loop: str) -> None:
    with Ported(loop=loop) as port:
        for cut in 1, 200:
            with port.dial(HELLO[:cut]) as wire:
                wire.sendall(HELLO[cut:])
                wire.shutdown(socket.SHUT_WR)
                assert hears(wire, 1 << 20) == HELLO


def test_a_port_may_speak_less_than_everything() -> None:
    with Ported(kinds=frozenset({Kind.SSH})) as port:
        port.refuses(HTTP)
        port.refuses(HELLO)
        port.serves(SSH)


@both
@pytest.mark.parametrize(
    "first",
    [b"", b"S", HELLO[:3], HELLO[:100], LINE[:9], PLAIN[:20]],
    ids=["nothing", "ssh", "record", "hello", "v1", "v2"],  # no two hellos are the same
)
def test_who_is_slow_is_closed_at_the_deadline(loop: str, first: bytes) -> None:
    with Ported(loop=loop, limits=PortLimits(deadline=0.3)) as port:
        began = time.monotonic()
        port.refuses(first)
        assert time.monotonic() - began > 0.25
        assert port.port.counts["silent"] == 1


def test_the_deadline_is_one_for_header_and_hello() -> None:
    with Ported(limits=PortLimits(deadline=1.0), proxy_protocol="on") as port:
        began = time.monotonic()
        with port.dial() as wire, contextlib.suppress(OSError):
            for byte in LINE + HELLO:
                wire.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - began < LONG
        eventually(lambda: port.port.counts["silent"] == 1)


# PROXY headers


@both
@pytest.mark.parametrize("header", [LINE, PLAIN, SIGNED], ids=["v1", "v2", "signed"])
def test_told_to_believe_headers_it_does(loop: str, header: bytes) -> None:
    with Ported(loop=loop, proxy_protocol="on") as port:
        for first in SSH, HELLO, HTTP:
            arrival = port.serves(header + first, less=len(header))
            assert (arrival.peer, arrival.local) == (SOURCE, TARGET)
            assert arrival.proxy == (PROXY.id if header == SIGNED else "")
        assert port.port.counts["relayed"] == 3


def test_told_to_believe_headers_it_does_not_mind_a_bad_signature() -> None:
    """Other makers use the same numbers for their own fields."""
    header = write_header(SOURCE, TARGET, [(TLV, b"of somebody else")])
    with Ported(proxy_protocol="on") as port:
        arrival = port.serves(header + SSH, less=len(header))
        assert (arrival.peer, arrival.proxy) == (SOURCE, "")


@both
def test_a_header_that_dribbles_in_is_taken_off_exactly(loop: str) -> None:
    with Ported(loop=loop, proxy_protocol="on") as port:
        for header in LINE, sign():
            with port.dial() as wire:
                dribble(wire, header + SSH, 11)
                assert hears(wire, len(SSH)) == SSH
        assert [each.peer for each in port.arrivals] == [SOURCE, SOURCE]


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_connections_of_the_balancer_itself_have_its_address(header: bytes) -> None:
    with Ported(proxy_protocol="on") as port, port.dial(header + SSH) as wire:
        assert hears(wire, len(SSH)) == SSH
        assert port.arrivals[0].peer == wire.getsockname()
        assert port.arrivals[0].local == wire.getpeername()


@pytest.mark.parametrize("first", [SSH, HELLO, HTTP])
def test_told_to_believe_headers_it_wants_one_of_everybody(first: bytes) -> None:
    with Ported(proxy_protocol="on") as port:
        port.refuses(first)


@pytest.mark.parametrize("mode", ["on", "off", "unspecified"])
@pytest.mark.parametrize(
    "second", [LINE, PLAIN, sign(), LOCAL], ids=["v1", "v2", "signed", "local"]
)
def test_a_second_header_is_refused(mode: str, second: bytes) -> None:
    with Ported(proxy_protocol=mode) as port:
        port.refuses(sign() + second + SSH)


@both
@pytest.mark.parametrize("mode", ["off", "unspecified"])
def test_not_told_to_it_believes_proxies_of_the_cluster_alone(loop: str, mode: str) -> None:
    with Ported(loop=loop, proxy_protocol=mode) as port:
        signed = sign()
        arrival = port.serves(signed + HELLO, less=len(signed))
        assert (arrival.opening, arrival.peer, arrival.local) == (TLS, SOURCE, TARGET)
        assert arrival.proxy == PROXY.id
        assert port.serves(SSH).proxy == ""
        other = write_header(("203.0.113.8", 1), TARGET, [(TLV, signature())])
        bad = [LINE, PLAIN, LOCAL, b"PROXY UNKNOWN\r\n", other]
        for header in bad:
            port.refuses(header + SSH)
        assert port.port.counts["unattested"] == len(bad)
        assert port.port.counts["relayed"] == 1


def test_without_a_way_to_check_signatures_none_is_believed() -> None:
    with Ported(check=None) as port:
        port.refuses(sign() + SSH)


def test_a_header_nobody_asked_for_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="teleport_lite.port"):
        with Ported(proxy_protocol="unspecified") as port:
            for _ in range(5):
                port.refuses(LINE + SSH)
        [line] = caplog.messages
        assert line.startswith("127.0.0.1 sent a PROXY header and was turned away")
        assert line.endswith("set proxy_service.proxy_protocol: on")
        caplog.clear()
        with Ported(proxy_protocol="off") as port:
            port.refuses(LINE + SSH)
        assert caplog.messages == []


def test_a_bad_signature_is_told_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    def late(tlv: bytes, source: Address, target: Address) -> str:
        raise Denied("not signed", log="signed 300 s ago")

    with Ported(check=late, proxy_protocol="off") as port:
        port.refuses(sign() + SSH)
    assert "127.0.0.1 relays a connection: not signed: signed 300 s ago" in caplog.messages


def test_an_unknown_mode_is_a_bug() -> None:
    with pytest.raises(ValueError, match="proxy_protocol yes"):
        Port(route=lambda _: asyncio.sleep(0), proxy_protocol="yes")


# Many


@contextlib.contextmanager
def crowd(port: Ported, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    wires = [port.dial(first) for _ in range(count)]
    try:
        yield wires
    finally:
        for wire in wires:
            wire.close()


def room_for(count: int) -> int:
    """Both ends are in this process, and others have descriptors open too."""
    free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(os.listdir("/proc/self/fd"))
    return min(count, (free - 50) // 2)


def rests() -> bool:
    """For half a second. Who spins never does, whatever else the machine is doing."""
    spent = time.process_time()
    time.sleep(0.5)
    return time.process_time() - spent < 0.2


def typical_wait(port: Ported) -> float:
    """Seconds that one of those who speak waits."""
    waits = []
    for each in (SSH, HELLO, HTTP) * 5:
        began = time.monotonic()
        port.serves(each)
        waits.append(time.monotonic() - began)
    return sorted(waits)[len(waits) // 2]


@both
@pytest.mark.parametrize("first", [b"", HELLO[:20]], ids=["silent", "half a hello"])
def test_a_thousand_that_wait_delay_nobody(loop: str, first: bytes) -> None:
    count = room_for(1000)
    limits = PortLimits(deadline=3 * LONG, per_source=2000)
    with Ported(loop=loop, limits=limits) as port, crowd(port, count, first):
        eventually(lambda: port.port.pending == count, seconds=LONG)
        assert any(rests() for _ in range(4)), "it spins"
        with Ported(loop=loop, limits=limits) as empty:
            alone = typical_wait(empty)
        assert typical_wait(port) < max(1.0, 10 * alone)
        assert port.port.pending == count


@both
def test_all_who_wait_are_closed_at_the_deadline(loop: str) -> None:
    count = room_for(500)
    limits = PortLimits(deadline=2, per_source=2000)
    with Ported(loop=loop, limits=limits) as port, crowd(port, count) as wires:
        assert all(closed(wire) for wire in wires)
        assert port.port.counts["silent"] == count
        eventually(lambda: port.port.pending == port.port.routed == 0)


@both
@pytest.mark.parametrize("which", ["pending", "per_source"])
def test_who_has_said_least_for_longest_makes_way(loop: str, which: str) -> None:
    limits = PortLimits(deadline=10 * LONG, **{which: 5})
    with Ported(loop=loop, limits=limits) as port, crowd(port, 5) as silent:
        eventually(lambda: port.port.pending == 5)
        with port.dial(HELLO[:50]) as slow:
            assert closed(silent[0])
            port.serves(SSH)
            assert closed(silent[1])
            slow.sendall(HELLO[50:])
            assert hears(slow, len(HELLO)) == HELLO
        assert port.port.counts["shed"] == 2
        silent[4].sendall(SSH)
        assert hears(silent[4], len(SSH)) == SSH


@both
def test_many_at_once_who_speak_are_all_served(loop: str) -> None:
    """However few may be pending: they are not, they have said what they want."""
    limits = PortLimits(pending=4, per_source=2)
    with Ported(loop=loop, limits=limits) as port, crowd(port, 200, HELLO) as wires:
        assert all(hears(wire, len(HELLO)) == HELLO for wire in wires)
        assert port.port.counts["shed"] == 0


def test_sources_behind_a_balancer_are_told_apart() -> None:
    limits = PortLimits(deadline=10 * LONG, per_source=2)
    with Ported(proxy_protocol="on", limits=limits) as port, contextlib.ExitStack() as stack:
        noisy = [stack.enter_context(port.dial(LINE + b"S")) for _ in range(2)]
        other = b"PROXY TCP4 203.0.113.8 192.0.2.1 40000 443\r\n"
        quiet = [stack.enter_context(port.dial(other + b"S")) for _ in range(2)]
        eventually(lambda: port.port.counts["relayed"] == 4)
        assert port.port.counts["shed"] == 0
        stack.enter_context(port.dial(LINE + b"S"))
        assert closed(noisy[0])
        for wire in quiet:
            wire.sendall(b"SH-2.0-x")
            assert hears(wire, 9) == b"SSH-2.0-x"


HUNGRY = """
import logging, os, resource, sys, time
from tests.net.test_port import Ported
logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
with Ported(loop=sys.argv[1]) as port:
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, used + 20))
    print("ready", port.address[1], flush=True)
    sys.stdin.readline()
    before = time.process_time()
    sys.stdin.readline()
    print("cpu", time.process_time() - before, port.port.pending, flush=True)
    sys.stdin.readline()
"""


@both
def test_out_of_descriptors_it_pauses_and_good_ones_still_get_in(loop: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HUNGRY, loop],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        address = ("127.0.0.1", int(child.stdout.readline().split()[1]))
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(socket.create_connection(address, timeout=LONG))
            child.stdin.write("\n")
            with socket.create_connection(address, timeout=LONG) as good:
                good.sendall(SSH)
                assert hears(good, len(SSH)) == SSH
            time.sleep(1)
            child.stdin.write("\n")
            lines = []
            while not (line := child.stdout.readline()).startswith("cpu"):
                lines.append(line)
            assert float(line.split()[1]) < 0.5, "it spins"
            assert len(lines) == 1
            assert "can not accept connections: [Errno 24]" in lines[0]
        child.stdin.write("\n")
        assert child.wait(timeout=LONG) == 0


# The route


@both
def test_what_a_route_can_not_do_ends_its_connection_alone(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def route(arrival: Arrival) -> None:
        if arrival.opening.kind is Kind.HTTP:
            raise RuntimeError("a bug")
        raise Denied("no")

    with Ported(loop=loop, route=route) as port:
        for first in HTTP, SSH, HTTP:
            with port.dial(first) as wire:
                assert closed(wire)
        assert len(port.arrivals) == 3
        assert port.port.counts["broken"] == 0
    assert [each.message for each in caplog.records if each.exc_info] == [
        "internal error in a connection from 127.0.0.1"
    ] * 2


@both
def test_stopping_turns_away_who_waits_and_closing_everybody(loop: str) -> None:
    with Ported(loop=loop) as port, port.dial() as silent, port.dial(SSH) as talking:
        assert hears(talking, len(SSH)) == SSH
        eventually(lambda: port.port.pending == 1)

        async def stop() -> None:
            port.port.stop_accepting()

        port.wait(stop())
        assert closed(silent)
        with pytest.raises(ConnectionRefusedError):
            port.dial()
        talking.sendall(b"still here")
        assert hears(talking, 10) == b"still here"
        port.wait(port.port.close())
        assert closed(talking)


@both
def test_no_descriptor_is_left_behind(loop: str) -> None:
    with Ported(loop=loop, limits=PortLimits(deadline=2.0)) as port:
        port.serves(SSH)
        eventually(lambda: port.port.routed == 0)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            port.serves(HELLO)
            port.refuses(b"garbage")
            port.refuses(LINE + SSH)
        port.refuses(b"")
        eventually(lambda: port.port.routed == port.port.pending == 0)
        eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
