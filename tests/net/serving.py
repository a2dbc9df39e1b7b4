"""An API server of ours in a thread, and what a test may want to know about it."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from teleport_lite.net.accept import Limits, Shown
from teleport_lite.net.head import Attested
from teleport_lite.net.https import ApiServer, Application
from teleport_lite.net.tls import client_context, server_context
from teleport_lite.proto.join import AUTH_SERVER_NAME
from teleport_lite.testing.certs import PaperCluster, Papers

T = TypeVar("T")
STREAM = "/stream"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def auth_papers(cluster: PaperCluster) -> Papers:
    return cluster.host("auth-1", roles=("Auth",), dns_names=(AUTH_SERVER_NAME,))


def shown(cluster: PaperCluster, papers: Papers | None = None) -> Shown:
    papers = papers or auth_papers(cluster)
    trusted = [*cluster.host_cas, *cluster.user_cas]
    context = server_context(papers.tls_cert, papers.tls_private, trusted)
    return Shown(context, papers.tls_der)


def trusting(cluster: PaperCluster, papers: Papers | None = None) -> ssl.SSLContext:
    """The context of a client, with a certificate if it has papers."""
    if papers is None:
        return client_context(None, None, cluster.host_cas)
    return client_context(papers.tls_cert, papers.tls_private, cluster.host_cas)


class Serving:
    """A context manager: inside, `address` answers."""

    def __init__(
        self,
        application: Application,
        show: Shown,
        *,
        limits: Limits | None = None,
        loop: str = "uvloop",
        stream_path: str = STREAM,
        attested: Attested | None = None,
    ) -> None:
        self._loop = LOOPS[loop]()
        self._application, self._limits = application, limits
        self._stream_path, self._show, self._attested = stream_path, show, attested
        self._thread = threading.Thread(target=self._loop.run_forever, name="serving", daemon=True)
        self.address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait(self._start())
        return self

    async def _start(self) -> None:
        self.server = ApiServer(
            self._application,
            stream_path=self._stream_path,
            trace=lambda: "trace-1",
            limits=self._limits,
            attested=self._attested,
        )
        self.server.show = self._show
        await self.server.start()
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.server.listen_tls(listener)

    def wait(self, work: Any) -> Any:
        """Run a coroutine in the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def call(self, work: Callable[[], T]) -> T:
        """Run a function in the server's loop, where its insides may be looked at."""

        async def run() -> T:
            return work()

        return self.wait(run())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wait(self.server.close())
        self.wait(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=60)
        self._loop.close()
