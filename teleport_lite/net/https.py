"""The API server: TLS on a TCP port, plain on a unix socket, one aiohttp application behind both.

The port is ours: connections are accepted here and handed to aiohttp with a TLS context chosen
per accept, so that a renewed certificate or a rotated CA is used by the next connection while
the open ones go on. Answers are computed by plain calls in a pool of threads.
"""

import asyncio
import logging
import os
import socket
import ssl
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.net.problems import problem
from teleport_lite.proto.codec import MAX_ADMIN, MAX_FRAME, Message, write

log = logging.getLogger("teleport_lite.api")

# security.md's table: slow first bytes are how a port is starved.
HANDSHAKE_TIMEOUT = 10.0
FIRST_REQUEST_TIMEOUT = 15.0
BODY_TIMEOUT = 20.0
# Joins wait for an fsync together; more threads than this only share the same commit.
THREADS = 32
MAX_CONNECTIONS = 8192
# A stream that lets this many frames queue up is not reading them.
MAX_QUEUE = 64


@dataclass(frozen=True, slots=True)
class Peer:
    """What the connection itself says about the other side."""

    address: str  # IP address, or "local" on the unix socket
    certificate: bytes | None  # DER, verified by the TLS context; None if none was shown
    uid: int | None  # of the process on the unix socket (SO_PEERCRED)
    our_certificate: bytes  # DER of the certificate we showed


class Stream(Protocol):
    def frame(self, raw: bytes) -> None: ...
    def closed(self) -> None: ...


class Application(Protocol):
    """What a role must be able to answer. Called from worker threads."""

    def answer(self, path: str, peer: Peer, raw: bytes) -> Message | dict[str, Any]: ...

    def open_stream(self, peer: Peer, send: Callable[[bytes | None], None]) -> Stream: ...


@dataclass(frozen=True, slots=True)
class Shown:
    """A TLS context together with the certificate in it."""

    context: ssl.SSLContext
    certificate: bytes


class ApiServer:
    """Serve an Application. `show` may be replaced at any time; the next accept uses it."""

    def __init__(
        self, application: Application, *, stream_path: str, trace: Callable[[], str]
    ) -> None:
        self._application, self._trace = application, trace
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="api")
        self._tasks: set[asyncio.Task[None]] = set()
        self._peers: dict[asyncio.BaseTransport, Peer] = {}
        self._busy: set[asyncio.BaseTransport] = set()
        self._sockets: list[socket.socket] = []
        self._streams: set[web.WebSocketResponse] = set()
        self.show: Shown | None = None
        app = web.Application(client_max_size=MAX_ADMIN)
        app.router.add_get(stream_path, self._stream)
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.on_shutdown.append(self._close_streams)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=2, keepalive_timeout=75
        )

    async def start(self) -> None:
        await self._runner.setup()

    def listen_tls(self, listener: socket.socket) -> None:
        """Accept on a listening TCP socket, which is ours from now on."""
        listener.setblocking(False)
        self._sockets.append(listener)
        self._spawn(self._accept(listener, self._serve_tls), "accept-tls")

    def listen_unix(self, path: Path) -> None:
        """A socket only its owner may connect to; who connects is asked of the kernel as well."""
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            listener.bind(str(path))
        except OSError as why:
            raise Unavailable(
                f"{path}: {why}",
                hint="unix socket paths may have 107 bytes; use a shorter data_dir",
            ) from why
        finally:
            os.umask(old)
        listener.listen(128)
        listener.setblocking(False)
        self._sockets.append(listener)
        self._spawn(self._accept(listener, self._serve_unix), "accept-unix")

    def drop_connections(self, unwanted: Callable[[Peer], bool]) -> int:
        """Cut the open connections of some peers, like those of a CA that is trusted no more."""
        found = [transport for transport, peer in self._peers.items() if unwanted(peer)]
        for transport in found:
            transport.close()
        return len(found)

    async def close(self) -> None:
        """Stop accepting, end streams, let answers finish for two seconds."""
        for task in list(self._tasks):
            task.cancel()
        for listener in self._sockets:
            listener.close()
        await self._runner.cleanup()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- connections

    async def _accept(
        self, listener: socket.socket, serve: Callable[[socket.socket, str], Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        complained = 0.0
        while True:
            try:
                wire, address = await loop.sock_accept(listener)
            except OSError as why:  # out of descriptors: pause instead of spinning
                if loop.time() - complained > 1:
                    log.warning("can not accept connections: %s", why)
                    complained = loop.time()
                await asyncio.sleep(0.1)
                continue
            if len(self._peers) >= MAX_CONNECTIONS:
                wire.close()
                continue
            wire.setblocking(False)
            name = address[0] if isinstance(address, tuple) else "local"
            self._spawn(serve(wire, name), f"connection {name}")

    async def _serve_tls(self, wire: socket.socket, address: str) -> None:
        shown, loop = self.show, asyncio.get_running_loop()
        if shown is None:
            wire.close()
            return
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            transport, _ = await loop.connect_accepted_socket(
                self._runner_server,
                wire,
                ssl=shown.context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )
        except (OSError, ssl.SSLError, TimeoutError) as why:
            log.debug("TLS handshake with %s failed: %s", address, why)
            wire.close()
            return
        tls = transport.get_extra_info("ssl_object")
        peer = Peer(address, tls.getpeercert(binary_form=True), None, shown.certificate)
        self._keep(transport, peer)

    async def _serve_unix(self, wire: socket.socket, address: str) -> None:
        size = struct.calcsize("3i")
        _, uid, _ = struct.unpack(
            "3i", wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            self._runner_server, wire
        )
        self._keep(transport, Peer(address, None, uid, b""))

    def _runner_server(self) -> asyncio.Protocol:
        assert self._runner.server is not None
        return self._runner.server()

    def _keep(self, transport: asyncio.BaseTransport, peer: Peer) -> None:
        self._peers = {t: p for t, p in self._peers.items() if not t.is_closing()}
        self._peers[transport] = peer
        asyncio.get_running_loop().call_later(FIRST_REQUEST_TIMEOUT, self._shed, transport)

    def _shed(self, transport: asyncio.BaseTransport) -> None:
        """Close a connection that has not asked anything in time (slow headers)."""
        if transport in self._busy:
            return
        self._peers.pop(transport, None)
        transport.close()

    # --- requests

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            peer = self._peer(request)
            async with asyncio.timeout(BODY_TIMEOUT):
                raw = await request.read()
            answer = await self._call(
                lambda: write(self._application.answer(request.path, peer, raw))
            )
            return web.Response(body=answer, content_type="application/json")
        except Exception as why:
            return self._problem(why)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_QUEUE)

        def put(frame: bytes | None) -> None:
            try:
                queue.put_nowait(frame)
            except asyncio.QueueFull:
                transport = request.transport
                if transport is not None:
                    transport.close()

        def send(frame: bytes | None) -> None:
            with suppress(RuntimeError):  # the loop is closing, and the stream with it
                loop.call_soon_threadsafe(put, frame)

        try:
            peer = self._peer(request)
            stream = await self._call(lambda: self._application.open_stream(peer, send))
        except Exception as why:
            return self._problem(why)
        socket_ = web.WebSocketResponse(max_msg_size=MAX_FRAME, heartbeat=20, compress=False)
        await socket_.prepare(request)
        self._streams.add(socket_)
        writer = self._spawn(_drain(queue, socket_), "stream-writer")
        try:
            async for message in socket_:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                data = message.data
                raw = data.encode() if isinstance(data, str) else data
                await self._call(lambda raw=raw: stream.frame(raw))  # type: ignore[misc]  # mypy can not infer a lambda with a default
        finally:
            self._streams.discard(socket_)
            writer.cancel()
            await self._call(stream.closed)
        return socket_

    def _peer(self, request: web.Request) -> Peer:
        transport = request.transport
        if transport is None or transport not in self._peers:
            raise Malformed("the connection is gone")
        self._busy.add(transport)
        self._busy = {t for t in self._busy if not t.is_closing()}
        return self._peers[transport]

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
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _close_streams(self, _: web.Application) -> None:
        for stream in list(self._streams):
            await stream.close(code=1001, message=b"auth is shutting down")


async def _drain(queue: "asyncio.Queue[bytes | None]", stream: web.WebSocketResponse) -> None:
    with suppress(ConnectionError):
        while (frame := await queue.get()) is not None:
            await stream.send_str(frame.decode())
        await stream.close()
