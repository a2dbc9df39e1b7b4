"""A whole `ssh node true`: connect, key exchange, login by certificate, exec, exit status."""

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.world import World

AT_ONCE = 10


def rows(world: World, rounds: int, figure: Callable[..., Any]) -> list[Any]:
    serial: dict[str, list[float]] = {"node": [], "sshd": []}
    together: dict[str, list[float]] = {"node": [], "sshd": []}
    for where in ("node", "sshd"):
        _one(world.ssh(where, "true"))  # first use of caches is nobody's merit
    for _ in range(rounds):
        for where in ("node", "sshd"):
            serial[where].append(_one(world.ssh(where, "true")))
    for _ in range(max(3, rounds // 3)):
        for where in ("node", "sshd"):
            together[where].append(_many(world.ssh(where, "true")))
    return [
        figure(
            "ssh node true, one after the other",
            "OpenSSH sshd, same client",
            serial["node"],
            serial["sshd"],
            unit="ms",
            budget="0.5",
        ),
        figure(
            f"ssh node true, {AT_ONCE} at once",
            "OpenSSH sshd, same client",
            together["node"],
            together["sshd"],
            unit="ms",
            budget="0.5",
        ),
    ]


def _one(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return (time.perf_counter() - began) * 1000


def _many(command: Sequence[str]) -> float:
    """Wall time until the last of them is done."""
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for _ in range(AT_ONCE)
    ]
    for process in running:
        _, said = process.communicate()
        if process.returncode:
            raise SystemExit(f"ssh failed: {said.decode()}")
    return (time.perf_counter() - began) * 1000
