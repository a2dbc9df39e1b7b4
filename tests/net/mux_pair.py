"""Both ends of a tunnel over loopback, without a proxy or an agent around them."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

from teleport_lite.net.mux import MAX_STREAMS, Mux
from teleport_lite.net.mux_heart import Heart, Pace
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.net.mux_tls import TlsEnd
from teleport_lite.net.tunnel_wire import agent_context, proxy_context
from teleport_lite.proto.alpn import proxy_name
from teleport_lite.proto.tunnel import Control, Open, TunnelHello
from teleport_lite.testing.certs import PaperCluster
from tests.net.middlebox import Middlebox, middlebox
from tests.tunnel_rig import Listener, proxy_papers, until

HELLO = Open(service="ssh", client_ip="198.51.100.7", client_port=4242)


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext, str]:
    cluster = PaperCluster()
    proxy, host = proxy_papers(cluster), cluster.host()
    return (
        proxy_context(proxy.tls_cert, proxy.tls_private, cluster.host_cas),
        agent_context(host.tls_cert, host.tls_private, cluster.host_cas),
        proxy_name(proxy.id),
    )


@dataclass
class End:
    """The owner of one end: takes every stream, and remembers."""

    said: list[Control] = field(default_factory=list)
    streams: list[tuple[MuxStream, Listener, Open]] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    greets: bool = True
    takes: bool = True  # sets a protocol on what is opened

    def secured(self, mux: Mux) -> None:
        if self.greets:
            mux.say(Control(hello=TunnelHello(version=1)))

    def told(self, mux: Mux, word: Control) -> None:
        self.said.append(word)

    def opened(self, mux: Mux, stream: MuxStream, hello: Open) -> None:
        listener = Listener()
        self.streams.append((stream, listener, hello))
        if self.takes:
            stream.set_protocol(listener)

    def ended(self, mux: Mux, why: str) -> None:
        self.why.append(why)


@dataclass
class Pair:
    """`near` is the proxy's end, which opens streams; `far` the agent's, which has dialled."""

    near: Mux
    far: Mux
    near_end: End
    far_end: End
    middlebox: Middlebox | None

    async def open(self) -> tuple[MuxStream, Listener, MuxStream, Listener]:
        """A stream, seen from both ends."""
        before = len(self.far_end.streams)
        stream, listener = self.near.open(HELLO), Listener()
        stream.set_protocol(listener)
        await until(lambda: len(self.far_end.streams) > before, what="the other end")
        there, hears, _ = self.far_end.streams[-1]
        return stream, listener, there, hears

    def raw(self, sender: Mux, frames: bytes) -> None:
        """What no honest end would send."""
        sender.tls.write(frames)
        sender._flush()


@asynccontextmanager
async def pair(
    *,
    pace: Pace | None = None,
    max_streams: int = MAX_STREAMS,
    near_end: End | None = None,
    far_end: End | None = None,
    with_middlebox: bool = False,
) -> AsyncIterator[Pair]:
    serving, dialling, name = contexts()
    near_end, far_end, loop = near_end or End(), far_end or End(), asyncio.get_running_loop()
    hearts, box = (Heart(pace), Heart(pace)), None
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        port = listener.getsockname()[1]
        if with_middlebox:
            box = await stack.enter_async_context(middlebox(port))
            port = box.port
        far = Mux(
            TlsEnd(dialling, server_side=False, server_hostname=name),
            dialled=True,
            owner=far_end,
            heart=hearts[1],
            max_streams=max_streams,
        )
        connecting = loop.create_task(loop.create_connection(lambda: far, "127.0.0.1", port))
        wire, _ = await loop.sock_accept(listener)
        near = Mux(
            TlsEnd(serving, server_side=True),
            dialled=False,
            owner=near_end,
            heart=hearts[0],
            max_streams=max_streams,
        )
        await loop.connect_accepted_socket(lambda: near, wire)
        await connecting
        both = Pair(near, far, near_end, far_end, box)
        if near_end.greets and far_end.greets:
            await until(lambda: near.greeted and far.greeted, what="hello")
        try:
            yield both
        finally:
            near.die("over")
            far.die("over")
            await until(lambda: near_end.why and far_end.why, what="the end")
