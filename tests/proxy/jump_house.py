"""A jump host on loopback, in front of a node of tests/node, with OpenSSH's client before both."""

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from teleport_lite.agent import identity, knowledge
from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.model.lock import Lock
from teleport_lite.node import zygote
from teleport_lite.node.settings import Settings
from teleport_lite.proto.resource import lock_doc, role_doc
from teleport_lite.proto.stream import AgentEvent, Knowledge, Route
from teleport_lite.proxy.access import Judge
from teleport_lite.proxy.jump import JumpHost
from teleport_lite.proxy.reach import Reach
from teleport_lite.proxy.routes import RouteTable
from teleport_lite.proxy.sessions import Sessions
from teleport_lite.testing.certs import Papers
from tests.net.serving import LOOPS
from tests.node.house import ME, House
from tests.proxy.rig import PaperTunnels, routes
from tests.support import eventually

T = TypeVar("T")
PROXY = "127.0.0.1"


class JumpHouse:
    """`house` is the node behind it, and the cluster both belong to."""

    def __init__(self, directory: Path, house: House, *, loop: str = "uvloop", **settings: Any):
        self.house, self.cluster = house, house.cluster
        self.directory, self.data_dir = directory, directory / "proxy-data"
        self.papers = self.cluster.host("proxy-1", roles=("Proxy",), extra=(PROXY,))
        self.events: list[AgentEvent] = []
        self.locks: list[Lock] = []
        self.roles = list(house.roles)
        self.lost = False
        self.hosts: list[Route] = [
            Route(
                id=house.host.id,
                name="node1",
                address=f"127.0.0.1:{house.port}",
                labels={"env": "test"},
            )
        ]
        self._loop = LOOPS[loop]()
        self._settings = settings
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._clients: list[subprocess.Popen[bytes]] = []
        self._keys = 0

    def start(self) -> None:
        self._save_identity()
        self.born = zygote.start(Settings(data_dir=self.data_dir, jump=True, **self._settings))
        self._thread.start()
        self.wait(self._start())
        self.learn()
        self.known_hosts = self.directory / "jump_known_hosts"
        self.known_hosts.write_text(f"@cert-authority * {self.cluster.host_ca.public.ssh_key}\n")

    async def _start(self) -> None:
        clock = SystemClock()
        self.judge = Judge(clock)
        self.tunnels = PaperTunnels()
        self.table = RouteTable(self.data_dir, clock=clock, cluster=self.cluster.name)
        self.table.apply(routes(*self.hosts))
        reach = Reach(
            routes=self.table,
            judge=self.judge,
            tunnels=self.tunnels,
            cluster=self.cluster.name,
            news=0.0,
        )
        self.sessions = Sessions(
            reach=reach, judge=self.judge, clock=clock, on_event=self.events.append
        )
        self.jump = JumpHost(
            zygote=self.born,
            sessions=self.sessions,
            clock=clock,
            chance=SystemChance(),
            on_event=self.events.append,
            on_lost=lambda: setattr(self, "lost", True),
        )
        await self.jump.start()
        self._listening = socket.create_server((PROXY, 0), backlog=128)
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        sock, peer = self._listening.accept()
        self.jump.take(sock, peer, sock.getsockname())

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def call(self, work: Callable[[], T]) -> T:
        """In the loop."""

        async def body() -> T:
            return work()

        return self.wait(body())  # type: ignore[no-any-return]  # what body returns

    # --- what the proxy knows

    def _save_identity(self) -> None:
        papers = self.papers
        identity.save(
            self.data_dir,
            identity.Identity(
                cluster=self.cluster.name,
                host_id=papers.id,
                roles=("Proxy",),
                ssh_private=papers.ssh_private,
                ssh_public=papers.ssh_public,
                tls_private=papers.tls_private,
                ssh_cert=papers.ssh_cert,
                tls_cert=papers.tls_cert,
                host_cas=tuple(self.cluster.host_cas),
                ssh_host_cas=(self.cluster.host_ca.public.ssh_key,),
                ssh_user_cas=(self.cluster.user_ca.public.ssh_key,),
                user_cas=tuple(self.cluster.user_cas),
            ),
        )

    def learn(self, **changes: Any) -> None:
        """As `ProxyRole` does when auth has news."""
        known = Knowledge(
            **{
                "cluster": self.cluster.name,
                "serial": 1,
                "host_cas": self.cluster.host_cas,
                "ssh_host_cas": [self.cluster.host_ca.public.ssh_key],
                "ssh_user_cas": [self.cluster.user_ca.public.ssh_key],
                "user_cas": self.cluster.user_cas,
                "roles": [role_doc(role) for role in self.roles],
                "locks": [lock_doc(lock) for lock in self.locks],
                **changes,
            }
        )
        knowledge.save(self.data_dir, known)

        def tell() -> None:
            self.judge.learn(known)
            self.sessions.recheck()
            self.jump.recheck()

        self.call(tell)

    def add(self, *hosts: Route) -> None:
        self.call(lambda: self.table.apply(routes(*hosts, first=False)))

    # --- the end

    def stop(self) -> None:
        """And nothing of it may be left."""
        for client in self._clients:
            if client.poll() is None:
                client.kill()
            client.communicate()
        self.wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()
        self.born.close()
        eventually(lambda: not self.processes(), seconds=30, what=f"to end: {self.processes()}")

    async def _stop(self) -> None:
        self._loop.remove_reader(self._listening)
        self._listening.close()
        await self.jump.close()
        await self.sessions.close()
        await self.table.close()
        assert len(self.sessions) == 0

    def processes(self) -> dict[int, str]:
        """Ours that still run: they carry the data directory in their arguments."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                    name = (entry / "comm").read_text().strip()
                except OSError:
                    continue
                if os.fsencode(self.data_dir) in words:
                    found[int(entry.name)] = name
        return found

    def named(self, name: str) -> list[int]:
        return [pid for pid, each in self.processes().items() if each == name]

    def event(self, code: str, **facts: str) -> AgentEvent:
        """The newest event of that code with those facts, as soon as it is there."""

        def fitting() -> list[AgentEvent]:
            return [e for e in self.events if e.code == code and facts.items() <= e.facts.items()]

        found = eventually(fitting, seconds=30, what=f"{code} {facts}, have {self.events}")
        return found[-1]

    # --- the client

    def config(self, papers: Papers | None = None) -> Path:
        """For `ssh -F`: the jump itself takes its options from there only."""
        papers = papers or self.cluster.user(logins=(ME,))
        self._keys += 1
        key = self.directory / f"jump-key-{self._keys}"
        key.touch(mode=0o600)
        key.write_text(papers.ssh_private.reveal())
        if papers.ssh_cert:
            Path(f"{key}-cert.pub").write_text(papers.ssh_cert + "\n")
        config = self.directory / f"jump-config-{self._keys}"
        config.write_text(
            f"Host jump\n  HostName {PROXY}\n  Port {self.port}\n  User anybody\n"
            f"Host *\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n  PreferredAuthentications publickey\n"
            "  BatchMode yes\n  LogLevel INFO\n  ConnectTimeout 30\n"
        )
        return config

    def ssh(
        self, *words: str, papers: Papers | None = None, **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """`ssh -F ... words`; "jump" is this host."""
        options: dict[str, Any] = {"input": b"", "timeout": 60} | more
        command = ["ssh", "-F", str(self.config(papers)), *words]
        return subprocess.run(command, capture_output=True, **options)

    def popen(self, *words: str, papers: Papers | None = None) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        command: Sequence[str] = ["ssh", "-F", str(self.config(papers)), *words]
        client = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        self._clients.append(client)
        return client


@contextmanager
def jumping(directory: Path, house: House, **more: Any) -> Iterator[JumpHouse]:
    jump = JumpHouse(directory, house, **more)
    jump.start()
    try:
        yield jump
    finally:
        jump.stop()
