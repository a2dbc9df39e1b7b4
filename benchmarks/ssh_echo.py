"""A key pressed until its echo is there: through ssh, a terminal and a `cat` behind it."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

from benchmarks import ssh_peer
from benchmarks.world import World

KEYS = 300  # in each round, one after the other
PAUSE = 0.003  # seconds; as between keys of somebody very quick, and so that nothing batches
READY = b"READY"


def rows(world: World, rounds: int, figure: Callable[..., Any]) -> list[Any]:
    ssh_peer.start(world)
    samples: dict[str, list[list[float]]] = {name: [] for name in ssh_peer.SERVERS}

    def median(where: str) -> float:
        samples[where].append(_typed(world, where))
        return statistics.median(samples[where][-1])

    middle = ssh_peer.in_turn(max(3, rounds // 3), median)
    worst = {name: [_p99(each) for each in lists] for name, lists in samples.items()}
    what = "echo of a key on a terminal"
    budgets = ("3, and 1 ms", "")
    return [
        *ssh_peer.compared(f"{what}, median", middle, figure, unit="ms", budgets=budgets),
        *ssh_peer.compared(f"{what}, p99", worst, figure, unit="ms", budgets=("", "")),
    ]


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _typed(world: World, where: str) -> list[float]:
    *command, target = world.ssh(where)
    script = f"stty raw -echo; echo {READY.decode()}; exec cat"
    words = [*command, "-tt", "-e", "none", target, script]
    pipe = subprocess.PIPE
    times = []
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as client:
        assert client.stdin
        assert client.stdout
        keys, echo = client.stdin.fileno(), client.stdout.fileno()
        said = b""
        while READY not in said:
            if not (more := os.read(echo, 4096)):
                raise SystemExit(f"ssh ended: {said!r}")
            said += more
        time.sleep(0.3)  # until cat has taken over
        for _ in range(KEYS):
            began = time.perf_counter()
            os.write(keys, b"x")
            os.read(echo, 4096)
            times.append((time.perf_counter() - began) * 1000)
            time.sleep(PAUSE)
        client.kill()
    return times
