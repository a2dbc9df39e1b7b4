"""Restarts keep sessions: transfers go on while daemons end, begin and are replaced."""

import hashlib
import os
import pwd
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.flow.cluster import Cluster, teleport
from tests.flow.upgrades import Installed, builds
from tests.support import eventually, free_port

ME = pwd.getpwuid(os.getuid()).pw_name
# TELEPORT_LITE_RESTARTS=10 is what we promise; each costs some seconds, and the second shows most
# of it.
ROUNDS = int(os.environ.get("TELEPORT_LITE_RESTARTS", "2"))
# Straight to a node, down a tunnel by `tsh proxy ssh`, down it by the jump host, and by the jump
# host to the node's own port.
HOSTS = ("front", "gate", "back", "far")
BLOCK = os.urandom(16 * 1024)
# Bytes for each transfer in a second, so that it is still under way after the last restart.
PACE = 5 * len(BLOCK)

_FRONT = """\
version: v3
teleport:
  nodename: front
  data_dir: {data}
  auth_server: {auth}
auth_service: {{enabled: no}}
ssh_service: {{listen_addr: "127.0.0.1:{ssh}"}}
proxy_service: {{web_listen_addr: "127.0.0.1:{web}", public_addr: "127.0.0.1:{web}"}}
"""


class World(Installed):
    """Auth, which stays; a proxy that is a node, too; and a node behind it with tunnels only."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.web, self.ssh_port = free_port(), free_port()
        root, pin = cluster.root, f"--ca-pin={cluster.pin}"
        config = root / "front.yaml"
        config.write_text(
            _FRONT.format(
                data=root / "front", auth=cluster.address, web=self.web, ssh=self.ssh_port
            )
        )
        config.chmod(0o600)
        token = f"--token={cluster.token('node,proxy')}"
        self.front = (str(self.file), "start", "-c", str(config), token, pin)
        # Restarted with the other, and never replaced.
        self.back = (
            "env",
            f"TELEPORT_LITE_ROOT={root / 'back-trees'}",
            str(self.first),
            "start",
            "--roles=node",
            "--nodename=back",
            f"--data-dir={root / 'back'}",
            f"--proxy=127.0.0.1:{self.web}",
            f"--token={cluster.token('node')}",
            pin,
        )
        cluster.tctl("users", "add", "alice", f"--logins={ME}", "--roles=access")
        sign = ("auth", "sign", "--user=alice")
        cluster.tctl(*sign, "--format=openssh", f"--out={root / 'alice'}")
        cluster.tctl(*sign, f"--out={root / 'alice.pem'}")

    def begin(self) -> None:
        self.start("front", *self.front)
        self.wait_for("is running")
        self.start("back", *self.back)
        root, name = self.cluster.root, self.cluster.name
        (root / "known_hosts").write_text(self.cluster.tctl("auth", "export", "--type=host"))
        self.config = root / "ssh_config"
        where = (f"--proxy=127.0.0.1:{self.web}", f"--identity={root / 'alice.pem'}")
        gate = " ".join(teleport("tsh", *where, "proxy", "ssh"))
        self.config.write_text(
            f"Host front\n HostName 127.0.0.1\n Port {self.ssh_port}\n"
            f" HostKeyAlias front.{name}\n"
            f"Host jump\n HostName 127.0.0.1\n Port {self.web}\n HostKeyAlias front.{name}\n"
            f"Host gate\n HostName back.{name}\n HostKeyAlias back.{name}\n"
            f" ProxyCommand {gate} %r@%h:22\n"
            f"Host back far\n ProxyJump jump\n Port 22\n"
            f"Host back\n HostName back.{name}\n HostKeyAlias back.{name}\n"
            f"Host far\n HostName front.{name}\n HostKeyAlias front.{name}\n"
            f"Host *\n UserKnownHostsFile {root / 'known_hosts'}\n GlobalKnownHostsFile none\n"
            f" StrictHostKeyChecking yes\n IdentityFile {root / 'alice'}\n IdentitiesOnly yes\n"
            f" BatchMode yes\n User {ME}\n LogLevel ERROR\n"
        )
        self.wait_until_reached(0)
        for host in HOSTS:
            eventually(lambda host=host: self.leads_to(host), what=f"a way to {host}")

    def leads_to(self, host: str) -> bool:
        """The proxy hears from auth which nodes there are, a moment after they have come."""
        client = self.ssh(host, "true")
        client.communicate(timeout=60)
        return client.returncode == 0

    def reached(self) -> int:
        """How often the node behind has said that it is."""
        return self.log("back").read_text().count("reached through 1 proxy")

    def wait_until_reached(self, before: int) -> None:
        eventually(lambda: self.reached() > before, what="a tunnel")

    def shared(self, host: str, path: Path) -> "Shared":
        """A connection for sessions that come later."""
        options = ("-F", str(self.config), "-o", f"ControlPath={path}")
        master = self.ssh("-N", "-o", "ControlMaster=yes", "-o", f"ControlPath={path}", host)
        eventually(path.exists, what="a connection to share")
        return Shared(master, options)

    def echo(self, host: str, enough: threading.Event) -> "Echo":
        """A transfer that is under way."""
        transfer = Echo(self.ssh(host, "cat"), enough)
        eventually(lambda: transfer.back, what=f"a session on {host}")
        return transfer

    def say(self, client: "subprocess.Popen[bytes]", word: bytes) -> None:
        """To a session that runs `cat`."""
        assert client.stdin
        assert client.stdout
        client.stdin.write(word + b"\n")
        client.stdin.flush()
        assert client.stdout.readline() == word + b"\n"

    def restart(self) -> None:
        self.stop()
        before = self.reached()
        self.start_all()
        self.wait_for("is running")
        self.wait_until_reached(before)
        eventually(lambda: self.leads_to("gate"), what="a way to the node behind")

    def wait_until_quiet(self) -> None:
        """Nothing goes on any more, and the trail has all of what did."""
        eventually(lambda: not self.processes("tl-relay"), what="relays to end")
        kinds = ("session.start", "session.end")

        def all_told() -> bool:
            starts, ends = (sids(self, kind) for kind in kinds)
            return starts == ends

        eventually(all_told, what="the end of each session")

    def ssh(self, *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["ssh", "-F", str(self.config), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@dataclass
class Shared:
    master: "subprocess.Popen[bytes]"
    options: tuple[str, ...]

    def run(self, program: str, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [program, *self.options, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)


@dataclass
class Echo:
    """Bytes there and back through one session, paced, until it is told that it is enough."""

    client: "subprocess.Popen[bytes]"
    enough: threading.Event
    sent: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    heard: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    size: int = 0
    back: int = 0

    def __post_init__(self) -> None:
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._talk, self._listen)
        ]
        for each in self._threads:
            each.start()

    def _talk(self) -> None:
        assert self.client.stdin
        with self.client.stdin as out:
            while not self.enough.is_set():
                block = BLOCK[self.size % 1000 :]
                try:
                    out.write(block)
                except BrokenPipeError:
                    return  # `end` tells why
                self.sent.update(block)
                self.size += len(block)
                self.enough.wait(len(BLOCK) / PACE)

    def _listen(self) -> None:
        assert self.client.stdout
        with self.client.stdout as into:
            while data := into.read1():
                self.heard.update(data)
                self.back += len(data)

    def end(self) -> None:
        for each in self._threads:
            each.join(60)
        assert self.client.stderr
        with self.client.stderr as errors:
            said = errors.read()
            assert (self.client.wait(60), said) == (0, b""), self.client.args
        assert self.size > 0
        assert self.heard.hexdigest() == self.sent.hexdigest()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("restart")
    with Cluster(root, name="restart.example.com") as cluster:
        world = World(cluster)
        try:
            yield world
        finally:
            world.stop()
            for pid in world.processes("tl-relay"):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(600)
def test_restarts_and_upgrades_under_ten_transfers(world: World, tmp_path: Path) -> None:
    files = builds(tmp_path, ROUNDS + 1)
    world.upgrade(next(files))
    world.begin()
    enough = threading.Event()
    # One after the other: strangers who all come at once are thinned out.
    transfers = [world.echo(host, enough) for host in 2 * HOSTS]
    upload, download = tmp_path / "up", tmp_path / "down"
    upload.write_bytes(BLOCK * 400)
    limited = ["scp", "-q", "-l", "6000", "-F", str(world.config)]
    scp = [
        subprocess.Popen([*limited, str(upload), f"front:{tmp_path}/there"]),
        subprocess.Popen([*limited, f"back:{upload}", str(download)]),
    ]
    shared = world.shared("front", tmp_path / "shared")
    old = world.forget_old_trees(set())
    for number in range(ROUNDS):
        world.upgrade(next(files))
        world.restart()
        new = world.forget_old_trees(old)
        assert len(new) == 1, new
        old |= new
        transfers.append(world.echo(HOSTS[number % len(HOSTS)], enough))
    eventually(lambda: all(each.back for each in transfers), what="transfers to run")
    check_new_sessions_of(shared, tmp_path)
    enough.set()
    for each in transfers:
        each.end()
    assert [each.wait(60) for each in scp] == [0, 0]
    assert download.read_bytes() == (tmp_path / "there").read_bytes() == upload.read_bytes()
    eventually(lambda: not world.processes("tl-relay"), what="relays to end with their sessions")

    def ends() -> bool:
        told = Counter(e["sid"] for e in world.cluster.events("session.end"))
        return set(told) == sids(world, "session.start") and set(told.values()) == {1}

    eventually(ends, what="the end of each session, once")


def check_new_sessions_of(shared: "Shared", tmp_path: Path) -> None:
    """On a connection whose code was removed long ago: a terminal, a file."""
    done = shared.run("ssh", "-tt", "front", "stty size; exit 3")
    assert done.returncode == 3, done.stderr
    (tmp_path / "small").write_bytes(BLOCK)
    done = shared.run("scp", "-q", str(tmp_path / "small"), f"front:{tmp_path}/copy")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == BLOCK
    # By word, not by signal: OpenSSH 9.2 can miss one that comes while it is about to wait.
    done = shared.run("ssh", "-O", "exit", "front")
    assert done.returncode == 0, done.stderr
    shared.master.communicate(timeout=60)


def ended(client: "subprocess.Popen[bytes]", code: int = 0) -> str:
    said = client.communicate(timeout=60)
    assert client.returncode == code, said
    return said[1].decode()


def sids(world: World, kind: str) -> set[str]:
    return {event["sid"] for event in world.cluster.events(kind) if "sid" in event}


def ways(world: World) -> int:
    """Ways through the proxy that have ended."""
    return len([each for each in world.cluster.events("session.data") if "via" in each])


@pytest.fixture
def running(world: World) -> Iterator[World]:
    """With daemons, and nothing under way, whatever was tested before."""
    if not world.daemons:
        world.upgrade(next(builds(world.cluster.root, 1)))
        world.begin()
    world.wait_until_quiet()
    yield world
    if any(each.process.poll() is not None for _, each in world.daemons.values()):
        world.restart()


def test_the_trail_hears_what_happened_while_no_daemon_was_there(running: World) -> None:
    before, ways_before = sids(running, "session.end"), ways(running)
    clients = [running.ssh(host, "cat") for host in ("front", "back", "gate")]
    for client in clients:
        running.say(client, b"up")
    running.stop()
    for client in clients:
        running.say(client, b"still up")
        ended(client)
    assert sids(running, "session.end") == before
    running.restart()
    eventually(lambda: len(sids(running, "session.end") - before) >= 3, what="three ends")
    running.wait_until_quiet()
    # What an earlier test has left behind may be told only now.
    eventually(lambda: ways(running) >= ways_before + 2, what="two ends of ways to a node")


def test_a_lock_cuts_sessions_of_earlier_daemons(running: World) -> None:
    """On the node itself, and on the way there through a process that only relays."""
    running.wait_for("connected to auth")
    clients = [running.ssh(host, "cat") for host in ("front", "gate")]
    for client in clients:
        running.say(client, b"up")
    running.restart()
    for client in clients:
        running.say(client, b"still up")
    eventually(lambda: running.processes("tl-relay"), what="a relay")
    running.cluster.tctl("lock", "--user=alice", "--ttl=1h")
    try:
        for client in clients:
            assert client.wait(60) == 255
            ended(client, 255)
        eventually(lambda: not running.processes("tl-relay"), what="relays to end")
    finally:
        for each in running.cluster.json("get", "locks"):
            running.cluster.tctl("rm", f"lock/{each['metadata']['name']}")


def test_a_second_signal_ends_what_goes_on(running: World) -> None:
    client = running.ssh("gate", "cat")
    running.say(client, b"up")
    _, front = running.daemons["front"]
    front.process.send_signal(signal.SIGTERM)
    assert front.process.wait(60) == 0
    running.say(client, b"still up")
    [relay] = running.processes("tl-relay")
    assert f"session goes on in process {relay}" in front.said()
    os.kill(relay, signal.SIGTERM)
    assert client.wait(60) == 255
    ended(client, 255)
    eventually(lambda: not running.processes("tl-relay"), what="the relay to end")
