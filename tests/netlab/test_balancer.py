"""Proxies behind a balancer, nodes behind a NAT that can only dial out."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netlab.lab import NODES
from tests.netlab.world import BALANCER, CLUSTER, World
from tests.support import eventually


@pytest.fixture(scope="module", params=["roundrobin", "source"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Two proxies. With source hash the balancer sends every node to the same one, always."""
    root = tmp_path_factory.mktemp(request.param)
    source = request.param == "source"
    with World(root, algorithm=request.param, header=source) as world:
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
    sessions = [_session(world, node) for node in NODES for _ in range(2)]
    for session in sessions:
        _echo(session, b"before")
    world.end("proxy1", kill=True)
    alive = [each for each in sessions if _answers(each)]
    # Round robin spreads them; with source hash all may have been at either.
    for each in alive:
        _echo(each, b"still here")
    eventually(lambda: world.ssh(f"root@n1.{CLUSTER}", "true").returncode == 0, seconds=30)
    for node in NODES:
        assert world.ssh(f"root@{node}.{CLUSTER}", "true").returncode == 0
    world.proxy("proxy1")
    world.wait_for_tunnels("proxy1", "proxy2")
    for each in alive:
        _echo(each, b"and here")
    for each in sessions:
        each.kill()
        each.wait()


def test_a_proxy_added_later_is_found(world: World) -> None:
    world.proxy("proxy3")
    world.wait_for_tunnels("proxy1", "proxy2", "proxy3")
    world.end("proxy3")
    world.wait_for_tunnels("proxy1", "proxy2")


def test_a_mapping_the_nat_forgot_is_found_and_rebuilt(world: World) -> None:
    lost = world.lab.forget_mappings("n1", "10.77.1.20", 3080)
    assert lost
    eventually(lambda: world.ssh(f"root@n1.{CLUSTER}", "true").returncode == 0, seconds=60)
    world.wait_for_tunnels("proxy1", "proxy2")


def _session(world: World, node: str) -> "subprocess.Popen[bytes]":
    config = str(world.root / "ssh_config")
    return world.lab.popen(
        "client", "ssh", "-F", config, f"root@{node}.{CLUSTER}", "cat", env=world.env
    )


def _echo(session: "subprocess.Popen[bytes]", words: bytes) -> None:
    assert session.stdin
    assert session.stdout
    session.stdin.write(words + b"\n")
    session.stdin.flush()
    assert session.stdout.readline() == words + b"\n"


def _answers(session: "subprocess.Popen[bytes]") -> bool:
    try:
        _echo(session, b"after")
    except (BrokenPipeError, AssertionError):
        return False
    return True
