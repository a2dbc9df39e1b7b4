"""Auth is away: who is inside stays, who has a certificate comes in, and all of it is told later.

Real processes: auth, a proxy that is a node too, and a node behind it with tunnels only. Ten
minutes go by in the tests of each part, which have clocks; here the whole stands still for seconds.
"""

import contextlib
import getpass
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from teleport_lite.errors import Unavailable
from tests.faults.report import BESIDE
from tests.faults.site import Auth
from tests.faults.test_disk_full import ready
from tests.faults.warm import Warm
from tests.flow.cluster import Cluster
from tests.postgres import Postgres
from tests.support import eventually, free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a node needs root")

ME = getpass.getuser()
# Sessions that are open all the time: half of them straight, half through a tunnel.
OPEN = 10
# New ones while auth is away, by each way.
NEW = 6
WAYS = ("front", "back")

_FRONT = """\
version: v3
teleport:
  nodename: front
  data_dir: {root}/front
  auth_server: {auth}
auth_service: {{enabled: no}}
ssh_service: {{listen_addr: "127.0.0.1:{ssh}"}}
proxy_service: {{web_listen_addr: "127.0.0.1:{web}", public_addr: "127.0.0.1:{web}"}}
"""


@dataclass
class Talk:
    """A session that answers each line with itself."""

    client: "subprocess.Popen[bytes]"

    def ask(self, line: bytes) -> float:
        """Seconds until the answer is here."""
        assert self.client.stdin
        assert self.client.stdout
        began = monotonic()
        self.client.stdin.write(line + b"\n")
        self.client.stdin.flush()
        assert self.client.stdout.readline() == line + b"\n"
        return monotonic() - began

    def end(self) -> None:
        assert self.client.stdin
        self.client.stdin.close()
        assert self.client.wait(60) == 0

    def close(self) -> None:
        self.client.kill()
        self.client.wait()
        for pipe in (self.client.stdin, self.client.stdout, self.client.stderr):
            if pipe is not None:
                pipe.close()


class World:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.ssh_port, self.web = cluster, free_port(), free_port()
        root, pin = cluster.root, f"--ca-pin={cluster.pin}"
        config = root / "front.yaml"
        config.write_text(
            _FRONT.format(root=root, auth=cluster.address, ssh=self.ssh_port, web=self.web)
        )
        config.chmod(0o600)
        token = f"--token={cluster.token('node,proxy')}"
        self.front = cluster.start_words("start", "-c", str(config), token, pin, name="front")
        self.front.wait_for("connected to auth")
        self.back = cluster.start(
            "--roles=node", f"--proxy=127.0.0.1:{self.web}", token, pin, name="back"
        )
        cluster.tctl("users", "add", "alice", f"--logins={ME}", "--roles=access")
        sign = ("auth", "sign", "--user=alice", "--format=openssh", f"--out={root / 'alice'}")
        cluster.tctl(*sign)
        self._write_config(root, cluster.name)
        for way in WAYS:
            eventually(lambda way=way: self.comes_in(way) == 0, what=f"a way to {way}")

    def _write_config(self, root: Path, name: str) -> None:
        (root / "known_hosts").write_text(self.cluster.tctl("auth", "export", "--type=host"))
        self.config = root / "ssh_config"
        self.config.write_text(
            f"Host front\n HostName 127.0.0.1\n Port {self.ssh_port}\n"
            f" HostKeyAlias front.{name}\n"
            f"Host jump\n HostName 127.0.0.1\n Port {self.web}\n HostKeyAlias front.{name}\n"
            f"Host back\n ProxyJump jump\n Port 22\n HostName back.{name}\n"
            f" HostKeyAlias back.{name}\n"
            f"Host *\n UserKnownHostsFile {root / 'known_hosts'}\n GlobalKnownHostsFile none\n"
            f" StrictHostKeyChecking yes\n IdentityFile {root / 'alice'}\n IdentitiesOnly yes\n"
            f" BatchMode yes\n User {ME}\n LogLevel ERROR\n IdentityAgent none\n"
        )

    def ssh(self, *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["ssh", "-F", str(self.config), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def comes_in(self, way: str, command: str = "true") -> int:
        client = self.ssh(way, command)
        client.communicate(timeout=60)
        return client.returncode

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cluster.json("audit", "ls")
        return found

    def wait_on_disk(self, name: str) -> int:
        """Bytes of events that a crash of that host now would not lose."""
        place = self.cluster.root / name / "log" / "events"
        files = [*place.glob("*.events"), *place.glob("*.taken")]
        return sum(file.stat().st_size for file in files)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Cluster(tmp_path_factory.mktemp("outage"), name="outage.example.com") as cluster:
        yield World(cluster)


@contextlib.contextmanager
def talks(world: World) -> Iterator[list[Talk]]:
    found = [Talk(world.ssh(WAYS[number % 2], "cat")) for number in range(OPEN)]
    try:
        for each in found:
            each.ask(b"hello")
        yield found
        for each in found:
            each.end()
    finally:
        for each in found:
            each.close()


def p99(found: list[Talk], rounds: int = 10) -> float:
    times = sorted(each.ask(b"x" * 20) for _ in range(rounds) for each in found)
    return times[int(len(times) * 0.99)]


def test_an_outage_of_auth_ends_nothing_and_loses_nothing(world: World) -> None:
    cluster = world.cluster
    with talks(world) as found:
        before = p99(found)
        # What is told just then may be told twice: the answer dies with auth.
        eventually(lambda: quiet(world), what="the trail to have all of it")
        cluster.auth.stop(signal.SIGKILL)
        told = {name: world.wait_on_disk(name) for name in WAYS}

        clients = [world.ssh(way, f"echo {number}") for number in range(NEW) for way in WAYS]
        recorded = world.ssh("-tt", "front", "echo recorded")
        for client in clients:
            said, wrong = client.communicate(timeout=60)
            assert client.returncode == 0, wrong
            assert said.strip().isdigit()
        recorded.communicate(timeout=60)
        assert recorded.returncode == 0
        during = p99(found)
        assert during <= before + 0.25 * BESIDE, (
            f"an echo took {before:.3f} s, and {during:.3f} s without"
        )
        for name in WAYS:
            eventually(
                lambda name=name: world.wait_on_disk(name) > told[name],
                what=f"what happens on {name} to be on its disk",
            )

        cluster.start_auth()
        back = monotonic()
        eventually(lambda: all_told(world), seconds=90, what="all that happened meanwhile")
        took = monotonic() - back
        assert took <= 60, f"it took {took:.1f} s"
        in_order(world.events())
        eventually(lambda: not any(world.wait_on_disk(name) for name in WAYS))
        p99(found, rounds=1)  # all of them are still there

    def states() -> dict[str, str]:
        return {each["hostname"]: each["state"] for each in cluster.json("nodes", "ls")}

    eventually(lambda: states() == {"front": "online", "back": "online"})


def quiet(world: World) -> bool:
    """Is everything told, but the ends of those that talk?"""
    events = world.events()
    starts, ends = (sessions(events, kind) for kind in ("session.start", "session.end"))
    return len(starts) - len(ends) == OPEN and not any(world.wait_on_disk(name) for name in WAYS)


def sessions(events: list[dict[str, Any]], kind: str) -> Counter[str]:
    return Counter(each["sid"] for each in events if each["event"] == kind)


def all_told(world: World) -> bool:
    events = world.events()
    ends = Counter(each["command"] for each in events if each["event"] == "session.end")
    missing = [number for number in range(NEW) if ends[f"echo {number}"] != len(WAYS)]
    return not missing and bool(sessions(events, "session.upload"))


def in_order(events: list[dict[str, Any]]) -> None:
    """Of each session the beginning is told before the end, and neither twice."""
    starts = {each["sid"]: each["seq"] for each in events if each["event"] == "session.start"}
    ends = {each["sid"]: each["seq"] for each in events if each["event"] == "session.end"}
    assert set(ends) <= set(starts)
    assert all(starts[sid] < ends[sid] for sid in ends)
    for kind in ("session.start", "session.end"):
        assert set(sessions(events, kind).values()) <= {1}


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as made:
        yield made


@pytest.fixture
def shared_auth(warm: Warm, tmp_path: Path, database: str) -> Iterator[Auth]:
    """On PostgreSQL."""
    storage = f"  storage: {{type: postgresql, conn_string: '{database}'}}"
    auth = Auth(warm, tmp_path, teleport=storage)
    auth.start()
    yield auth
    auth.stop()


def test_while_its_database_is_away_auth_says_so_and_is_well_ten_seconds_after(
    shared_auth: Auth, postgres: Postgres, database: str
) -> None:
    auth, name = shared_auth, database.partition("@/")[2].partition("?")[0]
    kept = auth.token("node")
    assert ready(auth)[0] == 200
    postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    postgres.cut(database)
    away = monotonic()
    eventually(lambda: ready(auth)[0] == 503, what="/readyz says so")
    assert ready(auth)[1]["components"]["auth"].startswith("read-only: ")
    with pytest.raises(Unavailable):
        auth.token("node")
    said = auth.ask("/v1/status")  # tctl status
    assert said["store"]
    assert said["ca_pins"]
    assert said["cas"]
    postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    back = monotonic()
    eventually(lambda: ready(auth)[0] == 200, what="it is well again")
    assert monotonic() - back <= 10 * BESIDE
    assert {each["token"] for each in auth.ask("/v1/tokens/list")["tokens"]} == {kept}
    auth.token("node")
    assert auth.ask("/v1/audit/verify")["broken_at"] is None
    lines = [
        line for line in auth.log.read_text().splitlines() if " WARN " in line or "ERR" in line
    ]
    assert len(lines) <= 4 + (monotonic() - away) / 2, lines
    assert "Traceback" not in auth.log.read_text()
