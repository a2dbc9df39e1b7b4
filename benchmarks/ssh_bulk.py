"""Bytes by the hundred million: through a command both ways, and as a file by sftp both ways.

Whole commands, so the set-up is in it: what a person waits for. Files live in memory, since a disk
would be what is measured.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import ssh_peer
from benchmarks.world import World

MB = 500  # millions of bytes, as the budget says
BLOCK = 62_500  # bytes; 16 of them are a million
ZEROS = f"dd if=/dev/zero bs={BLOCK} count={MB * 16} status=none"


def rows(world: World, rounds: int, figure: Callable[..., Any]) -> list[Any]:
    """Throughput, so more is better: a ratio of 2 is twice as fast as the peer."""
    ssh_peer.start(world)
    few = max(3, rounds // 3)
    ways = {
        "exec, download": (_download, (">= 1.0", ">= 1.5")),
        "exec, upload": (_upload, (">= 1.0", ">= 1.5")),
    }
    return _measured(world, few, ways, figure)


def files(world: World, rounds: int, figure: Callable[..., Any]) -> list[Any]:
    ssh_peer.start(world)
    few = max(3, rounds // 3)
    shelf = Path(tempfile.mkdtemp(prefix="tl-bench-", dir=_memory()))
    try:
        if os.geteuid() == 0:
            os.chown(shelf, pwd.getpwnam(world.login).pw_uid, -1)
        with (shelf / "file").open("wb") as file:
            for _ in range(MB):
                file.write(os.urandom(1_000_000))
        (shelf / "file").chmod(0o644)
        ways = {
            f"sftp get, {MB} MB": (partial(_get, shelf), (">= 0.8", "")),
            f"sftp put, {MB} MB": (partial(_put, shelf), (">= 0.8", "")),
        }
        return _measured(world, few, ways, figure)
    finally:
        shutil.rmtree(shelf)


def _measured(
    world: World, rounds: int, ways: dict[str, Any], figure: Callable[..., Any]
) -> list[Any]:
    figures = []
    for what, (way, budgets) in ways.items():
        found = ssh_peer.in_turn(rounds, partial(_rate, way, world))
        figures += ssh_peer.compared(what, found, figure, unit="MB/s", budgets=budgets)
    return figures


def _rate(way: Callable[[World, str], None], world: World, where: str) -> float:
    began = time.perf_counter()
    way(world, where)
    return MB / (time.perf_counter() - began)


def _download(world: World, where: str) -> None:
    command = world.ssh(where, ZEROS)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _upload(world: World, where: str) -> None:
    with subprocess.Popen(ZEROS.split(), stdout=subprocess.PIPE) as source:
        subprocess.run(world.ssh(where, "cat >/dev/null"), check=True, stdin=source.stdout)


def _get(shelf: Path, world: World, where: str) -> None:
    _batch(sftp(world, where), f"get {shelf}/file {shelf}/got-{where}\n")


def _put(shelf: Path, world: World, where: str) -> None:
    _batch(sftp(world, where), f"put {shelf}/file {shelf}/put-{where}\n")


def _batch(command: Sequence[str], line: str) -> None:
    subprocess.run(command, check=True, input=line.encode(), stdout=subprocess.DEVNULL)


def sftp(world: World, where: str) -> Sequence[str]:
    *ssh, _flag, port, target = world.ssh(where)
    return ["sftp", "-q", "-b", "-", *ssh[1:], "-P", port, target]


def _memory() -> str | None:
    """A file system in memory, where there is one with room for three copies."""
    if Path("/dev/shm").is_dir() and shutil.disk_usage("/dev/shm").free > 8 * MB * 1_000_000:
        return "/dev/shm"
    return None
