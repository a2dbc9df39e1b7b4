"""A rotation of host and user CA under load, by hand, through every phase, after one that was
rolled back: nobody is dropped, nobody is kept out who should come in, and at the end the old CA
is worth nothing."""

import os
import pwd
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent import identity as identities
from teleport_lite.agent.join import JoinRequest, join
from teleport_lite.ambient import SystemClock
from teleport_lite.client.doors import UnixDoor
from teleport_lite.client.transport import Transport
from teleport_lite.errors import Denied
from teleport_lite.secret import Secret
from tests.flow.proxied import PASSWORD, Proxied
from tests.flow.test_restart import Echo
from tests.support import eventually, free_port

ME = pwd.getpwuid(os.getuid()).pw_name
# Straight to the node's port, through the proxy, and down a tunnel.
WAYS = ("straight", "far.proxied.example.com", "back.proxied.example.com")
_DIRECT = """\
version: v3
teleport:
  nodename: far
  data_dir: {data}
  auth_server: {auth}
auth_service: {{enabled: no}}
proxy_service: {{enabled: no}}
ssh_service: {{listen_addr: "127.0.0.1:{port}"}}
"""


@dataclass
class World:
    """Auth, a proxy, a node with a port, a node with tunnels, and one that is switched off."""

    cluster: Proxied
    port: int = field(default_factory=free_port)
    joined: int = 0

    def begin(self) -> None:
        cluster = self.cluster
        root, pin = cluster.root, f"--ca-pin={cluster.pin}"
        self.token = cluster.token("node")
        config = root / "far.yaml"
        config.write_text(_DIRECT.format(data=root / "far", auth=cluster.address, port=self.port))
        config.chmod(0o600)
        token = f"--token={self.token}"
        cluster.start_words("start", "-c", str(config), token, pin, name="far")
        through = (f"--proxy={cluster.proxy}", token, pin)
        cluster.node("back", *through)
        away = cluster.node("away", *through)
        link = cluster.invite("alice", f"--logins={ME}", "--roles=access")
        cluster.set_password(link)
        done = cluster.login("alice")
        assert done.returncode == 0, done.stderr
        away.wait_for("connected to auth")
        away.stop()
        eventually(lambda: cluster.tunnelled("back"), what="a tunnel")
        eventually(lambda: all(connections(self).values()), what="all to be connected")
        self.write_config()

    def write_config(self, name: str = "ssh_config", keys: Path | None = None) -> Path:
        """For OpenSSH: `tsh config`, and the same profile straight to the node."""
        root, name_of = self.cluster.root, self.cluster.name
        home = root / "tsh"
        keys = keys or home / "keys" / "127.0.0.1"
        block = self.cluster.run("tsh", "config").stdout
        config = root / name
        config.write_text(
            "Host *\n BatchMode yes\n LogLevel ERROR\n ConnectTimeout 30\n"
            f" User {ME}\n IdentityAgent none\n"
            f"Host straight\n HostName 127.0.0.1\n Port {self.port}\n"
            f" HostKeyAlias far.{name_of}\n UserKnownHostsFile {home / 'known_hosts'}\n"
            f" GlobalKnownHostsFile none\n StrictHostKeyChecking yes\n"
            f" IdentityFile {keys / 'alice'}\n CertificateFile {keys / 'alice-cert.pub'}\n"
            f" IdentitiesOnly yes\n"
            f"{block}"
        )
        return config

    def rotate(self, phase: str = "", **more: Any) -> None:
        """The next step for both CAs, and everybody catches up."""
        asked = {"types": ["host", "user"], "phase": phase, "manual": True, **more}
        self.ask("/v1/auth/rotate", **asked)
        eventually(self._all_are_there, what=f"all hosts in phase {phase}")

    def _all_are_there(self) -> bool:
        found = self.ask("/v1/auth/rotation")["rotations"]
        return not any(each["hosts"]["waiting"] for each in found)

    def ask(self, path: str, **words: Any) -> dict[str, Any]:
        door = UnixDoor(self.cluster.data / "auth.sock")
        return Transport(door).ask(path, words)

    def ssh(self, *words: str, config: str = "ssh_config") -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["ssh", "-F", str(self.cluster.root / config), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.cluster.env,
        )

    def comes_in(self, *ways: str) -> None:
        """New sessions, at the same time."""
        clients = {way: self.ssh(way, "echo", "in") for way in ways}
        for way, client in clients.items():
            said, wrong = client.communicate(timeout=60)
            assert (client.returncode, said) == (0, b"in\n"), (way, wrong)

    def joins(self, pin: str) -> None:
        """A new host."""
        self.joined += 1
        join(
            JoinRequest(
                servers=(self.cluster.address,),
                token=Secret(self.token),
                pins=(pin,),
                roles=("Node",),
                node_name=f"new-{self.joined}",
                clock=SystemClock(),
                say=lambda _: None,
            )
        )

    def copy(self, where: Path) -> "subprocess.Popen[bytes]":
        """A transfer that takes about as long as all the rest."""
        (where / "here").write_bytes(os.urandom(1 << 20))
        words = ["scp", "-q", "-l", "600", "-F", str(self.cluster.root / "ssh_config")]
        words += [str(where / "here"), f"{WAYS[2]}:{where / 'there'}"]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, env=self.cluster.env)

    def echo(self, way: str, enough: threading.Event) -> Echo:
        transfer = Echo(self.ssh(way, "cat"), enough)
        eventually(lambda: transfer.back, what=f"a session by {way}")
        return transfer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Proxied(tmp_path_factory.mktemp("rotation")) as cluster:
        found = World(cluster)
        found.begin()
        yield found


@pytest.mark.timeout(600)
def test_both_cas_are_rotated_under_load(world: World, tmp_path: Path) -> None:
    cluster, enough = world.cluster, threading.Event()
    old_pin = cluster.pin
    transfers = [world.echo(way, enough) for way in WAYS]
    copy = world.copy(tmp_path)
    connected = connections(world)

    # One that is rolled back from its last middle phase.
    world.rotate("init")
    world.comes_in(*WAYS)  # the profile learns the new CA by it
    wait_for_two_cas(cluster.root)
    for phase in ("update_clients", "rollback"):
        world.rotate(phase)
        world.comes_in(*WAYS)
        world.joins(old_pin)
    world.rotate("standby")
    assert cluster.json("status")["ca_pins"] == [old_pin]
    world.comes_in(*WAYS)

    # One that is not.
    world.rotate("init")
    both = set(cluster.json("status")["ca_pins"])
    [new_pin] = both - {old_pin}
    world.comes_in(*WAYS)
    wait_for_two_cas(cluster.root)
    for phase in ("update_clients", "update_servers"):
        world.rotate(phase)
        world.comes_in(*WAYS)
        world.joins(old_pin)
        world.joins(new_pin)
    transfers.append(world.echo(WAYS[2], enough))
    old = tmp_path / "old"
    shutil.copytree(cluster.root / "tsh" / "keys" / "127.0.0.1", old)
    world.write_config("old_config", keys=old)
    assert cluster.run("tsh", "login", "--force", stdin=f"{PASSWORD}\n").returncode == 0
    world.rotate("standby")

    world.comes_in(*WAYS)
    check_that_the_old_is_worth_nothing(world, old_pin)
    world.joins(new_pin)
    sizes = [each.back for each in transfers]
    eventually(
        lambda: all(each.back > size for each, size in zip(transfers, sizes, strict=True)),
        what="all transfers to go on",
    )
    enough.set()
    for each in transfers:
        each.end()
    assert copy.wait(60) == 0
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()
    assert connections(world) == connected
    assert "has ended" not in (cluster.root / "back.log").read_text()
    check_who_was_away(world, new_pin)


def wait_for_two_cas(root: Path) -> None:
    known = root / "tsh" / "known_hosts"
    eventually(lambda: known.read_text().count("@cert-authority") == 2, what="both in the profile")


def connections(world: World) -> dict[str, int]:
    """How often each host has connected to auth: a rotation is no reason to do so again."""
    logs = {name: world.cluster.root / f"{name}.log" for name in ("proxy-1", "far", "back")}
    return {name: log.read_text().count("connected to auth at") for name, log in logs.items()}


def check_that_the_old_is_worth_nothing(world: World, old_pin: str) -> None:
    with pytest.raises(Denied, match=r"rotated on \d{4}-\d\d-\d\d .* UTC") as refused:
        world.joins(old_pin)
    assert "tctl status" in refused.value.hint

    # Auth does at once. A node does when it has heard of it, a moment later.
    def refused_by_a_node() -> bool:
        client = world.ssh("straight", "true", config="old_config")
        _, wrong = client.communicate(timeout=60)
        return client.returncode == 255 and b"Permission denied" in wrong

    eventually(refused_by_a_node, what="the old certificate to be refused")


def check_who_was_away(world: World, new_pin: str) -> None:
    """It says why it can not come back, and does with a token, as who it was."""
    cluster = world.cluster
    before = identities.load(cluster.root / "away")
    assert before is not None
    flags = ("--roles=node", f"--proxy={cluster.proxy}")
    done = cluster.fails(*flags, name="away")
    assert done.returncode != 0
    assert "the host CA was rotated on" in done.stderr
    assert "while this host was away" in done.stderr
    assert "tctl tokens add" in done.stderr
    again = cluster.start(*flags, f"--token={world.token}", f"--ca-pin={new_pin}", name="away")
    again.wait_for("connected to auth")
    after = identities.load(cluster.root / "away")
    assert after is not None
    assert after.host_id == before.host_id
