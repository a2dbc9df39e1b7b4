"""HTTP where HTTPS is spoken: one answer, and the end."""

import asyncio
import socket

import pytest

from teleport_lite.proxy import plain_http
from teleport_lite.proxy.plain_http import send_to_https


def told(*said: bytes, close: bool = False) -> bytes:
    async def run() -> bytes:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(30)
        work = asyncio.create_task(send_to_https(ours, "tele.example.com:443"))
        with theirs:
            for part in said:
                theirs.sendall(part)
            if close:
                theirs.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(work, 30)
            assert ours.fileno() == -1
            return b"".join(iter(lambda: theirs.recv(4096), b""))

    return asyncio.run(run())


def test_a_browser_is_led_to_https_and_its_path_is_not():
    answer = told(b"GET /web/invite/secret HTTP/1.1\r\nHost: x", b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 307 Temporary Redirect\r\n")
    assert b"\r\nLocation: https://tele.example.com:443/\r\n" in answer
    assert b"secret" not in answer


def test_a_half_request_is_answered_too():
    assert told(b"GET / HTTP/1.1\r\n", close=True).startswith(b"HTTP/1.1 307")


def test_an_endless_one_is_read_up_to_a_limit():
    endless = b"GET / HTTP/1.1\r\nX: ".ljust(plain_http.MAX_HEAD, b"a")
    assert told(endless).startswith(b"HTTP/1.1 307")


@pytest.fixture
def _impatient(monkeypatch):
    monkeypatch.setattr(plain_http, "DEADLINE", 0.1)


@pytest.mark.usefixtures("_impatient")
def test_a_slow_one_is_hung_up_on():
    assert told(b"GET / HTT") == b""
