"""Joins: how long one takes, and how many a second one auth server answers.

The peer issues the same two certificates, one SSH and one X.509, with OpenSSH's ssh-keygen and
openssl: what a script around them would do, without proof, store or network.
"""

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.world import World
from teleport_lite.agent import join as agent_join
from teleport_lite.agent.join import JoinRequest, join
from teleport_lite.ambient import SystemClock
from teleport_lite.proto.join import token_name
from teleport_lite.secret import Secret

WORKERS = 4
COUNT = 200


def rows(world: World, rounds: int, figure: Callable[..., Any]) -> list[Any]:
    token = world.tctl("tokens", "add", "--type=app", "--ttl=1h", "--format=text").strip()
    peer = Peer(world.root / "peer")
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_timed(lambda: _join(world, token)))
        theirs.append(_timed(peer.issue))
    cpu_ours, cpu_theirs = [], []
    for _ in range(max(3, rounds // 5)):
        cpu_ours.append(_cpu_of_auth(world, token))
        cpu_theirs.append(_cpu_of_peer(peer))
    name = "ssh-keygen and openssl, two certificates"
    per_second = 1000 / statistics.median(cpu_ours)
    return [
        figure("one join, client's wait", name, ours, theirs, unit="ms", budget=""),
        figure(
            f"CPU of auth for a join, {WORKERS} hosts at once",
            name,
            cpu_ours,
            cpu_theirs,
            unit="ms",
            budget=f"400 joins a second and core; here {per_second:.0f}",
        ),
    ]


def _join(world: World, token: str) -> None:
    join(
        JoinRequest(
            servers=(f"127.0.0.1:{world.auth_port}",),
            token=Secret(token),
            pins=(world.pin,),
            roles=("App",),
            node_name="bench-join",
            clock=SystemClock(),
            say=lambda _: None,
        )
    )


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _cpu_of_auth(world: World, token: str) -> float:
    """Milliseconds of the auth process for each join: what limits joins a second.

    The slow hash of the token, 40 ms of each host's own time, is computed once here: a fleet has
    its own processors for that, and auth would only be measured half asleep.
    """
    name = token_name(Secret(token))
    agent_join.token_name = lambda _: name  # type: ignore[assignment]  # as promised above
    before = _cpu(world.auth.pid)
    children = []
    for _ in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for _ in range(COUNT // WORKERS):
                    _join(world, token)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    for pid in children:
        if os.waitpid(pid, 0)[1]:
            raise SystemExit("a join failed")
    return (_cpu(world.auth.pid) - before) * 1000 / COUNT


def _cpu_of_peer(peer: "Peer") -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(COUNT // 10):
        peer.issue()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent * 1000 / (COUNT // 10)


def _cpu(pid: int) -> float:
    """Seconds of user and system time (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Peer:
    """ssh-keygen -s and openssl x509 -req over keys made once."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._root = root
        run = self._run
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "ca")
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key")
        run(
            "openssl", "req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=ca", "-out", "ca.pem"
        )

    def issue(self) -> None:
        run, name = self._run, f"host-{os.getpid()}"
        for old in self._root.glob(f"{name}*"):
            old.unlink()
        subject = f"/CN={name}"
        # fmt: off
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name)
        run("ssh-keygen", "-q", "-s", "ca", "-h", "-I", name, "-n", name, "-V", "+30d",
            f"{name}.pub")
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
        run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem",
            "-CAkey", "ca.key", "-days", "30", "-out", f"{name}.pem")
        # fmt: on

    def _run(self, *words: str) -> None:
        subprocess.run(words, cwd=self._root, check=True, capture_output=True)
