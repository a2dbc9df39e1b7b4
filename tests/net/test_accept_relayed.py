"""Connections that a proxy passes on to auth: who is behind them, and who may say so."""

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from teleport_lite.net.accept import Limits
from teleport_lite.net.proxy_header import Address, write_header
from teleport_lite.pki.attest import TLV, attest, attested
from teleport_lite.proto.join import AUTH_SERVER_NAME
from teleport_lite.testing.certs import PaperCluster, Papers
from tests.net.parrot import CLUSTER, HASTY, NODE, Parrot, closed_within, connect, dialled
from tests.net.serving import LOOPS, Serving, shown, trusting
from tests.support import eventually

PROXY = CLUSTER.host("proxy1", roles=("Proxy",))
NOW = CLUSTER.now  # stands still: headers are made when tests are collected
SOURCE, TARGET = ("203.0.113.7", 40000), ("192.0.2.1", 443)
LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"
PLAIN = write_header(SOURCE, TARGET)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def signed(papers: Papers = PROXY, source: Address = SOURCE, said: Address = SOURCE) -> bytes:
    """A header that says `said`, with the signature for `source`."""
    cert, key = papers.tls_cert, papers.tls_private
    tlv = attest(cert, key, source=source, target=TARGET, now=NOW)
    return write_header(said, TARGET, [(TLV, tlv)])


def check(tlv: bytes, source: Address, target: Address) -> str:
    return attested(
        tlv,
        source=source,
        target=target,
        host_cas=CLUSTER.host_cas,
        cluster=CLUSTER.name,
        now=NOW,
    )


@pytest.fixture(params=LOOPS)
def behind(parrot: Parrot, request: pytest.FixtureRequest) -> Iterator[Serving]:
    """A server that believes the proxies of its cluster."""
    with Serving(parrot, shown(CLUSTER), loop=request.param, attested=check) as running:
        yield running


@contextlib.contextmanager
def relayed(
    serving: Serving, header: bytes, papers: Papers | None = None
) -> Iterator[ssl.SSLSocket]:
    with dialled(serving) as wire:
        wire.sendall(header)
        context = trusting(CLUSTER, papers)
        with context.wrap_socket(wire, server_hostname=AUTH_SERVER_NAME) as tls:
            yield tls


def asks(tls: ssl.SSLSocket) -> bytes:
    tls.sendall(b"POST /x HTTP/1.1\r\nHost: auth\r\nContent-Length: 2\r\n\r\n{}")
    return tls.recv(65536)


def test_who_is_behind_a_proxy_is_known(behind: Serving, parrot: Parrot) -> None:
    for source in SOURCE, ("2001:db8::7", 1):
        with relayed(behind, signed(source=source, said=source), NODE) as tls:
            assert b"200 OK" in asks(tls)
            assert b"200 OK" in asks(tls)
    addresses = [peer.address for _, peer, _ in parrot.asked]
    assert addresses == ["203.0.113.7"] * 2 + ["2001:db8::7"] * 2
    assert parrot.asked[0][1].certificate == NODE.tls_der
    assert behind.server.relayed() == 2


def test_who_comes_directly_is_known_as_before(behind: Serving, parrot: Parrot) -> None:
    with connect(behind) as wire:
        wire.ask("/x", {})
    assert parrot.asked[0][1].address == "127.0.0.1"
    assert behind.server.relayed() == behind.server.unattested() == 0


def test_a_header_in_single_bytes_is_one_header(behind: Serving, parrot: Parrot) -> None:
    with dialled(behind) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in signed():
            wire.sendall(bytes([byte]))
        context = trusting(CLUSTER)
        with context.wrap_socket(wire, server_hostname=AUTH_SERVER_NAME) as tls:
            assert b"200 OK" in asks(tls)
    assert parrot.asked[0][1].address == "203.0.113.7"


RIGHT = signed()
UNTRUE = {
    "a line of text": LINE,
    "nobody's": PLAIN,
    "of the relay itself": LOCAL,
    "with nonsense for a signature": write_header(SOURCE, TARGET, [(TLV, b"nonsense")]),
    "signed for another address": signed(said=("203.0.113.8", 40000)),
    "of a host that is no proxy": signed(NODE),
    "of another cluster": signed(PaperCluster("other.example").host(roles=("Proxy",))),
    "of a user": signed(CLUSTER.user(roles=("Proxy",))),
    "twice": signed() + signed(),
    "then another": signed() + LINE,
    "of one wrong bit": RIGHT[:-1] + bytes([RIGHT[-1] ^ 1]),
}


@pytest.mark.parametrize("which", UNTRUE)
def test_a_header_that_no_proxy_of_ours_has_signed_ends_the_connection(
    behind: Serving, parrot: Parrot, which: str
) -> None:
    with pytest.raises((ssl.SSLError, OSError)), relayed(behind, UNTRUE[which]) as tls:
        asks(tls)
    assert parrot.asked == []
    with relayed(behind, signed()) as tls:
        assert b"200 OK" in asks(tls)


def test_without_a_way_to_check_no_header_is_believed(serving: Serving, parrot: Parrot) -> None:
    with pytest.raises((ssl.SSLError, OSError)), relayed(serving, signed()) as tls:
        asks(tls)
    assert parrot.asked == []
    assert serving.server.unattested() == 1


def test_the_log_says_why_and_not_for_each(
    behind: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="teleport_lite.api"):
        for _ in range(5):
            with pytest.raises((ssl.SSLError, OSError)), relayed(behind, signed(NODE)):
                pass
        eventually(lambda: behind.server.unattested() == 5)
    assert caplog.messages == [
        "connection from 127.0.0.1 closed: signed by no proxy of this cluster"
    ]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "first",
    [b"", b"P", LINE[:20], signed()[:100], signed(), LOCAL[:5]],
    ids=["nothing", "letter", "v1", "part", "whole", "local"],  # no two signatures are the same
)
def test_slowness_is_not_waited_for_longer_than_a_handshake(
    parrot: Parrot, loop: str, first: bytes
) -> None:
    with (
        Serving(parrot, shown(CLUSTER), limits=HASTY, loop=loop, attested=check) as serving,
        dialled(serving) as wire,
    ):
        wire.sendall(first)
        closed_within(wire, 60)
        eventually(lambda: serving.call(serving.server.connections) == 0)


def test_header_and_handshake_share_one_deadline(
    parrot: Parrot, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(handshake=3600.0)
    left: list[float] = []
    serving = Serving(parrot, shown(CLUSTER), limits=limits, loop="asyncio", attested=check)
    shake_hands = serving._loop.connect_accepted_socket

    def noting(*some: Any, **more: Any) -> Any:
        left.append(more["ssl_handshake_timeout"])
        return shake_hands(*some, **more)

    monkeypatch.setattr(serving._loop, "connect_accepted_socket", noting)
    with serving, dialled(serving) as wire:
        eventually(lambda: serving.call(serving.server.connections))
        time.sleep(0.5)
        wire.sendall(signed())
        eventually(lambda: left, what="the handshake to begin")
    assert left[0] <= 3600 - 0.5


def test_a_connection_dropped_before_its_turn_is_closed(parrot: Parrot) -> None:
    """More at once than the loop gets to; nothing is left to the garbage collector."""
    limits = Limits(connections=1)
    with (
        Serving(parrot, shown(CLUSTER), limits=limits, attested=check) as serving,
        contextlib.ExitStack() as stack,
    ):
        silent = [stack.enter_context(dialled(serving)) for _ in range(20)]
        with connect(serving) as wire:
            assert wire.ask("/x", {})
        for each in silent:
            closed_within(each, 60)
