"""The web port of a proxy, behind its TLS: requests as bytes, to the pages that people get."""

import asyncio
import logging
from functools import cache
from typing import Any

from aiohttp import web

from teleport_lite.errors import Error
from teleport_lite.proxy.downloads import Downloads
from teleport_lite.proxy.invite_page import InvitePage
from teleport_lite.proxy.releases import Releases
from teleport_lite.proxy.scripts import Scripts
from teleport_lite.proxy.throttle import Throttle
from teleport_lite.proxy.web import WebPages
from teleport_lite.proxy.web_door import _is_about_us
from teleport_lite.testing.fakes import FakeClock
from tests.fuzz.target import Finding, any_of, target
from tests.proxy.webrig import FACTS, JOIN, PASSWORD, TOKEN, PaperAuth

_FORM = f"password={PASSWORD.replace(' ', '+')}&again={PASSWORD.replace(' ', '+')}".encode()


def _request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    length = [b"Content-Length: %d" % len(body)] if body else []
    return b"\r\n".join([line, b"Host: proxy.example.com", *fields, *length, b"", body])


REQUESTS = [
    _request(b"GET /webapi/ping HTTP/1.1"),
    _request(b"GET /webapi/ping/github HTTP/1.1"),
    _request(b"GET /v1/webapi/find HTTP/1.1", b"Connection: close"),
    _request(b"GET /webapi/automaticupgrades/channel/stable/cloud/version HTTP/1.1"),
    _request(b"GET /webapi/releases/1.2.3/SHA256SUMS HTTP/1.1", b'If-None-Match: "x"'),
    _request(b"GET /install-v1.2.3.sh HTTP/1.1"),
    _request(f"GET /scripts/{JOIN}/install-node.sh HTTP/1.1".encode()),
    _request(b"GET / HTTP/1.0"),
    _request(b"HEAD /web/style.css HTTP/1.1"),
    _request(f"GET /web/invite/{TOKEN} HTTP/1.1".encode()),
    _request(
        f"POST /web/invite/{TOKEN} HTTP/1.1".encode(),
        b"Content-Type: application/x-www-form-urlencoded",
        b"Sec-Fetch-Site: same-origin",
        body=_FORM,
    ),
    _request(b"POST /web/reset/x HTTP/1.1", b"Origin: null", b"Expect: 100-continue", body=_FORM),
    _request(b"POST /webapi/host/credentials HTTP/1.1", b"Transfer-Encoding: chunked")
    + b"2\r\n{}\r\n0\r\n\r\n",
]


@cache
def _downloads() -> Downloads:
    """Of nothing; it keeps threads."""
    return Downloads(Releases())


class _Pages(WebPages):
    """Remembers what nobody meant to happen."""

    bugs: list[Exception]

    def _problem(self, request: web.Request, why: Exception) -> web.Response:
        if not isinstance(why, Error | web.HTTPException | TimeoutError):
            self.bugs.append(why)
        return super()._problem(request, why)


class _Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 4000) if name == "peername" else default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


class _Log(logging.Logger):
    """Aiohttp's, with the filter that the door has. What passes it would be in the log."""

    def __init__(self) -> None:
        super().__init__("fuzz")
        self.records: list[logging.LogRecord] = []
        self.addFilter(_is_about_us)

    def handle(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and self.filter(record):
            self.records.append(record)


def seeds() -> list[bytes]:
    _loop()
    return [*REQUESTS, b"".join(REQUESTS)]


@target(raises=(), seeds=seeds, parts=lambda: any_of(REQUESTS), most=16384)
def web_requests(data: bytes) -> None:
    """Nothing that strangers say is an internal error, or a traceback in the log."""
    _loop().run_until_complete(_serve(data))


async def _serve(data: bytes) -> None:
    auth, throttle = PaperAuth(), Throttle(FakeClock())
    pages = _Pages(
        facts=lambda: FACTS,
        invites=InvitePage(auth, throttle, proxy=lambda: FACTS.proxy),
        scripts=Scripts(auth, throttle, facts=lambda: FACTS),
        downloads=_downloads(),
        source=lambda _request: "192.0.2.7",
        trusted=lambda: True,
        trace=lambda: "trace-1",
    )
    pages.bugs = []
    log = _Log()
    runner = web.AppRunner(
        pages.application(),
        access_log=None,
        handle_signals=False,
        logger=log,
        auto_decompress=False,
        max_line_size=4096,
        max_field_size=8190,
    )
    await runner.setup()
    assert runner.server is not None
    protocol, wire = runner.server(), _Wire()
    protocol.connection_made(wire)
    for at in range(0, len(data), 4096):
        if not wire.closed:
            protocol.data_received(data[at : at + 4096])
            await _breathe()
    protocol.eof_received()
    await _breathe()
    protocol.connection_lost(None)
    await _breathe()
    await runner.cleanup()
    await _breathe()
    if pages.bugs:
        raise pages.bugs[0]
    for record in log.records:
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            raise record.exc_info[1]
        raise Finding(record.getMessage())


async def _breathe() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
