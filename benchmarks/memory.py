"""What an idle agent costs in memory."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.world import World

# "SSH agent RAM vs concurrent sessions" of Teleport's scaling page: 230 MiB without any.
TELEPORT_AGENT_MIB = 230.0


def rows(world: World, figure: Callable[..., Any]) -> list[Any]:
    time.sleep(3)  # let what the start left behind settle; nothing is awaited here
    family = _family(world.node.pid)
    rss = _sum(family[:1], "smaps_rollup", "Rss")
    pss = _sum(family, "smaps_rollup", "Pss")
    sshd = _sum(_family(world.sshd.pid), "smaps_rollup", "Pss")
    auth = _sum(_family(world.auth.pid), "smaps_rollup", "Pss")
    teleport = "Teleport's agent (its docs)"
    return [
        figure(
            "idle node agent, RSS of the daemon",
            teleport,
            [rss],
            [TELEPORT_AGENT_MIB],
            unit="MiB",
            budget="60 MiB",
        ),
        figure(
            f"idle node agent, PSS of all {len(family)} processes",
            teleport,
            [pss],
            [TELEPORT_AGENT_MIB],
            unit="MiB",
            budget="",
        ),
        figure(
            "idle node agent, PSS of all", "idle sshd, PSS", [pss], [sshd], unit="MiB", budget=""
        ),
        figure("idle auth, PSS", teleport, [auth], [TELEPORT_AGENT_MIB], unit="MiB", budget=""),
    ]


def _family(pid: int) -> list[int]:
    """The process and everything below it."""
    listing = subprocess.check_output(["ps", "-eo", "pid=,ppid="], text=True)
    parents = {int(p): int(pp) for p, pp in (line.split() for line in listing.splitlines())}
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def _sum(pids: list[int], file: str, field: str) -> float:
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(f"{field}:"):
                total += int(line.split()[1])
    return total / 1024
