"""How long a command takes before it does its work, and how big the file is."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

from benchmarks.world import PYZ, World

# Teleport 16 for linux-amd64, compressed, as its download page has it.
TELEPORT_DOWNLOAD_MB = 180.0


def rows(world: World, rounds: int, figure: Callable[..., Any]) -> list[Any]:
    tctl = [str(world.bin / "tctl"), "-c", str(world.root / "auth.yaml")]
    commands = {
        "tctl --version": ([str(world.bin / "tctl"), "--version"], "+5 ms"),
        "tctl status": ([*tctl, "status"], "+80 ms"),
        "tctl nodes ls": ([*tctl, "nodes", "ls"], "+80 ms"),
    }
    found = []
    for what, (command, budget) in commands.items():
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(_timed(world, [world.python, "-c", "pass"]))
            ours.append(_timed(world, command))
        extra = sorted(a - b for a, b in zip(ours, theirs, strict=True))[len(ours) // 2]
        note = f"{budget}; here {extra:+.0f} ms"
        found.append(figure(what, "python3 -c pass", ours, theirs, unit="ms", budget=note))
    return found


def size(_: World, figure: Callable[..., Any]) -> list[Any]:
    ours = PYZ.stat().st_size / 1e6
    return [
        figure(
            "the file (this Python, this architecture)",
            "Teleport's download (its docs)",
            [ours],
            [TELEPORT_DOWNLOAD_MB],
            unit="MB",
            budget="26 MB for four Pythons",
        )
    ]


def _timed(world: World, command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=world.env, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000
