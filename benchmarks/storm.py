#!/usr/bin/env python3
"""A thousand hosts behind one proxy that is killed, or restarted, and comes back at once.

    .venv/bin/python -m benchmarks.storm [--hosts N]

Auth and proxy are the built file, a process each. The hosts share this process: every one has
joined with a token, keeps its stream to auth through the proxy (agent/link.py in a thread) and its
tunnel to the proxy (daemon/tunnel_role.py in one loop), so waits and retries are the product's.
Times of the storm count from the moment the proxy listens again. The hosts' own processor time is
told as well: on one machine they compete with what is measured. All of them have one address, so
the proxy's limit for one source counts too: of those that connect faster than they speak it closes
some, which try again.
"""

import argparse
import logging
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.storm_ends import (
    PATIENCE,
    Cluster,
    Complaints,
    Fleet,
    Prober,
    cpu,
    join_all,
    rss_kib,
)
from benchmarks.world import World

HOSTS = 1000
BUDGET = 30.0  # seconds until the last one is back
QUIET = 20.0  # seconds in which idle processes are watched
SETTLE = 15.0  # the longest pause between two beats

Figure = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Fact:
    what: str
    value: float
    unit: str
    budget: float | None = None


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
    cluster.empty = {"auth": rss_kib(cluster.auth.pid), "proxy": rss_kib(cluster.proxy.pid)}
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
        grown = rss_kib(pids[name]) - cluster.empty[name]
        facts.append(Fact(f"no host connected: RSS of {name}", cluster.empty[name] / 1024, "MiB"))
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
    facts += [
        Fact(f"{how}: {words} of the proxy", number, "connections")
        for words, number in cluster.port_counts().items()
    ]
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
