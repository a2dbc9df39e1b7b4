"""Auth, a proxy and many light hosts for benchmarks/storm.py."""

import asyncio
import json
import logging
import multiprocessing
import os
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection as Line
from pathlib import Path
from typing import Any, Self

import uvloop

from benchmarks.world import World, free_port, wait_for_port
from teleport_lite.agent import join as agent_join
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import JoinRequest, join
from teleport_lite.agent.link import Link
from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.daemon.tunnel_role import TunnelRole
from teleport_lite.errors import Error
from teleport_lite.net.http import Connection
from teleport_lite.proto.join import token_name
from teleport_lite.proto.stream import Beat, Knowledge
from teleport_lite.secret import Secret

ASK_EVERY = 0.1
PATIENCE = 180.0  # seconds, for everything that is awaited
JOINERS = 4
STACK = 512 * 1024  # of a host's thread
# Hosts have processors of their own; here they give way to what is measured. Of threads (nice(2)).
NICE = 10


# --- the cluster


class Cluster(World):
    """Auth and a proxy, and nothing else, so that nobody else is counted."""

    empty: dict[str, int]  # KiB of each process when all have joined and nobody is connected

    def __enter__(self) -> Self:
        self._write_configs()
        self.auth = self.run("auth")
        wait_for_port(self.auth_port)
        self.pin = self.tctl("status").rsplit(None, 1)[-1]
        self.proxy_port, self.diag_port = free_port(), free_port()
        config = self.root / "proxy.yaml"
        config.write_text(
            f"""\
version: v3
teleport:
  nodename: proxy
  data_dir: {self.root / "proxy"}
  auth_server: 127.0.0.1:{self.auth_port}
  diag_addr: 127.0.0.1:{self.diag_port}
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
proxy_service: {{web_listen_addr: "{self.address}", public_addr: "{self.address}"}}
"""
        )
        config.chmod(0o600)
        self.start_proxy(f"--token={self.token('proxy')}", f"--ca-pin={self.pin}")
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.proxy_port}"

    def run(self, name: str, *words: str) -> "subprocess.Popen[bytes]":
        """A daemon with a log of its own."""
        command = [str(self.bin / "teleport-lite"), "start", "-c", str(self.root / f"{name}.yaml")]
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *words], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._running.append(process)
        return process

    def start_proxy(self, *words: str) -> float:
        """Returns when it listens (time.monotonic)."""
        self.proxy = self.run("proxy", *words)
        wait_for_port(self.proxy_port, seconds=60)
        return time.monotonic()

    def token(self, kind: str) -> str:
        return self.tctl("tokens", "add", f"--type={kind}", "--ttl=1h", "--format=text").strip()

    @property
    def socket(self) -> Path:
        return self.root / "auth" / "auth.sock"

    def listed(self) -> int:
        """Hosts that auth lists with a tunnel."""
        with Connection.unix(self.socket) as wire:
            nodes = wire.ask("/v1/nodes/list", {})["nodes"]
        return sum(1 for each in nodes if each["tunnels"])

    def port_counts(self) -> dict[str, int]:
        """How connections to the proxy ended up."""
        url = f"http://127.0.0.1:{self.diag_port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith("teleport_lite_port_connections_total")]
        return {line.split('"')[1]: int(float(line.split()[-1])) for line in found}

    def lines(self, name: str) -> int:
        return (self.root / f"{name}.log").read_bytes().count(b"\n")


def cpu(pid: int) -> float:
    """Seconds of user and system time (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


# --- the hosts


class Host:
    """One of many: what `teleport-lite start --roles=node` keeps open, without its SSH service."""

    def __init__(self, identity: Identity, server: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, clock, chance = loop, SystemClock(), SystemChance()
        self._fresh = False
        self.stream_at = self.tunnel_at = 0.0  # since when; 0: there is none
        self.tunnels = TunnelRole(
            identity=identity,
            clock=clock,
            chance=chance,
            take=lambda wire, _peer, _local: wire.close(),
            shared=[server],
            on_change=self._changed,
        )
        self.link = Link(
            identity=identity,
            servers=[server],
            node_name=f"host-{identity.host_id[:8]}",
            clock=clock,
            chance=chance,
            report=lambda: Beat(
                time=time.time(), labels={"fleet": "storm"}, tunnels=self.tunnels.held()
            ),
            renew_due=lambda: False,
            on_knowledge=self._learn,
            on_identity=lambda _: None,
            on_state=self._state,
        )

    def _learn(self, knowledge: Knowledge) -> None:
        if self._fresh:
            self._fresh, self.stream_at = False, time.monotonic()
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.tunnels.learn, knowledge.proxies)

    def _state(self, words: str) -> None:
        self._fresh = words.startswith("connected")
        if not self._fresh:
            self.stream_at = 0.0

    def _changed(self, held: list[str]) -> None:
        self.tunnel_at = time.monotonic() if held else 0.0
        self.link.nudge()


class Fleet:
    """All of them: a loop for the tunnels, a thread for each stream."""

    def __init__(self, identities: Sequence[Identity], server: str) -> None:
        self._loop = uvloop.new_event_loop()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=_modest(self._loop.run_forever), daemon=True)]
        self._threads[0].start()
        self.hosts = self._do(self._make(identities, server))

    def start(self) -> None:
        self._do(self._start_tunnels())
        before = threading.stack_size(STACK)
        for host in self.hosts:
            run = partial(host.link.run, self._stopping)
            thread = threading.Thread(target=_modest(run), daemon=True)
            thread.start()
            self._threads.append(thread)
        threading.stack_size(before)

    def close(self) -> None:
        self._stopping.set()
        for host in self.hosts:
            host.link.wake()
        for thread in self._threads[1:]:
            thread.join(timeout=30)
        self._do(self._close_tunnels())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._threads[0].join(timeout=30)

    def back(self, since: float) -> tuple[list[float], list[float]]:
        """When streams and tunnels came back after `since`, each sorted."""
        streams = sorted(host.stream_at for host in self.hosts if host.stream_at > since)
        tunnels = sorted(host.tunnel_at for host in self.hosts if host.tunnel_at > since)
        return streams, tunnels

    def await_all(self, since: float) -> tuple[list[float], list[float]]:
        deadline = time.monotonic() + PATIENCE
        while True:
            streams, tunnels = self.back(since)
            if len(streams) == len(tunnels) == len(self.hosts):
                return streams, tunnels
            if time.monotonic() > deadline:
                found = f"{len(streams)} streams and {len(tunnels)} tunnels"
                raise SystemExit(f"{found} of {len(self.hosts)} after {PATIENCE:.0f} s")
            time.sleep(0.05)

    async def _make(self, identities: Sequence[Identity], server: str) -> list[Host]:
        return [Host(each, server, self._loop) for each in identities]

    async def _start_tunnels(self) -> None:
        for host in self.hosts:
            await host.tunnels.start()

    async def _close_tunnels(self) -> None:
        await asyncio.gather(*(host.tunnels.close() for host in self.hosts))

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=120)


def _modest(work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        os.nice(NICE)
        work()

    return run


def join_all(cluster: Cluster, count: int) -> list[Identity]:
    """The slow hash of the token, 40 ms for each host, is computed once here."""
    token = Secret(cluster.token("node"))
    name = token_name(token)
    agent_join.token_name = lambda _: name  # type: ignore[assignment,attr-defined]  # as promised above

    def one(number: int) -> Identity:
        return join(
            JoinRequest(
                servers=(f"127.0.0.1:{cluster.auth_port}",),
                token=token,
                pins=(cluster.pin,),
                roles=("Node",),
                node_name=f"host{number}",
                clock=SystemClock(),
                say=lambda _: None,
            )
        )

    with ThreadPoolExecutor(JOINERS) as pool:
        return list(pool.map(one, range(count)))


class Complaints(logging.Handler):
    """Warnings of the hosts, counted by their first words."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.counts[f"{record.msg}"[:40] + f" | {record.args[-1] if record.args else ''}"] += 1  # type: ignore[index]  # a tuple, as we log


# --- somebody who asks auth for a little, all the time


class Prober:
    """A process of its own, so that the hosts here do not stand in its way."""

    def __init__(self, path: Path) -> None:
        context = multiprocessing.get_context("fork")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=_probe, args=(path, theirs), daemon=True)
        self._process.start()

    def take(self) -> list[float]:
        """Milliseconds of every call since this was last asked."""
        self._line.send("take")
        return list(json.loads(self._line.recv()))

    def close(self) -> None:
        self._line.close()
        self._process.join(timeout=20)


def _probe(path: Path, line: Line) -> None:
    took: list[float] = []
    at = time.monotonic()
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            if line.poll(max(0.0, at - time.monotonic())):
                line.recv()
                line.send(json.dumps(took))
                took = []
                continue
            at = max(at + ASK_EVERY, time.monotonic())
            began = time.monotonic()
            with suppress(Error), Connection.unix(path) as wire:
                wire.ask("/v1/status")
            took.append((time.monotonic() - began) * 1000)
