#!/usr/bin/env python3
"""A thousand hosts behind one proxy that is killed, or restarted, and comes back at once.

    .venv/bin/python -m benchmarks.storm [--hosts N]

Auth and proxy are the built file, a process each. The hosts share this process: every one has
joined with a token, keeps its stream to auth through the proxy (agent/link.py in a thread) and its
tunnel to the proxy (daemon/tunnel_role.py in one loop), so waits and retries are the product's.
Times of the storm count from the moment the proxy listens again. The hosts' own processor time is
told as well: on one machine they compete with what is measured.
"""

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
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

HOSTS = 1000
BUDGET = 30.0  # seconds until the last one is back
QUIET = 20.0  # seconds in which idle processes are watched
SETTLE = 15.0  # the longest pause between two beats
ASK_EVERY = 0.1
PATIENCE = 180.0
JOINERS = 4
STACK = 512 * 1024  # of a host's thread

Figure = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Fact:
    what: str
    value: float
    unit: str
    budget: float | None = None


# --- the cluster


class Cluster(World):
    """Auth and a proxy, and nothing else, so that nobody else is counted."""

    def __enter__(self) -> Self:
        self._write_configs()
        self.auth = self.run("auth")
        wait_for_port(self.auth_port)
        self.pin = self.tctl("status").rsplit(None, 1)[-1]
        self.proxy_port = free_port()
        config = self.root / "proxy.yaml"
        config.write_text(
            f"""\
version: v3
teleport:
  nodename: proxy
  data_dir: {self.root / "proxy"}
  auth_server: 127.0.0.1:{self.auth_port}
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
        self._threads = [threading.Thread(target=self._loop.run_forever, daemon=True)]
        self._threads[0].start()
        self.hosts = self._do(self._make(identities, server))

    def start(self) -> None:
        self._do(self._start_tunnels())
        before = threading.stack_size(STACK)
        for host in self.hosts:
            thread = threading.Thread(target=host.link.run, args=(self._stopping,), daemon=True)
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


def join_all(cluster: Cluster, count: int) -> list[Identity]:
    """The slow hash of the token, 40 ms for each host, is computed once here."""
    token = Secret(cluster.token("node"))
    name = token_name(token)
    agent_join.token_name = lambda _: name  # type: ignore[assignment]  # as promised above

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


# --- what is measured


def measure(root: Path, count: int) -> tuple[list[Fact], Counter[str]]:
    complaints = Complaints()
    log = logging.getLogger("teleport_lite")
    log.addHandler(complaints)
    log.propagate = False
    with Cluster(root) as cluster:
        prober = Prober(cluster.socket)
        say(f"joining {count} hosts ...")
        began = time.monotonic()
        identities = join_all(cluster, count)
        facts = [Fact(f"{count} hosts joined", time.monotonic() - began, "s")]
        fleet = Fleet(identities, cluster.address)
        try:
            facts += _arrive(cluster, fleet)
            facts += _idle(cluster, prober, count)
            for number, how in ((signal.SIGKILL, "kill -9"), (signal.SIGTERM, "SIGTERM")):
                facts += _storm(cluster, fleet, prober, number, how)
                time.sleep(SETTLE)
        finally:
            fleet.close()
            prober.close()
    log.removeHandler(complaints)
    return facts, complaints.counts


def _arrive(cluster: Cluster, fleet: Fleet) -> list[Fact]:
    say("hosts arrive ...")
    time.sleep(3)
    cluster.before = {p: rss_kib(p) for p in (cluster.auth.pid, cluster.proxy.pid)}  # type: ignore[attr-defined]
    began = time.monotonic()
    fleet.start()
    fleet.await_all(began)
    up = time.monotonic() - began
    _await_listed(cluster, len(fleet.hosts))
    return [
        Fact("first start: all streams and tunnels are up", up, "s", BUDGET),
        Fact("first start: all are listed with a tunnel", time.monotonic() - began, "s", BUDGET),
    ]


def _await_listed(cluster: Cluster, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := cluster.listed()) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{found} of {count} are listed with a tunnel")
        time.sleep(0.5)


def _idle(cluster: Cluster, prober: Prober, count: int) -> list[Fact]:
    say("idle ...")
    time.sleep(SETTLE)
    prober.take()
    pids = {"proxy": cluster.proxy.pid, "auth": cluster.auth.pid, "hosts": os.getpid()}
    before, began = {name: cpu(pid) for name, pid in pids.items()}, time.monotonic()
    time.sleep(QUIET)
    passed = time.monotonic() - began
    facts = []
    for name, pid in pids.items():
        share = (cpu(pid) - before[name]) / passed * 100
        facts.append(Fact(f"idle: CPU of {name}", share, "% of a core"))
    for name in ("proxy", "auth"):
        grown = rss_kib(pids[name]) - cluster.before[pids[name]]  # type: ignore[attr-defined]
        facts.append(Fact(f"idle: RSS of {name}", rss_kib(pids[name]) / 1024, "MiB"))
        facts.append(Fact(f"idle: RSS of {name} for each host", grown / count, "KiB"))
    return [*facts, *_answers("idle", prober.take())]


def _storm(
    cluster: Cluster, fleet: Fleet, prober: Prober, number: signal.Signals, how: str
) -> list[Fact]:
    say(f"{how} ...")
    names = ("auth", "proxy")
    lines = {name: cluster.lines(name) for name in names}
    spent = {"auth": -cpu(cluster.auth.pid), "proxy": 0.0, "hosts": -cpu(os.getpid())}
    prober.take()
    began = time.monotonic()
    cluster.proxy.send_signal(number)
    cluster.proxy.wait(timeout=60)
    ended = time.monotonic()
    up = cluster.start_proxy()
    streams, tunnels = fleet.await_all(began)
    took = prober.take()
    for name, pid in (("auth", cluster.auth), ("proxy", cluster.proxy)):
        spent[name] += cpu(pid.pid)
    spent["hosts"] += cpu(os.getpid())
    _await_listed(cluster, len(fleet.hosts))
    facts = [
        Fact(f"{how}: the proxy is gone", ended - began, "s"),
        Fact(f"{how}: the new one listens", up - ended, "s"),
    ]
    for name, times in (("tunnels", tunnels), ("streams", streams)):
        for share, words in ((0.5, "50 %"), (0.99, "99 %"), (1.0, "100 %")):
            at = times[max(0, int(len(times) * share) - 1)] - up
            facts.append(Fact(f"{how}: {words} of {name} are back", at, "s", BUDGET))
    facts.append(Fact(f"{how}: all are listed again", time.monotonic() - up, "s"))
    facts += _answers(how, took)
    facts += [Fact(f"{how}: CPU of {name}", each, "s") for name, each in spent.items()]
    for name in names:
        written = cluster.lines(name) - lines[name]
        facts.append(Fact(f"{how}: lines of {name} in its log", written, "lines"))
    return facts


def _answers(when: str, took: Sequence[float]) -> list[Fact]:
    p99 = statistics.quantiles(took, n=100)[98] if len(took) > 1 else 0.0
    return [
        Fact(f"{when}: auth answers, median of {len(took)}", statistics.median(took), "ms"),
        Fact(f"{when}: auth answers, p99", p99, "ms"),
        Fact(f"{when}: auth answers, slowest", max(took), "ms"),
    ]


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def rows(world: World, _: int, figure: Figure) -> list[Any]:
    """What has a budget, as ratios to it."""
    _raise_limits()
    root = world.root / "storm"
    root.mkdir()
    facts, _complaints = measure(root, HOSTS)
    return [
        figure(
            f"{HOSTS} hosts, {each.what}",
            f"budget of {each.budget:g} {each.unit}",
            [each.value],
            [each.budget],
            unit=each.unit,
            budget=f"{each.budget:g} {each.unit}",
        )
        for each in facts
        if each.budget is not None
    ]


def _raise_limits() -> None:
    """For all processes here: a host takes four descriptors of ours, three of the proxy's."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=HOSTS)
    parser.add_argument("--root", type=Path, help="where to leave logs; else nothing is left")
    asked = parser.parse_args()
    _raise_limits()
    with tempfile.TemporaryDirectory(prefix="tl-storm-") as temporary:
        root = asked.root or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        facts, complaints = measure(root, asked.hosts)
    width = max(len(each.what) for each in facts)
    for each in facts:
        budget = "" if each.budget is None else f"  budget {each.budget:g}"
        print(f"{each.what:<{width}}  {each.value:10.2f} {each.unit}{budget}")
    for words, count in complaints.most_common(12):
        print(f"{count:6} x {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
