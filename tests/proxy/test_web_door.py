"""Who may hold a connection to the web port, and for how long."""

import gc
import socket
import ssl
import warnings
from contextlib import suppress

import pytest
from aiohttp.web_protocol import RequestHandler

from teleport_lite.net.tls import Context
from teleport_lite.proxy.web_door import WebLimits
from tests.net.serving import LOOPS
from tests.proxy.webrig import WebServing
from tests.support import eventually

QUICK = WebLimits(handshake=60, first_request=0.3, idle=0.5, linger=0.2, connections=3)
ASK = b"GET /webapi/find HTTP/1.1\r\nHost: a\r\n\r\n"


def ended(wire: socket.socket) -> bool:
    wire.settimeout(30)
    try:
        return wire.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("loop", LOOPS)
def test_who_says_nothing_is_hung_up_on(loop):
    with WebServing(loop=loop, limits=QUICK) as web, web.connect() as wire:
        assert ended(wire)
        assert eventually(lambda: web.call(lambda: len(web.door)) == 0)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_never_ends_his_headers_is_hung_up_on(loop):
    with WebServing(loop=loop, limits=QUICK) as web, web.connect() as wire:
        with suppress(ConnectionError):  # we may have been slow even to begin
            wire.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        assert ended(wire)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_unfinished_handshake_ends(loop):
    with (
        WebServing(loop=loop, limits=WebLimits(handshake=0.3, linger=0.2)) as web,
        socket.create_connection(("127.0.0.1", web.port)) as wire,
    ):
        hello = half_of_a_handshake()
        wire.sendall(hello)
        wire.settimeout(30)
        while wire.recv(65536):
            pass


def half_of_a_handshake() -> bytes:
    out = ssl.MemoryBIO()
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def test_several_requests_go_over_one_connection():
    with WebServing() as web, web.connect() as wire:
        for _ in range(3):
            wire.sendall(ASK)
            assert wire.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("loop", LOOPS)
def test_of_a_connection_that_has_ended_nothing_is_kept(loop):
    """It came to 55 KiB, of up to five hundred at a time."""
    before = talks()  # of tests that have been here
    with WebServing(loop=loop, limits=WebLimits(first_request=3600, idle=3600)) as web:
        for asks in (True, False):
            with web.connect() as wire:
                if asks:
                    wire.sendall(ASK)
                    assert wire.recv(65536).startswith(b"HTTP/1.1 200")
                assert eventually(lambda: talks() - before)
            assert eventually(lambda: not talks() - before, what="it to be forgotten")


def talks() -> set[int]:
    gc.collect()
    return {id(each) for each in gc.get_objects() if isinstance(each, RequestHandler)}


@pytest.mark.parametrize(
    "limits", [WebLimits(connections=3), WebLimits(per_source=3)], ids=["all", "of one source"]
)
def test_when_all_places_are_taken_the_oldest_makes_way(limits):
    with WebServing(limits=limits) as web:
        first, *others = [web.connect() for _ in range(4)]
        assert ended(first)
        others[-1].sendall(ASK)
        assert others[-1].recv(65536).startswith(b"HTTP/1.1 200")
        for wire in (first, *others):
            wire.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_who_makes_way_in_the_middle_of_a_handshake_is_gone_at_once(loop):
    """Else places would be limited and descriptors not: ten seconds of them, at any rate."""
    with WebServing(loop=loop, limits=WebLimits(handshake=3600, per_source=3)) as web:
        hello, wires = half_of_a_handshake(), []
        for _ in range(6):
            wires.append(socket.create_connection(("127.0.0.1", web.port), timeout=30))
            wires[-1].sendall(hello)
            assert wires[-1].recv(1), "the handshake has begun"
        for wire in wires[:3]:
            while not ended(wire):
                pass
        assert web.call(lambda: len(web.door)) == 3
        for wire in wires:
            wire.close()


def browser(*, tls: str = "TLSv1_2") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion[tls]
    return context


def test_browsers_of_tls_1_2_are_served_with_forward_secrecy():
    with (
        WebServing() as web,
        socket.create_connection(("127.0.0.1", web.port), timeout=30) as plain,
        browser().wrap_socket(plain) as tls,
    ):
        name, version, _ = tls.cipher() or ("", "", 0)
        assert (version, tls.version()) == ("TLSv1.2", "TLSv1.2")
        assert name.startswith("ECDHE")
        assert name.endswith(("GCM-SHA256", "GCM-SHA384", "POLY1305"))


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_older_ones_are_not(version):
    with (
        WebServing() as web,
        socket.create_connection(("127.0.0.1", web.port), timeout=30) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        browser(tls=version).wrap_socket(plain)


def test_without_forward_secrecy_there_is_no_tls():
    context = browser()
    context.set_ciphers("AES128-GCM-SHA256")
    with (
        WebServing() as web,
        socket.create_connection(("127.0.0.1", web.port), timeout=30) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain)


def test_http_1_1_is_agreed_on():
    with WebServing() as web:
        context = browser()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", web.port), timeout=30) as plain,
            context.wrap_socket(plain) as tls,
        ):
            assert tls.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00" * 50 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["garbage", "version", "long line", "long header", "two lengths"],
)
def test_what_is_no_http_is_refused_without_a_traceback(raw, caplog):
    with WebServing(limits=WebLimits(linger=0.2)) as web, web.connect() as wire:
        wire.sendall(raw)
        answer = wire.recv(65536)
        assert answer == b"" or (answer.startswith(b"HTTP/1.") and b" 400 " in answer[:20])
    assert "Traceback" not in caplog.text
