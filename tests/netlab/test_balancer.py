"""Proxies behind a balancer, nodes behind a NAT that can only dial out."""

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.netlab.lab import NODES, SERVERS, refusal
from tests.netlab.world import BALANCER, CLUSTER, World
from tests.support import eventually

# Nine daemons in as many machines, on the processors of one.
pytestmark = pytest.mark.timeout(600)

# Every address is reached; or nothing but the balancer.
OPEN, BEHIND, BEHIND_HASH = "leastconn", "roundrobin", "source"


# Round robin is between the two others, and takes two minutes of its own.
WAYS: tuple[str, ...] = (OPEN, BEHIND_HASH)
if "TELEPORT_LITE_BALANCERS" in os.environ:
    WAYS = (OPEN, BEHIND, BEHIND_HASH)


@pytest.fixture(scope="module", params=WAYS)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Two proxies. With least connections their own addresses are reached as well, else nothing
    but the balancer is. With source hash it sends every node to the same one, always, and tells
    the proxies who connects."""
    if why := refusal():
        pytest.skip(f"no network namespaces here: {why}")
    root = tmp_path_factory.mktemp(request.param)
    with World(root, algorithm=request.param, header=request.param == BEHIND_HASH) as world:
        if request.param != OPEN:
            world.lab.only_the_balancer()
        world.balancer("proxy1", "proxy2", "proxy3")
        for name in ("proxy1", "proxy2"):
            world.proxy(name)
        token, pin = world.token("node"), world.pin
        for number, name in enumerate(NODES):
            server = "proxy" if number else "auth-server"  # both spellings mean the same
            world.node(name, f"--{server}={BALANCER}", f"--token={token}", f"--ca-pin={pin}")
        world.wait_for_tunnels("proxy1", "proxy2")
        world.add_user("alice", "--logins=root", "--roles=access")
        yield world


@pytest.mark.parametrize("node", NODES)
def test_plain_ssh_reaches_every_node(world: World, node: str) -> None:
    done = world.ssh(f"root@{node}.{CLUSTER}", "hostname; echo $SSH_TELEPORT_USER")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "alice"


@pytest.mark.parametrize("node", NODES)
def test_tsh_ssh_and_scp_reach_every_node(world: World, node: str, tmp_path: Path) -> None:
    done = world.run("client", "tsh", "ssh", f"root@{node}", "exit 7")
    assert done.returncode == 7, done.stderr
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(bytes(range(256)) * 4096)
    to = tmp_path / "there"
    done = world.run("client", "tsh", "scp", str(sent), f"root@{node}:{to}")
    assert done.returncode == 0, done.stderr
    config = str(world.root / "ssh_config")
    done = world.run("client", "scp", "-F", config, f"root@{node}.{CLUSTER}:{to}", str(back))
    assert done.returncode == 0, done.stderr
    assert back.read_bytes() == sent.read_bytes()


def test_a_dead_proxy_breaks_nothing_of_the_other(world: World) -> None:
    """Only source hash never lets a tunnel land on the proxy it is for: then the other's may come
    through this one."""
    if world.tunnels_land:
        world.wait_for_direct_tunnels("proxy1", "proxy2")
    # What was before may be told only now. The trail knows whole seconds.
    began = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    eventually(lambda: datetime.now(UTC) >= began)
    sessions = [Session(world, node, began) for node in NODES for _ in range(2)]
    others = [each for each in sessions if each.proxy == "proxy2"]
    world.end("proxy1", kill=True)
    alive = [each for each in sessions if each.answers(b"after")]
    if world.tunnels_land:
        assert others
        assert alive == others
    for node in NODES:
        eventually(lambda: world.ssh(f"root@{node}.{CLUSTER}", "true").returncode == 0)  # noqa: B023  # it is over before the next
    world.proxy("proxy1")
    world.wait_for_tunnels("proxy1", "proxy2")
    assert all(each.answers(b"still here") for each in alive)
    for each in sessions:
        each.close()


def test_a_proxy_added_later_is_found(world: World) -> None:
    world.proxy("proxy3")
    world.wait_for_tunnels("proxy1", "proxy2", "proxy3")
    world.end("proxy3")
    world.wait_for_tunnels("proxy1", "proxy2")


# The same whoever balances.
@pytest.mark.parametrize("world", [BEHIND_HASH], indirect=True, scope="module")
def test_a_mapping_the_nat_forgot_is_found_and_rebuilt(world: World) -> None:
    def mappings() -> list[str]:
        found = (world.lab.mappings("n1", each, 3080) for each in SERVERS.values())
        return [port for ports in found for port in ports]

    # A tunnel to each of the proxies, and the stream to auth.
    eventually(lambda: len(mappings()) >= 3, what="all that a node has open")
    world.lab.forget_mappings(mappings())
    eventually(lambda: world.ssh(f"root@n1.{CLUSTER}", "true").returncode == 0, seconds=90)
    world.wait_for_tunnels("proxy1", "proxy2")


def connects(world: World, since: datetime) -> list[dict[str, Any]]:
    found = world.events("session.connect")
    return [each for each in found if datetime.fromisoformat(each["time"]) >= since]


class Session:
    """A `cat` on a node, and the proxy it goes through."""

    def __init__(self, world: World, node: str, since: datetime) -> None:
        before = len(connects(world, since))
        config = str(world.root / "ssh_config")
        words = ("ssh", "-F", config, f"root@{node}.{CLUSTER}", "cat")
        self._process = world.lab.popen("client", *words, env=world.env)
        assert self.answers(b"hello"), "there is no session"
        told = eventually(lambda: connects(world, since)[before:], what="it in the trail")
        self.proxy = world.host_name(told[0]["server_id"])

    def answers(self, words: bytes) -> bool:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(words + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return self._process.stdout.readline() == words + b"\n"

    def close(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
