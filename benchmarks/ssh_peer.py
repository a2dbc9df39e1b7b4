"""asyncssh's server on the CAs of the benchmark, and what the rows of SSH have in common.

Run as a script it is the server: port, host key (its certificate beside it), the user CA's file,
and the account that commands run as.
"""

import asyncio
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import asyncssh

from benchmarks.world import World, free_port, wait_for_port

# The order rotates from round to round, so that nobody is always behind the same neighbour.
SERVERS = ("node", "sshd", "asyncssh")
PEERS = {"sshd": "OpenSSH sshd", "asyncssh": "asyncssh"}


def start(world: World) -> None:
    """Once for all rows; ends with the world."""
    if "asyncssh" in world.ports:
        return
    port = world.ports["asyncssh"] = free_port()
    key, ca = world.root / "sshd_key", world.root / "user_ca.pub"
    words = [str(port), str(key), str(ca), world.login]
    world.peer = world.run([sys.executable, "-m", "benchmarks.ssh_peer", *words], "asyncssh.log")
    wait_for_port(port)


def in_turn(rounds: int, measure: Callable[[str], float]) -> dict[str, list[float]]:
    """One figure of each server in each round."""
    found: dict[str, list[float]] = {name: [] for name in SERVERS}
    for turn in range(rounds):
        for place in range(len(SERVERS)):
            where = SERVERS[(turn + place) % len(SERVERS)]
            found[where].append(measure(where))
    return found


def compared(
    what: str,
    found: dict[str, list[float]],
    figure: Callable[..., Any],
    *,
    unit: str,
    budgets: Sequence[str],
) -> list[Any]:
    """A row against each peer; budgets in the order of PEERS."""
    return [
        figure(what, peer, found["node"], found[name], unit=unit, budget=budget)
        for (name, peer), budget in zip(PEERS.items(), budgets, strict=True)
    ]


# --- the server


async def _handle(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    """The pattern of asyncssh's documentation: a subprocess, its streams redirected."""
    account = pwd.getpwnam(sys.argv[4])
    more: dict[str, Any] = {"start_new_session": True, "bufsize": 0, "cwd": "/"}
    if os.geteuid() == 0:
        more |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    command = ["/bin/sh", "-c", process.command] if process.command else ["/bin/sh"]
    if process.term_type:
        ours, theirs = os.openpty()
        os.fchown(theirs, account.pw_uid, -1)
        child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, **more)
        os.close(theirs)
        writer = os.fdopen(os.dup(ours), "wb", 0)
        await process.redirect(stdin=writer, stdout=os.fdopen(ours, "rb", 0))
    else:
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, **more)
        await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    await process.stdout.drain()
    process.exit(await asyncio.to_thread(child.wait) & 255)


async def _serve(port: int, key: str, ca: str, login: str) -> None:
    with open(ca) as file:
        trusted = f'cert-authority,principals="{login}" {file.read()}'
    pair = asyncssh.read_private_key(key), asyncssh.read_certificate(f"{key}-cert.pub")
    await asyncssh.listen(
        "127.0.0.1",
        port,
        server_host_keys=[pair],
        authorized_client_keys=asyncssh.import_authorized_keys(trusted),
        process_factory=_handle,
        encoding=None,
        sftp_factory=True,
        backlog=1024,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), *sys.argv[2:5]))
