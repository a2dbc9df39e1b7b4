"""Proxies and agents for benchmarks/tunnels.py, each kind in processes of its own.

Longer than 400 lines, because a reader compares the two ends line by line.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.world import free_port, wait_for_port
from teleport_lite.agent.identity import Identity
from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.daemon.tunnel_role import TunnelRole
from teleport_lite.net.peek import Kind
from teleport_lite.net.port import Arrival, Port, PortLimits
from teleport_lite.net.relay import Held, relay
from teleport_lite.net.splice import connect, splice
from teleport_lite.net.tunnel_wire import proxy_context
from teleport_lite.proto.alpn import proxy_name, proxy_of
from teleport_lite.proto.stream import ProxyPlace
from teleport_lite.proxy.tunnels import Tunnels
from teleport_lite.testing.certs import PaperCluster, Papers

__all__ = ["Ends", "Process", "blast", "free_port", "wait_for_port"]

PATIENCE = 120.0


class Process:
    """A child that was forked, and a line to it: we ask with JSON, it answers with JSON."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid, self._line = pid, line.makefile("rw")

    @classmethod
    def fork(cls, work: Callable[[socket.socket], None]) -> "Process":
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            logging.disable(logging.ERROR)  # thousands of agents lose thousands of tunnels
            try:
                ours.close()
                work(theirs)
            except BaseException as why:
                if not isinstance(why, (KeyboardInterrupt, SystemExit)):
                    logging.critical("a process of the benchmark failed", exc_info=True)
            finally:
                os._exit(0)
        theirs.close()
        return cls(pid, ours)

    def ask(self, **words: Any) -> Any:
        self._line.write(json.dumps(words) + "\n")
        self._line.flush()
        answer = self._line.readline()
        if not answer:
            raise SystemExit("a process of the benchmark has ended")
        return json.loads(answer)

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def cpu_share(self, seconds: float) -> float:
        before, began = self._cpu(), time.monotonic()
        time.sleep(seconds)
        return (self._cpu() - before) / (time.monotonic() - began)

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    stop = kill


class ProxyProcess(Process):
    papers: Papers
    port: int  # for tunnels
    door: int  # for clients: the UUID of a host and LF, then their bytes


class Ends:
    """A cluster on paper with its proxies and agents. They end with the context."""

    def __init__(self) -> None:
        self.cluster = PaperCluster()
        self._processes: list[Process] = []
        self._proxies: list[ProxyProcess] = []
        self.echo_port = 0

    def __enter__(self) -> "Ends":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.stop()

    def proxy(self, *, like: ProxyProcess | None = None, passes_on: bool = False) -> ProxyProcess:
        """`like`: the same proxy again, on the same port."""
        host_id = like.papers.id if like else SystemChance().uuid()
        papers = like.papers if like else self._proxy_papers(host_id)
        port, door = (like.port, like.door) if like else (free_port(), free_port())

        def work(line: socket.socket) -> None:
            uvloop.run(_Proxy(self.cluster, papers, passes_on).run(line, port, door))

        made = ProxyProcess.fork(work)
        assert isinstance(made, ProxyProcess)
        made.papers, made.port, made.door = papers, port, door
        made.ask(do="nothing")
        self._processes.append(made)
        self._proxies = [each for each in self._proxies if each.papers is not papers] + [made]
        return made

    def agents(
        self,
        count: int,
        *,
        echo: bool = False,
        proxies: list[ProxyProcess] | None = None,
        shared: str = "",
        plain: bool = False,
        via: int = 0,
    ) -> list[str]:
        """`count` agents in one new process; with `shared` they know no other address.

        `via`: they reach the proxies through this port. `plain`: on asyncio's own loop, as a
        node is; thousands share a process only in uvloop.
        """
        identities = [self._identity(n) for n in range(count)]
        places = [
            ProxyPlace(id=each.papers.id, address="" if shared else f"127.0.0.1:{via or each.port}")
            for each in proxies or self._proxies
        ]
        self.echo_port = free_port() if echo else 0
        shares = [shared] if shared else []

        def work(line: socket.socket) -> None:
            run = asyncio.run if plain else uvloop.run
            run(_Agents(identities, places, shares, self.echo_port).run(line))

        process = Process.fork(work)
        self._processes.append(process)
        process.ask(do="nothing")
        return [each.host_id for each in identities]

    def await_tunnels(self, proxy: ProxyProcess, count: int) -> float:
        """Until the proxy has so many. Returns when (perf_counter)."""
        deadline = time.monotonic() + PATIENCE
        while proxy.ask(do="count") < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"{proxy.ask(do='count')} of {count} tunnels")
            time.sleep(0.02)
        return time.perf_counter()

    def link(self, to: int, *, rate: int, delay: float) -> int:
        """The port of a slow line to port `to`: bytes a second and seconds, each way."""
        port = free_port()
        process = Process.fork(lambda line: asyncio.run(_Link(rate, delay, to).run(line, port)))
        self._processes.append(process)
        process.ask(do="nothing")
        return port

    def tell_places(self, proxies: list[ProxyProcess]) -> None:
        """So that they can pass connections on to each other."""
        for each in proxies:
            each.ask(do="places", places={p.papers.id: f"127.0.0.1:{p.port}" for p in proxies})

    def session(self, proxy: ProxyProcess, host_id: str) -> socket.socket:
        wire = socket.create_connection(("127.0.0.1", proxy.door))
        wire.sendall(host_id.encode() + b"\n")
        return wire

    def _proxy_papers(self, host_id: str) -> Papers:
        names = (proxy_name(host_id),)
        return self.cluster.host("proxy", roles=("Proxy",), host_id=host_id, dns_names=names)

    def _identity(self, number: int) -> Identity:
        papers = self.cluster.host(f"host{number}")
        return Identity(
            cluster=self.cluster.name,
            host_id=papers.id,
            roles=("Node",),
            ssh_private=papers.ssh_private,
            ssh_public=papers.ssh_public,
            tls_private=papers.tls_private,
            ssh_cert=papers.ssh_cert,
            tls_cert=papers.tls_cert,
            host_cas=tuple(self.cluster.host_cas),
            ssh_host_cas=(),
            ssh_user_cas=(),
            user_cas=(),
        )


async def _answer(line: socket.socket, answer: Callable[[dict[str, Any]], Any]) -> None:
    reader, writer = await asyncio.open_connection(sock=line)
    while asked := await reader.readline():
        writer.write(json.dumps(answer(json.loads(asked))).encode() + b"\n")


class _Proxy:
    def __init__(self, cluster: PaperCluster, papers: Papers, passes_on: bool) -> None:
        self._papers, self._passes_on = papers, passes_on
        self._context = proxy_context(papers.tls_cert, papers.tls_private, cluster.host_cas)
        self._places: dict[str, str] = {}
        self._tunnels = Tunnels(
            cluster=cluster.name,
            host_cas=cluster.host_cas,
            clock=SystemClock(),
            chance=SystemChance(),
        )
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, line: socket.socket, port: int, door: int) -> None:
        listener = Port(
            route=self._route,
            kinds=frozenset({Kind.TLS}),
            limits=PortLimits(pending=8192, per_source=8192),
        )
        listener.listen(socket.create_server(("127.0.0.1", port), backlog=4096))
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Door(self), "127.0.0.1", door)
        async with server:
            await _answer(line, self._answer)

    def _answer(self, asked: dict[str, Any]) -> Any:
        if asked["do"] == "places":
            self._places = asked["places"]
        return self._tunnels.count

    async def _route(self, arrival: Arrival) -> None:
        wanted = proxy_of(arrival.opening.sni)
        if self._passes_on and wanted != self._papers.id and wanted in self._places:
            there = await connect([self._places[wanted]], timeout=5)
            await splice(arrival.socket, there, idle=0)
        else:
            await self._tunnels.accept(arrival.socket, arrival.peer, self._context)

    def reach(self, host_id: str, client: "_Door") -> None:
        tunnel = self._tunnels.get(host_id)
        assert tunnel is not None
        stream = tunnel.open(("127.0.0.1", 1))
        task = asyncio.get_running_loop().create_task(relay(client.transport, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Door(Held):
    def __init__(self, proxy: _Proxy) -> None:
        super().__init__()
        self._proxy, self._open = proxy, False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._open and len(self.early) >= 37:
            self._open = True
            host_id = self.early[:36].decode()
            del self.early[:37]
            self._proxy.reach(host_id, self)


class _Link:
    """Passes bytes on late and slowly, first come first served, with little memory of its own."""

    MEMORY = 32 * 1024

    def __init__(self, rate: int, delay: float, to: int) -> None:
        self._rate, self._delay, self._to = rate, delay, to
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, line: socket.socket, port: int) -> None:
        listener = self._small(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        self._spawn(self._accept(listener))
        await _answer(line, lambda _: 0)

    def _small(self, wire: socket.socket) -> socket.socket:
        wire.setblocking(False)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.MEMORY)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.MEMORY)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            left, _ = await loop.sock_accept(listener)
            right = self._small(socket.socket())
            await loop.sock_connect(right, ("127.0.0.1", self._to))
            for source, sink in ((self._small(left), right), (right, left)):
                arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
                self._spawn(self._take(source, arriving))
                self._spawn(self._give(arriving, sink))

    async def _take(self, source: socket.socket, arriving: Any) -> None:
        loop = asyncio.get_running_loop()
        free = loop.time()
        while data := await loop.sock_recv(source, 4096):
            free = max(free, loop.time()) + len(data) / self._rate
            arriving.put_nowait((free + self._delay, data))
            await asyncio.sleep(free - loop.time())

    async def _give(self, arriving: Any, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at, data = await arriving.get()
            await asyncio.sleep(at - loop.time())
            await loop.sock_sendall(sink, data)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)


class _Agents:
    """Many agents; what comes down their tunnels is served by a child, or in the loop."""

    def __init__(
        self, identities: list[Identity], places: list[ProxyPlace], shared: list[str], echo: int
    ) -> None:
        self._identities, self._places, self._shared = identities, places, shared
        self._echo = echo
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, line: socket.socket) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        clock, chance = SystemClock(), SystemChance()
        take = self._take_echo if self._echo else self._take_blast
        roles = [
            TunnelRole(identity=each, clock=clock, chance=chance, take=take, shared=self._shared)
            for each in self._identities
        ]
        for role in roles:
            await role.start()
            role.learn(self._places)
        loop = asyncio.get_running_loop()
        if self._echo:
            await loop.create_server(_Echo, "127.0.0.1", self._echo)
        await _answer(line, lambda _: sum(len(role.held()) for role in roles))

    def _take_blast(self, wire: socket.socket, _: Any, __: Any) -> None:
        """A process, as the product has one for each session."""
        if os.fork() == 0:
            # The other ends of other sessions are in here too, and would keep them open.
            os.closerange(3, wire.fileno())
            os.closerange(wire.fileno() + 1, 4096)
            wire.setblocking(True)
            try:
                blast(wire)
            finally:
                os._exit(0)
        wire.close()

    def _take_echo(self, wire: socket.socket, _: Any, __: Any) -> None:
        loop = asyncio.get_running_loop()
        wire.setblocking(False)
        task = loop.create_task(loop.connect_accepted_socket(_Echo, wire))  # type: ignore[arg-type]
        self._tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._tasks.discard)  # type: ignore[arg-type]


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]


def blast(wire: socket.socket) -> None:
    """One order: b"D" and a size sends so much, b"U" and a size takes it and says b"k", b"E"
    and a size sends back what it gets."""
    order = b""
    while len(order) < 9:
        got = wire.recv(9 - len(order))
        if not got:
            return
        order += got
    left = struct.unpack(">Q", order[1:])[0]
    memory = memoryview(bytearray(1 << 18))
    while left:
        if order[:1] == b"E":
            wire.sendall(wire.recv(100))
        elif order[:1] == b"D":
            left -= wire.send(memory[: min(left, len(memory))])
        else:
            got_size = wire.recv_into(memory)
            if not got_size:
                return
            left -= got_size
    if order[:1] == b"U":
        wire.sendall(b"k")
    wire.shutdown(socket.SHUT_WR)
    wire.recv(1)
