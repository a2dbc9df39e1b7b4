"""Accepting connections: TLS on a TCP port, plain on a unix socket, under limits.

The port is ours: connections are accepted here and handed to a protocol with a TLS context
chosen per accept, so that a renewed certificate or a rotated CA is used by the next connection
while the open ones go on.
"""

import asyncio
import logging
import os
import socket
import ssl
import struct
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from teleport_lite.errors import Error, Unavailable
from teleport_lite.net.head import Attested, Seldom, check_attested, from_root, take_header

log = logging.getLogger("teleport_lite.api")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds and counts. Slow first bytes are how a port is starved."""

    handshake: float = 10.0
    first_request: float = 15.0
    body: float = 20.0
    idle: float = 75.0  # between two requests
    linger: float = 2.0  # for reading past a body that was refused, so that the answer arrives
    connections: int = 8192
    queue: int = 64  # frames; a stream that lets more queue up is not reading them


@dataclass(frozen=True, slots=True)
class Peer:
    """What the connection itself says about the other side."""

    address: str  # IP address, or "local" on the unix socket
    certificate: bytes | None  # DER, verified by the TLS context; None if none was shown
    uid: int | None  # of the process on the unix socket (SO_PEERCRED)
    our_certificate: bytes  # DER of the certificate we showed
    root: str = ""  # the cluster from whose proxies this came, down a tunnel of a proxy of ours


@dataclass(frozen=True, slots=True)
class Shown:
    """A TLS context together with the certificate in it."""

    context: ssl.SSLContext
    certificate: bytes


@dataclass(slots=True, eq=False)
class Link:
    """One connection, from the accept on."""

    address: str
    uid: int | None = None
    our_certificate: bytes = b""
    root: str = ""
    transport: Any = (
        None  # asyncio's, or uvloop's which is no subclass; None until the TLS handshake is over
    )
    task: asyncio.Task[None] | None = None
    asked: bool = False

    def peer(self) -> Peer:
        tls = self.transport.get_extra_info("ssl_object") if self.transport else None
        shown = tls.getpeercert(binary_form=True) if tls else None
        return Peer(self.address, shown, self.uid, self.our_certificate, self.root)

    def drop(self) -> None:
        """At once: a polite close waits for the other side, and that one has no reason to hurry."""
        if self.transport is not None:
            # Python 3.11.2 (Debian 12): the transport of a TLS connection that has ended raises it.
            with suppress(AttributeError):
                self.transport.abort()
        elif self.task is not None:
            self.task.cancel()


class Doorway:
    """Lets connections in. `show` may be replaced at any time; the next accept uses it."""

    def __init__(
        self,
        limits: Limits,
        *,
        protocol: Callable[[], asyncio.Protocol],
        open_protocols: Callable[[], Collection[asyncio.BaseProtocol]],
        attested: Attested | None = None,
    ) -> None:
        """`protocol` makes what serves one connection, `open_protocols` says which still do.

        `attested` checks the address that a proxy of ours vouches for, in a PROXY header before
        TLS. Any other header ends the connection.
        """
        self._limits, self._protocol, self._open_protocols = limits, protocol, open_protocols
        self._attested, self._seldom = attested, Seldom(log)
        self.relayed = self.unattested = 0  # connections with a header: believed, and not
        self._links: dict[asyncio.BaseProtocol, Link] = {}  # oldest first
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.show: Shown | None = None

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
            listener.close()
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

    def link(self, protocol: asyncio.BaseProtocol) -> Link | None:
        return self._links.get(protocol)

    def __len__(self) -> int:
        """Connections known; some may be over already."""
        return len(self._links)

    def drop(self, unwanted: Callable[[Peer], bool]) -> int:
        """Cut the open connections of some peers, like those of a CA that is trusted no more."""
        found = [link for link in self._links.values() if link.transport and unwanted(link.peer())]
        for link in found:
            link.drop()
        return len(found)

    async def stop_accepting(self) -> None:
        """And give up handshakes that are under way."""
        for task in list(self._tasks):
            task.cancel()
        for listener in self._sockets:
            listener.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drop_all(self) -> None:
        for link in self._links.values():  # uvloop's close() waits for what is open, for ever
            link.drop()
        for _ in range(5):  # what is told of it, and what is cancelled by that
            await asyncio.sleep(0)

    async def _accept(
        self,
        listener: socket.socket,
        serve: Callable[[socket.socket, asyncio.Protocol, Link], Coroutine[Any, Any, None]],
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
            wire.setblocking(False)
            name = address[0] if isinstance(address, tuple) else "local"
            if not self._make_room():
                wire.close()
                continue
            protocol = self._protocol()
            link = self._links[protocol] = Link(name)
            link.task = self._spawn(serve(wire, protocol, link), f"connection {name}")
            link.task.add_done_callback(partial(_close, wire, link))

    def _make_room(self) -> bool:
        """False if there are as many connections as there may be, and all of them in use.

        One that has not asked anything yet makes way, the oldest first: a host that joins needs
        milliseconds, who only holds the door waits for long.
        """
        protocols = self._open_protocols()
        if len(self._links) >= min(self._limits.connections, 2 * len(protocols) + 64):
            # Not with each accept: it has to look at every connection there is.
            open_ = set(protocols)
            kept = [p for p, link in self._links.items() if link.transport is None or p in open_]
            self._links = {protocol: self._links[protocol] for protocol in kept}
        if len(self._links) < self._limits.connections:
            return True
        idle = next((each for each in self._links.items() if not each[1].asked), None)
        if idle is None:
            return False
        del self._links[idle[0]]
        idle[1].drop()
        return True

    async def _serve_tls(self, wire: socket.socket, protocol: asyncio.Protocol, link: Link) -> None:
        shown, loop = self.show, asyncio.get_running_loop()
        try:
            if shown is None:
                raise OSError("there is no certificate to show yet")
            link.our_certificate = shown.certificate
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            until = loop.time() + self._limits.handshake
            await self._learn_address(wire, link)
            link.transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                wire,
                ssl=shown.context,
                ssl_handshake_timeout=max(until - loop.time(), 0.1),
                ssl_shutdown_timeout=self._limits.linger,
            )
        except (OSError, ssl.SSLError, TimeoutError, Error) as why:
            log.debug("TLS handshake with %s failed: %s", link.address, why)
        finally:
            if link.transport is None:
                self._links.pop(protocol, None)
        self._expect_a_request(protocol, link)

    async def _learn_address(self, wire: socket.socket, link: Link) -> None:
        """Who is behind the proxy, if one relays this. Raises Error, OSError."""
        async with asyncio.timeout(self._limits.handshake):
            header = await take_header(wire)
        if header is None:
            return
        try:
            (link.address, _), _ = check_attested(header, self._attested)
            link.root = from_root(header)
        except Error as why:
            self.unattested += 1
            self._seldom.warning(
                "header", "connection from %s closed: %s", link.address, why.log or why.message
            )
            raise
        self.relayed += 1

    async def _serve_unix(
        self, wire: socket.socket, protocol: asyncio.Protocol, link: Link
    ) -> None:
        size = struct.calcsize("3i")
        credentials = wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _, link.uid, _ = struct.unpack("3i", credentials)
        link.transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol, wire
        )
        self._expect_a_request(protocol, link)

    def _expect_a_request(self, protocol: asyncio.BaseProtocol, link: Link) -> None:
        def shed() -> None:
            """Slow headers, or none."""
            if not link.asked:
                self._links.pop(protocol, None)
                link.drop()

        if link.transport is not None:
            asyncio.get_running_loop().call_later(self._limits.first_request, shed)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _close(wire: socket.socket, link: Link, _: asyncio.Task[None]) -> None:
    """What nobody serves. A task that is cancelled before it began could not do it by itself."""
    if link.transport is None:
        wire.close()
