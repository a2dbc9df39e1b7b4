"""The API server: one aiohttp application behind the connections that `accept.py` lets in.

Answers are computed by plain calls in a pool of threads.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from aiohttp import WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError

from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.net.accept import Doorway, Limits, Peer, Shown
from teleport_lite.net.head import Attested
from teleport_lite.net.problems import problem
from teleport_lite.proto.codec import MAX_ADMIN, MAX_FRAME, Message, write

log = logging.getLogger("teleport_lite.api")

# Joins wait for an fsync together; more threads than this only share the same commit.
THREADS = 32


class Stream(Protocol):
    def frame(self, raw: bytes) -> None: ...
    def closed(self) -> None: ...


class Application(Protocol):
    """What a role must be able to answer. Called from worker threads, but for `limit`."""

    def limit(self, path: str, peer: Peer) -> int:
        """How many bytes of a body are read at the most. Returns at once."""

    def answer(self, path: str, peer: Peer, raw: bytes) -> Message | dict[str, Any]: ...

    def open_stream(self, peer: Peer, send: Callable[[bytes | None], None]) -> Stream: ...


class ApiServer:
    """Serve an Application. `show` may be replaced at any time; the next accept uses it."""

    def __init__(
        self,
        application: Application,
        *,
        stream_path: str,
        trace: Callable[[], str],
        limits: Limits | None = None,
        attested: Attested | None = None,
    ) -> None:
        """`attested` checks the address a proxy vouches for (pki/attest.py)."""
        self._application, self._trace = application, trace
        self._limits = limits or Limits()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="api")
        self._over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: set[web.WebSocketResponse] = set()
        app = web.Application(client_max_size=MAX_ADMIN)
        app.router.add_get(stream_path, self._stream)
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.on_shutdown.append(self._close_streams)
        app.on_response_prepare.append(_no_versions)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=2,
            keepalive_timeout=self._limits.idle,
            lingering_time=self._limits.linger,
            logger=_log_of_aiohttp(),
            auto_decompress=False,  # nobody we know compresses; a bomb stays a small file
        )
        self._doorway = Doorway(
            self._limits,
            protocol=self._new_protocol,
            open_protocols=self._open_protocols,
            attested=attested,
        )

    @property
    def show(self) -> Shown | None:
        return self._doorway.show

    @show.setter
    def show(self, shown: Shown) -> None:
        self._doorway.show = shown

    async def start(self) -> None:
        await self._runner.setup()

    def listen_tls(self, listener: socket.socket) -> None:
        """Accept on a listening TCP socket, which is ours from now on."""
        self._doorway.listen_tls(listener)

    def listen_unix(self, path: Path) -> None:
        """Raises Unavailable for a path that no socket can have."""
        self._doorway.listen_unix(path)

    def drop_connections(self, unwanted: Callable[[Peer], bool]) -> int:
        """Cut the open connections of some peers, like those of a CA that is trusted no more."""
        return self._doorway.drop(unwanted)

    def connections(self) -> int:
        return len(self._doorway)

    def relayed(self) -> int:
        """Connections so far for which a proxy of this cluster vouched."""
        return self._doorway.relayed

    def unattested(self) -> int:
        """Connections so far that were closed for a PROXY header nobody vouched for."""
        return self._doorway.unattested

    async def close(self) -> None:
        """Stop accepting, end streams, let answers finish for two seconds."""
        await self._doorway.stop_accepting()
        await self._runner.cleanup()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._doorway.drop_all()
        self._over = True  # who waited for an answer that took long may have more to ask
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _new_protocol(self) -> asyncio.Protocol:
        assert self._runner.server is not None
        return self._runner.server()

    def _open_protocols(self) -> Collection[asyncio.BaseProtocol]:
        assert self._runner.server is not None
        return self._runner.server.connections

    # --- requests

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            peer = self._peer(request)
            async with asyncio.timeout(self._limits.body):
                raw = await _body(request, self._application.limit(request.path, peer))
            answer = await self._call(
                lambda: write(self._application.answer(request.path, peer, raw))
            )
            return web.Response(body=answer, content_type="application/json")
        except Exception as why:
            return self._problem(why)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        outgoing = _Outgoing(self._limits.queue, lambda: self._cut(request))
        try:
            peer = self._peer(request)
            socket_ = web.WebSocketResponse(
                max_msg_size=MAX_FRAME, heartbeat=20, compress=False, timeout=self._limits.linger
            )
            if not socket_.can_prepare(request):
                raise Malformed("this path takes a WebSocket")
            stream = await self._call(lambda: self._application.open_stream(peer, outgoing.send))
            await socket_.prepare(request)
        except Exception as why:
            return self._problem(why)
        self._streams.add(socket_)
        writer = self._spawn(outgoing.drain(socket_), "stream-writer")
        try:
            await self._listen(socket_, stream)
        except Exception as why:
            self._problem(why)  # for the log; the stream just ends
        finally:
            self._streams.discard(socket_)
            writer.cancel()
            with suppress(Unavailable):  # whom it would be told to has ended
                await self._call(stream.closed)
        return socket_

    async def _listen(self, socket_: web.WebSocketResponse, stream: Stream) -> None:
        async for message in socket_:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            data = message.data
            raw = data.encode() if isinstance(data, str) else data
            await self._call(lambda raw=raw: stream.frame(raw))  # type: ignore[misc]  # mypy can not infer a lambda with a default

    def _cut(self, request: web.Request) -> None:
        link = self._doorway.link(request.protocol)
        if link is not None:
            link.drop()

    def _peer(self, request: web.Request) -> Peer:
        link = self._doorway.link(request.protocol)
        if link is None or request.transport is None:
            raise Malformed("the connection is gone")
        # The first request may be here before the end of the handshake is told to us.
        link.transport, link.asked = request.transport, True
        return link.peer()

    def _problem(self, why: Exception) -> web.Response:
        trace = self._trace()
        if isinstance(why, web.HTTPException):
            why = Malformed(f"{why.reason.lower()}")
        if isinstance(why, TimeoutError):
            why = Malformed("the request did not arrive in time")
        if not isinstance(why, Error):
            log.error("internal error, trace %s", trace, exc_info=why)
        status, body = problem(why, trace)
        headers = {"Retry-After": "10"} if status == 503 else {}
        return web.json_response(body, status=status, headers=headers)

    async def _call(self, work: Callable[[], Any]) -> Any:
        if self._over:
            raise Unavailable("this server is shutting down")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _close_streams(self, _: web.Application) -> None:
        goodbyes = [
            each.close(code=1001, message=b"auth is shutting down") for each in list(self._streams)
        ]
        await asyncio.gather(*goodbyes, return_exceptions=True)


async def _body(request: web.Request, limit: int) -> bytes:
    """Raises Malformed as soon as it is clear that it is too much."""
    raw = bytearray()
    too_large = Malformed(f"the body is too large, the most we read here is {limit} bytes")
    if (request.content_length or 0) > limit:
        raise too_large
    async for part in request.content.iter_any():
        raw += part
        if len(raw) > limit:
            raise too_large
    return bytes(raw)


def _log_of_aiohttp() -> logging.Logger:
    """Without a traceback for everybody who says something that is not HTTP."""
    logger = logging.getLogger("teleport_lite.api.http")
    logger.addFilter(_is_about_us)
    return logger


def _is_about_us(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


async def _no_versions(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Which library of which version answers is nobody's business."""
    response.headers["Server"] = "teleport-lite"


class _Outgoing:
    """Frames on their way to one stream. More than `size` that wait are too many."""

    def __init__(self, size: int, overflow: Callable[[], None]) -> None:
        self._loop, self._overflow = asyncio.get_running_loop(), overflow
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(size)

    def send(self, frame: bytes | None) -> None:
        """From any thread; returns at once. None ends the stream."""
        with suppress(RuntimeError):  # the loop is closing, and the stream with it
            self._loop.call_soon_threadsafe(self._put, frame)

    def _put(self, frame: bytes | None) -> None:
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self._overflow()

    async def drain(self, stream: web.WebSocketResponse) -> None:
        with suppress(ConnectionError):
            while (frame := await self._queue.get()) is not None:
                await stream.send_str(frame.decode())
            await stream.close()
