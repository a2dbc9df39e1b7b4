"""The web pages of a proxy behind a real port, with an auth that only exists here."""

import asyncio
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from teleport_lite.config.model import Channel
from teleport_lite.errors import Error, NotFound
from teleport_lite.net.port import Arrival, Port
from teleport_lite.net.tls import stranger_context, web_context
from teleport_lite.proto.codec import Message
from teleport_lite.proto.login import InviteAccept, InviteLook
from teleport_lite.proto.script import TokenLook
from teleport_lite.proxy.downloads import Downloads, Limits
from teleport_lite.proxy.find import Facts
from teleport_lite.proxy.invite_page import InvitePage
from teleport_lite.proxy.releases import Releases, Shelf
from teleport_lite.proxy.scripts import Scripts
from teleport_lite.proxy.throttle import Throttle
from teleport_lite.proxy.web import WebPages
from teleport_lite.proxy.web_door import WebDoor, WebLimits
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeClock
from tests.net.serving import LOOPS

TOKEN = "0123456789abcdef0123456789abcdef"
PASSWORD = "correct horse battery"
JOIN = "fedcba98-join_token.1"
PIN = f"sha256:{'ab' * 32}"
FACTS = Facts(
    cluster="test.example",
    version="1.2.3",
    public=("proxy.example.com:443",),
    web_listen="0.0.0.0:3080",
    ssh_listen="0.0.0.0:3023",
    tunnel_listen="0.0.0.0:3024",
    ca_pins=("sha256:aa",),
    published="proxy.example.com:443",
    channels={"stable/cloud": Channel(version="v1.3.0", critical=True)},
)


class PaperAuth:
    """One invitation, of alice, and one join token. `refuses` is raised by the next `accept`."""

    def __init__(self) -> None:
        self.asked: list[Message] = []
        self.refuses: Error | None = None
        self.down: Error | None = None
        self.bug: Exception | None = None
        self.kind = "invite"
        self.password = ""
        self.labels: dict[str, str] = {"env": "prod"}  # of JOIN

    async def ask(self, path: str, message: Message) -> Any:
        self.asked.append(message)
        if self.down is not None or self.bug is not None:
            raise self.down or self.bug
        if isinstance(message, TokenLook):
            assert path == "/v1/tokens/look"
            if message.token != JOIN:
                raise NotFound("this token has expired, was revoked or never was one")
            return {"cluster": "test.example", "ca_pins": [PIN], "labels": self.labels}
        assert isinstance(message, InviteLook | InviteAccept)
        if message.token != TOKEN or self.password:
            raise NotFound("this link was used, has expired or never existed")
        if isinstance(message, InviteLook):
            assert path == "/v1/invite/look"
            return {
                "user": "alice",
                "cluster": "test.example",
                "kind": self.kind,
                "expires": "2026-03-02T13:00:00Z",
                "min_length": 12,
            }
        assert path == "/v1/invite/accept"
        if self.refuses is not None:
            raise self.refuses
        self.password = message.password
        return {"user": "alice"}


class WebServing:
    """A context manager: inside, `ask` asks."""

    def __init__(
        self,
        *,
        loop: str = "uvloop",
        limits: WebLimits | None = None,
        trusted: bool = False,
        releases: Path = Path("/nonexistent"),
        downloads: Limits | None = None,
    ) -> None:
        self._loop = LOOPS[loop]()
        self._thread = threading.Thread(target=self._loop.run_forever, name="web", daemon=True)
        self.auth, self.clock, self.trusted = PaperAuth(), FakeClock(), trusted
        throttle = Throttle(self.clock)
        self.downloads = Downloads(Releases(Shelf(releases)), downloads)
        self.downloads.look()
        self.facts = replace(FACTS, releases=self.downloads.known)
        self.pages = WebPages(
            facts=lambda: self.facts,
            invites=InvitePage(self.auth, throttle, proxy=lambda: FACTS.proxy),
            scripts=Scripts(self.auth, throttle, facts=lambda: self.facts),
            downloads=self.downloads,
            source=lambda request: self.door.source_of(request),
            trusted=lambda: self.trusted,
            trace=lambda: "trace-1",
        )
        self.door = WebDoor(self.pages.application(), limits)
        papers = PaperCluster().host("proxy-1", extra=("localhost",), dns_names=("localhost",))
        self._context = web_context(papers.tls_cert, papers.tls_private)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait(self._start())
        return self

    async def _start(self) -> None:
        async def route(arrival: Arrival) -> None:
            await self.door.serve(arrival.socket, arrival.peer[0], self._context)

        await self.door.start()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._port = Port(route=route)
        self._port.listen(listener)

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def call(self, work: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return work()

        return self.wait(run())

    def __exit__(self, *_: object) -> None:
        self.wait(self._port.close())
        self.wait(self.door.close())
        self.downloads.close()
        self.wait(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each costs 40 ms
        return stranger_context().wrap_socket(plain, server_hostname="localhost")

    def ask(
        self, method: str, path: str, body: str | bytes | None = None, **headers: str
    ) -> "Answer":
        """One request over a connection of its own. `Sec_Fetch_Site` is a header too."""
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        wire.sock = self.connect()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            named.setdefault("Content-Type", "application/x-www-form-urlencoded")
        wire.request(method, path, body=body, headers=named)
        answer = wire.getresponse()
        text = answer.read().decode()
        wire.close()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)


class Answer:
    def __init__(self, status: int, headers: dict[str, str], text: str) -> None:
        self.status, self.headers, self.text = status, headers, text
