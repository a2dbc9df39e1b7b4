"""What connections cost that do nothing: memory (PSS) and processor time, at 0, 50 and 200.

Each is logged in with one session, a `cat` that waits. That belongs to the user and is not
counted: only processes of the server are.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh

from benchmarks import ssh_peer
from benchmarks.memory import _family
from benchmarks.world import World

CROWDS = (0, 50, 200)
AT_ONCE = 5  # logins at once; servers turn away more of them from one address
SETTLE, WATCH = 2.0, 10.0  # seconds
SHELLS = ("cat", "sh")
FLOOR = 1.0  # ms a second: a thousandth of a processor is nothing, and nothing divides nothing


def rows(world: World, figure: Callable[..., Any]) -> list[Any]:
    """Once for each server: the sizes hardly vary, and 200 logins take their time."""
    ssh_peer.start(world)
    roots = {"node": world.node.pid, "sshd": world.sshd.pid, "asyncssh": world.peer.pid}
    pss: dict[str, dict[int, float]] = {}
    cpu: dict[str, dict[int, float]] = {}
    for where in ssh_peer.SERVERS:
        pss[where], cpu[where] = asyncio.run(_crowds(world, where, roots[where]))
        time.sleep(SETTLE)  # so that its end is not measured with the next
    figures = []
    for size in CROWDS:
        memory = {where: [pss[where][size]] for where in ssh_peer.SERVERS}
        busy = {where: [max(cpu[where][size], FLOOR)] for where in ssh_peer.SERVERS}
        each = f"each of {size} idle connections" if size else "without connections"
        limit = ("2", "") if size else ("", "")
        figures += ssh_peer.compared(f"PSS, {each}", memory, figure, unit="MiB", budgets=limit)
        budget = ("1.5", "") if size == CROWDS[-1] else ("", "")
        figures += ssh_peer.compared(
            f"processor time with {size} idle", busy, figure, unit="ms/s", budgets=budget
        )
    return figures


async def _crowds(world: World, where: str, root: int) -> tuple[dict[int, float], dict[int, float]]:
    """PSS in MiB (the whole server at 0, then for each connection), and ms of CPU a second."""
    pss: dict[int, float] = {}
    cpu: dict[int, float] = {}
    crowd: list[asyncssh.SSHClientConnection] = []
    door = asyncio.Semaphore(AT_ONCE)
    try:
        for size in CROWDS:
            more = [_guest(world, where, door) for _ in range(size - len(crowd))]
            crowd += await asyncio.gather(*more)
            await asyncio.sleep(SETTLE)
            before = _busy(root)
            await asyncio.sleep(WATCH)
            cpu[size] = (_busy(root) - before) / WATCH
            total = sum(_pss(pid) for pid in _servers(root))
            pss[size] = (total - pss[0]) / size if size else total
    finally:
        for connection in crowd:
            connection.abort()
    return pss, cpu


async def _guest(world: World, where: str, door: asyncio.Semaphore) -> asyncssh.SSHClientConnection:
    alias = next(w for w in world.ssh(where) if w.startswith("HostKeyAlias=")).partition("=")[2]
    async with door:
        connection = await asyncssh.connect(
            "127.0.0.1",
            world.ports[where],
            username=world.login,
            client_keys=[str(world.root / "alice")],
            known_hosts=str(world.root / "known_hosts"),
            host_key_alias=alias,
            config=None,
            agent_path=None,
            encryption_algs=["aes128-gcm@openssh.com"],
            kex_algs=["curve25519-sha256@libssh.org"],
        )
        await connection.create_process("exec cat")
        return connection


def _servers(root: int) -> Iterator[int]:
    for pid in _family(root):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() not in SHELLS:
                yield pid
        except OSError:
            continue  # ended meanwhile


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _busy(root: int) -> float:
    """Milliseconds on a processor since each thread began (first field of schedstat, in ns)."""
    found = 0
    for pid in _servers(root):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += int((thread / "schedstat").read_text().split()[0])
    return found / 1e6
