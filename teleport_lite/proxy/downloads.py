"""Releases over HTTP: /webapi/releases. A few at a time, so that a thousand agents which all want
the new version take neither the event loop nor the line from the sessions of people.

The certificate is ours, so bytes are encrypted here and the kernel's sendfile is of no use. Reading
is done in threads of their own, a chunk at a time, and the next one when the last has gone.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

from teleport_lite.errors import Unavailable
from teleport_lite.model.source import source_of
from teleport_lite.proxy.releases import Opened, Releases

CHUNK = 64 * 1024
# Lists of digests and signatures: sent at once, and not counted.
SMALL = 64 * 1024
# Reading is from the page cache nearly always; a disk that hangs shall hold up nobody else.
THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    at_once: int = 32
    per_source: int = 8  # of a NAT, or a balancer that does not say who comes
    stall: float = 30.0  # seconds in which a chunk has to go
    least: float = 16 * 1024  # bytes a second on the whole: who is slower keeps others waiting


class Downloads:
    """What was there when somebody looked last is `known`, without waiting."""

    def __init__(self, releases: Releases, limits: Limits | None = None) -> None:
        self._releases, self._limits = releases, limits or Limits()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="releases")
        self._busy: Counter[str] = Counter()  # by source
        self.known: tuple[str, ...] = ()

    @property
    def under_way(self) -> int:
        return self._busy.total()

    def look(self) -> None:
        """Which versions are there, by now? Waits for the disk."""
        self.known = tuple(self._releases.versions())

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def send(
        self,
        request: web.Request,
        version: str,
        name: str,
        source: str,
        *,
        begins: Callable[[], object] = lambda: None,
    ) -> web.StreamResponse:
        """Raises NotFound; Unavailable when too many are under way.

        `begins` is called before what may take long, and has limits of its own.
        """
        with await self._open(version, name) as opened:
            answer = web.StreamResponse(headers=_headers(opened, name))
            if request.headers.get("If-None-Match") == answer.headers["ETag"]:
                return web.Response(status=304, headers={"ETag": answer.headers["ETag"]})
            answer.content_length = opened.size
            if request.method == "HEAD":
                await answer.prepare(request)
                return answer
            if opened.size <= SMALL:
                body = await opened.read(SMALL)
                return web.Response(body=body, headers=_headers(opened, name))
            with self._turn(source_of(source)):
                begins()
                await self._stream(request, answer, opened)
            return answer

    async def _stream(
        self, request: web.Request, answer: web.StreamResponse, opened: "_Reading"
    ) -> None:
        """Once the head has gone nothing else can be said: what can not be sent whole is cut."""
        left, limits = opened.size, self._limits
        try:
            async with asyncio.timeout(limits.stall + left / limits.least):
                await answer.prepare(request)
                while left:
                    chunk = await opened.read(min(CHUNK, left))
                    if not chunk:
                        raise TimeoutError  # it has become shorter
                    async with asyncio.timeout(limits.stall):
                        await answer.write(chunk)
                    left -= len(chunk)
                await answer.write_eof()
        except (TimeoutError, OSError):  # ConnectionError is one
            pass
        finally:
            if left and request.transport is not None:
                # Python 3.11.2 (Debian 12): the transport of an ended TLS connection raises it.
                with suppress(AttributeError):
                    request.transport.abort()

    @contextmanager
    def _turn(self, source: str) -> Iterator[None]:
        if (
            self._busy.total() >= self._limits.at_once
            or self._busy[source] >= self._limits.per_source
        ):
            raise Unavailable("too many are downloading from here just now")
        self._busy[source] += 1
        try:
            yield
        finally:
            self._busy[source] -= 1
            if not self._busy[source]:
                del self._busy[source]

    async def _open(self, version: str, name: str) -> "_Reading":
        work = self._pool.submit(self._releases.open, version, name)
        try:
            return _Reading(await asyncio.wrap_future(work), self._pool)
        except asyncio.CancelledError:
            work.add_done_callback(_close_again)
            raise


class _Reading:
    """A file that threads read, a piece at a time. A thread can not be stopped: it is closed when
    the last one is through, else that could read from what is given the same descriptor next."""

    def __init__(self, opened: Opened, pool: ThreadPoolExecutor) -> None:
        self._file, self._pool = opened.file, pool
        self.size, self.digest = opened.size, opened.digest
        self._last: Future[bytes | None] | None = None

    async def read(self, most: int) -> bytes | None:
        self._last = self._pool.submit(self._file.read, most)
        return await asyncio.wrap_future(self._last)

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is None:
            self._file.close()
        else:
            self._last.add_done_callback(lambda _: self._file.close())


def _close_again(work: Future[Opened]) -> None:
    """Nobody waits for it any more."""
    if not work.cancelled() and work.exception() is None:
        work.result().file.close()


def _headers(opened: _Reading, name: str) -> dict[str, str]:
    kind = "text/plain"
    if name.endswith(".pyz"):
        kind = "application/octet-stream"
    elif name.endswith(".json"):
        kind = "application/vnd.cyclonedx+json"
    # Caches may keep it, and ask whether it is still this.
    return {"Content-Type": kind, "ETag": f'"{opened.digest}"', "Cache-Control": "no-cache"}
