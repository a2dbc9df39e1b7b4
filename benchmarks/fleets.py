"""Hundreds of hosts, as scenarios of faults.py: those of storm.py, in a cluster of the checkout."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import storm as storms
from benchmarks.storm_ends import PATIENCE, Cluster, Fleet, Prober, join_all
from benchmarks.world import wait_for_port
from teleport_lite.net.http import Connection
from tests.faults.report import Run

BACK = {"are back": 30.0, "are listed again": 60.0, "listed with a tunnel": 60.0}
TUNNELS = {"50 % of tunnels are back": 3.0, "99 % of tunnels are back": 15.0, **BACK}
VISIBLE = 60.0  # seconds, the goal of the plan
MIB = 1 << 20
LIMIT = 256 * MIB


class Here(Cluster):
    """What is in the working tree, not the file built from it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, checkout=True)


def storm(run: Run, hosts: int, goals: dict[str, float]) -> None:
    """As benchmarks/storm.py: a proxy with `hosts` is killed, and restarted."""
    made, storms.Cluster = storms.Cluster, Here  # type: ignore[misc,attr-defined]
    try:
        facts, _ = storms.measure(run.directory("storm"), hosts)
    finally:
        storms.Cluster = made  # type: ignore[misc,attr-defined]
    run.report.fault("the proxy ended by SIGKILL, SIGTERM", 2)
    for each in facts:
        goal = next((goals[key] for key in goals if each.what.endswith(key)), None)
        if goal is None:
            run.report.told(each.what, each.value, each.unit, count=hosts)
        else:
            run.report.at_most(each.what, round(each.value, 2), goal, each.unit, count=hosts)


def hosts_restart(run: Run) -> None:
    """All of them end, and begin again in the same moment."""
    hosts, rounds = run.size(20, 300), run.size(1, 5)
    up, listed = list[float](), list[float]()
    with Here(run.directory("fleet")) as cluster:
        identities = join_all(cluster, hosts)
        fleet = Fleet(identities, cluster.address)
        fleet.start()
        _await_listed(cluster, hosts)
        prober = Prober(cluster.socket)
        slowest = 0.0
        for _ in range(rounds):
            fleet.close()
            _await_listed(cluster, 0)
            fleet = Fleet(identities, cluster.address)
            prober.take()
            began = time.monotonic()
            fleet.start()
            run.report.fault(f"restart of {hosts} hosts at once")
            fleet.await_all(began)
            up.append(time.monotonic() - began)
            _await_listed(cluster, hosts)
            listed.append(time.monotonic() - began)
            slowest = max(slowest, *prober.take())
        fleet.close()
        prober.close()
    run.report.told("auth answers meanwhile, the slowest", round(slowest), "ms", count=rounds)
    run.report.slowest("all have their stream and tunnel, the longest", up, VISIBLE)
    run.report.slowest("all are listed with a tunnel, the longest", listed, VISIBLE)


def _await_listed(cluster: Cluster, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := _listed(cluster)) != count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{found} are listed with a tunnel, not {count}")
        time.sleep(0.25)


def _listed(cluster: Cluster) -> int:
    """Online, with a tunnel: who has said goodbye is listed with the one it had."""
    with Connection.unix(cluster.socket) as wire:
        nodes = wire.ask("/v1/nodes/list", {})["nodes"]
    return sum(1 for each in nodes if each["tunnels"] and each["state"] == "online")


# --- little memory


class Group:
    """A control group of our own that may use so much memory, swap included."""

    V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")

    def __init__(self, name: str, limit: int) -> None:
        """Raises OSError where there is no memory controller that we may use."""
        self.first = (self.V1 / "memory.limit_in_bytes").exists()
        self.path = (self.V1 if self.first else self.V2) / f"tl{os.getpid()}-{name}"
        self.path.mkdir()
        names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        if not self.first:
            names = ("memory.max", "memory.swap.max")
        (self.path / names[0]).write_text(str(limit))
        if (self.path / names[1]).exists():
            (self.path / names[1]).write_text(str(limit if self.first else 0))

    @property
    def kills(self) -> int:
        """Processes that the kernel has ended here for want of memory."""
        name = "memory.oom_control" if self.first else "memory.events"
        return self._field(name, "oom_kill")

    @property
    def peak(self) -> int:
        """Bytes, with the pages of files that could be given back."""
        name = "memory.max_usage_in_bytes" if self.first else "memory.peak"
        return int((self.path / name).read_text())

    @property
    def own(self) -> int:
        """Bytes now, without those."""
        return self._field("memory.stat", "total_rss" if self.first else "anon")

    def _field(self, file: str, name: str) -> int:
        for line in (self.path / file).read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
        return 0

    def close(self) -> None:
        self.path.rmdir()


@contextmanager
def _groups(*names: str) -> Iterator[dict[str, Group]]:
    made: dict[str, Group] = {}
    try:
        for name in names:
            made[name] = Group(name, LIMIT)
        yield made
    finally:
        for each in made.values():
            each.close()


class Poor(Here):
    """Each daemon in a group of its own from its first instruction on."""

    groups: dict[str, Group]

    def run(self, name: str, *words: str) -> "subprocess.Popen[bytes]":  # type: ignore[override]
        enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        command = ["sh", "-c", enter, str(self.groups[name].path), str(self.bin / "teleport-lite")]
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "start", "-c", str(self.root / f"{name}.yaml"), *words],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process


def little_memory(run: Run) -> None:
    """Auth and proxy with 256 MB each, and 500 hosts that only keep their tunnels."""
    hosts, seconds = run.size(20, 500), run.seconds(5.0, 120.0)
    with _groups("auth", "proxy") as groups:
        Poor.groups = groups
        with Poor(run.directory("poor")) as cluster:
            fleet = Fleet(join_all(cluster, hosts), cluster.address)
            try:
                fleet.start()
                run.report.fault(f"a limit of {LIMIT // MIB} MB", len(groups))
                fleet.await_all(0)
                _await_listed(cluster, hosts)
                ends, own = time.monotonic() + seconds, dict.fromkeys(groups, 0)
                while time.monotonic() < ends:
                    own = {name: max(own[name], each.own) for name, each in groups.items()}
                    time.sleep(0.5)
                wait_for_port(cluster.proxy_port)
                kept = _listed(cluster)
                ended = [n for n in groups if getattr(cluster, n).poll() is not None]
            finally:
                fleet.close()
        for name, each in groups.items():
            limit = LIMIT // MIB
            run.report.at_most(f"memory of {name}", own[name] // MIB, limit, "MB", count=hosts)
            peak = each.peak // MIB
            run.report.told(f"{name}, with pages of files, at its peak", peak, "MB", count=hosts)
            run.report.none(f"{name}: ended for want of memory", range(each.kills), count=hosts)
    run.report.none("daemons that have ended", ended, count=len(groups))
    run.report.at_least("hosts with a tunnel at the end", kept, hosts, count=hosts)
