"""From a TCP connection to the web application: TLS, limits on who holds it, and who it is from."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from teleport_lite.net.tls import Context

log = logging.getLogger("teleport_lite.proxy.web")


UNREADABLE = "# this request can not be read\nexit 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """Seconds and counts."""

    handshake: float = 10.0
    first_request: float = 15.0
    idle: float = 60.0  # between two requests
    linger: float = 2.0
    connections: int = 2048
    per_source: int = 512  # a balancer that does not say who comes is one source


@dataclass(slots=True, eq=False)
class _Visit:
    source: str
    wire: socket.socket
    transport: Any = None  # asyncio's, or uvloop's which is no subclass
    asked: bool = False
    timer: asyncio.TimerHandle | None = None  # until its first request


class _Talk(RequestHandler):
    """aiohttp's, but that no byte of a request which it can not read gets into its answer: people
    pipe into a shell what comes from here."""

    __slots__ = ("_ended", "visit")

    def __init__(
        self,
        server: web.Server,
        visit: _Visit,
        ended: Callable[[asyncio.BaseProtocol], None],
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self.visit, self._ended = visit, ended

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._ended(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # holds what was asked
    ) -> web.StreamResponse:
        answer = super().handle_error(request, status, exc, UNREADABLE)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if resp.status == 417:  # it would say which Expect it does not know
            resp = web.Response(status=417, text=UNREADABLE)
        return await super().finish_response(request, resp, start_time)


class WebDoor:
    """Serves connections that somebody else has accepted. `start` comes first."""

    def __init__(self, app: web.Application, limits: WebLimits | None = None) -> None:
        self._limits = limits or WebLimits()
        # Oldest first. Of those that have ended nothing is kept: one comes to 55 KiB.
        self._visits: dict[asyncio.BaseProtocol, _Visit] = {}
        self._runner = web.AppRunner(
            app, handle_signals=False, shutdown_timeout=self._limits.linger
        )
        self._options: dict[str, Any] = {
            "access_log": None,  # a path may hold the token of an invitation
            "keepalive_timeout": self._limits.idle,
            "lingering_time": self._limits.linger,
            "logger": _log_of_aiohttp(),
            "auto_decompress": False,
            "max_line_size": 4096,
            "max_field_size": 8190,
        }

    async def start(self) -> None:
        await self._runner.setup()

    def __len__(self) -> int:
        """Open connections. From any thread."""
        return len(self._visits)

    def source_of(self, request: web.BaseRequest) -> str:
        """The address a request comes from; a balancer's own only if it does not tell."""
        talk = request.protocol
        if not isinstance(talk, _Talk):
            return ""
        talk.visit.asked = True
        return talk.visit.source

    async def serve(self, wire: socket.socket, source: str, context: Context) -> None:
        """Returns when the TLS handshake is over, well or not. Owns `wire`."""
        assert self._runner.server is not None
        self._make_room(source)
        loop = asyncio.get_running_loop()
        visit = _Visit(source, wire)
        protocol = _Talk(self._runner.server, visit, self._forget, loop=loop, **self._options)
        self._visits[protocol] = visit
        try:
            visit.transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                wire,
                ssl=context,
                ssl_handshake_timeout=self._limits.handshake,
                ssl_shutdown_timeout=self._limits.linger,
            )
        except OSError as why:  # also ssl.SSLError and TimeoutError
            log.debug("TLS handshake with %s failed: %s", source, why)
        finally:
            if visit.transport is None:
                wire.close()
                self._forget(protocol)
        if protocol not in self._visits:  # had to make way meanwhile, or has ended
            _drop(visit)
        elif visit.transport is not None:
            wait = self._limits.first_request
            visit.timer = loop.call_later(wait, self._shed, protocol, visit)

    async def close(self) -> None:
        """Let answers finish for a moment; then everything is cut."""
        await self._runner.cleanup()
        for visit in list(self._visits.values()):
            _drop(visit)
        self._visits.clear()

    def _make_room(self, source: str) -> None:
        """The oldest makes way: of the same source if it has too many, else of all."""
        limits = self._limits
        if len(self._visits) < min(limits.connections, limits.per_source):
            return
        same = [p for p, visit in self._visits.items() if visit.source == source]
        if len(same) >= limits.per_source:
            _drop(self._visits.pop(same[0]))
        elif len(self._visits) >= limits.connections:
            _drop(self._visits.pop(next(iter(self._visits))))

    def _forget(self, protocol: asyncio.BaseProtocol) -> None:
        visit = self._visits.pop(protocol, None)
        if visit is not None and visit.timer is not None:
            visit.timer.cancel()

    def _shed(self, protocol: asyncio.BaseProtocol, visit: _Visit) -> None:
        """Slow headers, or none."""
        if not visit.asked and self._visits.pop(protocol, None) is not None:
            _drop(visit)


async def shake_hands(wire: socket.socket, context: Context, *, timeout: float = 10.0) -> None:
    """TLS, and then goodbye. Owns `wire`; never raises."""
    transport = None
    try:
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            asyncio.Protocol, wire, ssl=context, ssl_handshake_timeout=timeout
        )
    except OSError as why:
        log.debug("TLS handshake failed: %s", why)
    finally:
        if transport is None:
            wire.close()
        else:
            transport.close()


def _drop(visit: _Visit) -> None:
    if visit.transport is None:
        # The handshake hears of it and ends; the socket is still its own to close.
        with suppress(OSError):
            visit.wire.shutdown(socket.SHUT_RDWR)
    else:
        # Python 3.11.2 (Debian 12): the transport of a TLS connection that has ended raises it.
        with suppress(AttributeError):
            visit.transport.abort()


def _log_of_aiohttp() -> logging.Logger:
    """Without a traceback for everybody who says something that is not HTTP."""
    logger = logging.getLogger("teleport_lite.proxy.http")
    logger.addFilter(_is_about_us)
    return logger


def _is_about_us(record: logging.LogRecord) -> bool:
    """UnicodeEncodeError: aiohttp repeats an Expect that it does not know, and can not if that is
    no text."""
    strange = (HttpProcessingError, UnicodeEncodeError)
    return not (record.exc_info and isinstance(record.exc_info[1], strange))
