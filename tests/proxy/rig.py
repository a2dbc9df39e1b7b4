"""A cluster of nodes that only exist as routes, servers that pass for nodes, and callers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.user import Condition, Role
from teleport_lite.proto.resource import lock_doc, role_doc
from teleport_lite.proto.stream import Knowledge, Route, Routes
from teleport_lite.proxy.access import Caller, Judge
from teleport_lite.proxy.paused import paused
from teleport_lite.testing.fakes import T0, FakeClock
from tests.net.serving import LOOPS

CLUSTER = "test.example"
ROOT_ON_PROD = Role(name="prod", allow=Condition(logins=("root",), node_labels={"env": ("prod",)}))
OWN_EVERYWHERE = Role(
    name="access", allow=Condition(logins=("{{internal.logins}}",), node_labels={"*": ("*",)})
)
ALICE = Caller(user="alice", roles=("access",), traits={"logins": ("root",)})
BOB = Caller(user="bob", roles=("prod",), traits={})
CLIENT = ("192.0.2.7", 40_000)


def host_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def route(number: int, name: str = "", **changes: Any) -> Route:
    fields: dict[str, Any] = {"id": host_id(number), "name": name or f"web-{number}"}
    return Route(**(fields | changes))


def routes(*hosts: Route, first: bool = True, gone: tuple[str, ...] = ()) -> Routes:
    return Routes(first=first, hosts=list(hosts), gone=list(gone))


def knowledge(
    *locks: Lock, roles: tuple[Role, ...] = (OWN_EVERYWHERE, ROOT_ON_PROD), **more: Any
) -> Knowledge:
    fields: dict[str, Any] = {
        "cluster": CLUSTER,
        "serial": 1,
        "host_cas": [],
        "ssh_host_cas": [],
        "ssh_user_cas": [],
        "user_cas": [],
        "roles": [role_doc(role) for role in roles],
        "locks": [lock_doc(lock) for lock in locks],
    }
    return Knowledge(**(fields | more))


def a_lock(target: Target, value: str) -> Lock:
    return Lock(id="lock-1", target=target, value=value, created_at=T0)


def a_judge(*locks: Lock, clock: FakeClock | None = None) -> Judge:
    return Judge(clock or FakeClock(), knowledge(*locks))


class PaperTunnels:
    """Tunnels to servers on loopback that wait to be greeted: streams are made ahead, since `open`
    never waits."""

    def __init__(self) -> None:
        self._ready: dict[str, list[asyncio.Transport]] = {}
        self.opened: list[tuple[str, int]] = []

    async def add(self, host_id: str, port: int, *, streams: int = 1) -> None:
        for _ in range(streams):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setblocking(False)
            transport, said = await paused(sock)
            assert not said
            self._ready.setdefault(host_id, []).append(transport)

    def get(self, host_id: str) -> "PaperTunnel | None":
        return PaperTunnel(self, self._ready[host_id]) if host_id in self._ready else None


class PaperTunnel:
    def __init__(self, owner: PaperTunnels, ready: list[asyncio.Transport]) -> None:
        self._owner, self._ready = owner, ready

    def open(self, client: tuple[str, int]) -> asyncio.Transport:
        self._owner.opened.append(client)
        return self._ready.pop()


GREETING = b"SSH-2.0-paper\r\n"


class Node:
    """Greets, and says everything back; at the end of what it hears it ends, too."""

    def __init__(self, greeting: bytes = GREETING) -> None:
        self._greeting = greeting
        self.met = 0
        self.heard = b""
        self.port = 0
        self.open: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met += 1
        self.open.append(writer)
        try:
            writer.write(self._greeting)
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
        except ConnectionError:
            pass  # cut off
        finally:
            writer.close()
            self.open.remove(writer)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def a_node(greeting: bytes = GREETING) -> AsyncIterator[Node]:
    node = Node(greeting)
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    node.port = server.sockets[0].getsockname()[1]
    try:
        yield node
    finally:
        server.close()
        for writer in node.open:
            writer.transport.abort()
        await until(lambda: not node.open, "the node to end")
        await asyncio.sleep(0)


@asynccontextmanager
async def a_pair() -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A transport and the socket at its other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await paused(ours)
    try:
        yield transport, theirs
    finally:
        transport.abort()
        theirs.close()


async def read_all(sock: socket.socket) -> bytes:
    said, loop = b"", asyncio.get_running_loop()
    try:
        while more := await loop.sock_recv(sock, 65536):
            said += more
    except ConnectionError:
        return said
    return said


async def until(condition: Callable[[], object], what: str = "") -> None:
    """The same as `eventually`, in the loop."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within 30 s: {what or condition}")


def run(loop: str, body: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(body(), 60))
