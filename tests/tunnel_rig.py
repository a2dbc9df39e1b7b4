"""Both ends of tunnels over loopback: a proxy's registry behind a listener, and agents."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from teleport_lite.agent.identity import Identity
from teleport_lite.ambient import Clock, SystemChance, SystemClock
from teleport_lite.daemon.tunnel_role import TunnelRole
from teleport_lite.net.mux_heart import Heart, Pace
from teleport_lite.net.tunnel_wire import proxy_context
from teleport_lite.pki.verify import Peer
from teleport_lite.proto.alpn import proxy_name
from teleport_lite.proto.stream import ProxyPlace
from teleport_lite.proxy.tunnels import Tunnels
from teleport_lite.testing.certs import PaperCluster, Papers
from tests.support import free_port

T = TypeVar("T")
SECONDS = 60.0


async def until(condition: Callable[[], T], *, what: str = "") -> T:
    """Let the loop run until `condition` returns something true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SECONDS
    while not (found := condition()):
        assert loop.time() < deadline, f"not within {SECONDS} s: {what or condition}"
        await asyncio.sleep(0.01)
    return found


def identity_of(papers: Papers, cluster: PaperCluster, roles: tuple[str, ...]) -> Identity:
    return Identity(
        cluster=cluster.name,
        host_id=papers.id,
        roles=roles,
        ssh_private=papers.ssh_private,
        ssh_public=papers.ssh_public,
        tls_private=papers.tls_private,
        ssh_cert=papers.ssh_cert,
        tls_cert=papers.tls_cert,
        host_cas=tuple(cluster.host_cas),
        ssh_host_cas=(),
        ssh_user_cas=(),
        user_cas=tuple(cluster.user_cas),
    )


def host(
    cluster: PaperCluster, name: str = "web1", *, roles: tuple[str, ...] = ("Node",)
) -> Identity:
    return identity_of(cluster.host(name, roles=roles), cluster, roles)


def proxy_papers(cluster: PaperCluster, host_id: str = "") -> Papers:
    """A proxy's certificate carries its own name, so the UUID comes first."""
    host_id = host_id or SystemChance().uuid()
    return cluster.host(
        "proxy", roles=("Proxy",), host_id=host_id, dns_names=(proxy_name(host_id),)
    )


class Proxy:
    """A listener whose every connection is meant to be a tunnel."""

    def __init__(
        self,
        cluster: PaperCluster,
        *,
        papers: Papers | None = None,
        pace: Pace | None = None,
        refuse: Callable[[Peer], str] = lambda _: "",
        clock: Clock | None = None,
    ) -> None:
        self.papers = papers or proxy_papers(cluster)
        self.id = self.papers.id
        self.context = proxy_context(
            self.papers.tls_cert, self.papers.tls_private, cluster.host_cas
        )
        self.changes: list[tuple[str, bool]] = []
        self.tunnels = Tunnels(
            cluster=cluster.name,
            host_cas=cluster.host_cas,
            clock=clock or SystemClock(),
            chance=SystemChance(),
            refuse=refuse,
            on_change=lambda id, up: self.changes.append((id, up)),
            heart=Heart(pace),
        )
        self.port = free_port()  # where another one can come back
        self.via = ""  # the proxy that passes on to us whoever comes from now on
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def place(self) -> ProxyPlace:
        return ProxyPlace(id=self.id, name="proxy", address=self.address)

    async def listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=4096)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._accept(listener), name="listener")

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                wire, address = await asyncio.get_running_loop().sock_accept(listener)
                await self.tunnels.accept(wire, address, self.context, via=self.via)

    async def stop(self, delay: float = 0.0, drain: float = 0.0) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.tunnels.close(delay, drain=drain)


@dataclass
class Sshd:
    """Stands for the SSH listener of an agent: echoes what it gets, in capitals."""

    peers: list[Any] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def take(self, wire: socket.socket, peer: tuple[str, int], local: tuple[str, int]) -> None:
        self.peers.append((peer, local))
        wire.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._echo(wire), name="echo")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _echo(self, wire: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with wire:
            while data := await loop.sock_recv(wire, 65536):
                await loop.sock_sendall(wire, data.upper())


def agent(identity: Identity, sshd: Sshd | None = None, **more: Any) -> TunnelRole:
    return TunnelRole(
        identity=identity,
        clock=SystemClock(),
        chance=SystemChance(),
        take=(sshd or Sshd()).take,
        **more,
    )


class Listener(asyncio.Protocol):
    """Keeps what a stream says."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.eof = self.paused = False
        self.lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.eof = True
        return True

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
