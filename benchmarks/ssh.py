"""A whole `ssh node true`: connect, key exchange, login by certificate, exec, exit status."""

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import ssh_peer
from benchmarks.world import World

AT_ONCE = 10


def rows(world: World, rounds: int, figure: Callable[..., Any]) -> list[Any]:
    ssh_peer.start(world)
    for where in ssh_peer.SERVERS:
        _one(world.ssh(where, "true"))  # first use of caches is nobody's merit
    serial = ssh_peer.in_turn(rounds, lambda where: _one(world.ssh(where, "true")))
    few = max(3, rounds // 3)
    together = ssh_peer.in_turn(few, lambda where: _many(world.ssh(where, "true")))
    budgets = ("0.5", "")
    return [
        *ssh_peer.compared(
            "ssh node true, one after the other", serial, figure, unit="ms", budgets=budgets
        ),
        *ssh_peer.compared(
            f"ssh node true, {AT_ONCE} at once", together, figure, unit="ms", budgets=budgets
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
