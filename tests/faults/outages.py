"""Auth is away for minutes: sessions stay, people with a certificate come in, and afterwards
everything is told and everybody is back."""

import getpass
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from tests.faults.hosts import Hosts
from tests.faults.report import Run
from tests.faults.site import CLUSTER, Auth
from tests.faults.warm import Daemon, Warm, warm_for
from tests.support import eventually, free_port

ME = getpass.getuser()
# Goals of the plan, in seconds.
CONVERGED, TOLD, ECHO = 30.0, 60.0, 0.020

_PROXY = """\
version: v3
teleport:
  nodename: proxy
  data_dir: {root}/proxy
  auth_server: {auth}
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
proxy_service: {{web_listen_addr: "{proxy}", public_addr: "{proxy}"}}
"""
_NODE = """\
version: v3
teleport:
  nodename: {name}
  data_dir: {root}/{name}
  auth_server: {auth}
auth_service: {{enabled: no}}
proxy_service: {{enabled: no}}
ssh_service: {{listen_addr: "{address}"}}
"""
_SSH = """\
Host direct-{n}
 HostName 127.0.0.1
 Port {port}
 HostKeyAlias direct-{n}.{cluster}
"""
_TUNNEL = """\
Host tunnel-{n}
 HostName tunnel-{n}.{cluster}
 HostKeyAlias tunnel-{n}.{cluster}
 Port 22
 ProxyJump jump
"""
_ALL = """\
Host jump
 HostName 127.0.0.1
 Port {web}
 HostKeyAlias proxy.{cluster}
Host *
 User {me}
 UserKnownHostsFile {root}/known_hosts
 GlobalKnownHostsFile none
 StrictHostKeyChecking yes
 IdentityFile {root}/alice
 IdentitiesOnly yes
 IdentityAgent none
 BatchMode yes
 LogLevel ERROR
 ConnectTimeout 30
"""


class Talk:
    """An open session that answers each line with itself."""

    def __init__(self, command: Sequence[str]) -> None:
        self.client = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def ask(self) -> float:
        """Seconds until the answer is here. Raises OSError when there is none any more."""
        assert self.client.stdin
        assert self.client.stdout
        began = time.monotonic()
        self.client.stdin.write(b"hello\n")
        self.client.stdin.flush()
        if self.client.stdout.readline() != b"hello\n":
            raise BrokenPipeError("the session has ended")
        return time.monotonic() - began

    def close(self) -> None:
        self.client.kill()
        self.client.communicate()


class World:
    """Auth, a proxy, nodes with a port, nodes with tunnels only, and hosts that only beat."""

    def __init__(self, run: Run, warm: Warm, *, direct: int, tunnels: int, hosts: int) -> None:
        self.root, self._warm = run.root, warm
        self.auth = Auth(warm, run.directory("auth"))
        self.auth.start()
        self._pin, self._web = self.auth.pins[0], free_port()
        self._token = self.auth.token("node,proxy")
        config = _PROXY.format(root=self.root, auth=self.auth.address, proxy=self.proxy)
        self.daemons = [self._by_file("proxy", config)]
        self.ways = [f"direct-{n}" for n in range(direct)] + [f"tunnel-{n}" for n in range(tunnels)]
        text = ""
        for number in range(direct):
            port, name = free_port(), f"direct-{number}"
            config = _NODE.format(
                root=self.root, name=name, auth=self.auth.address, address=f"127.0.0.1:{port}"
            )
            self.daemons.append(self._by_file(name, config))
            text += _SSH.format(n=number, port=port, cluster=CLUSTER)
        for number in range(tunnels):
            name = f"tunnel-{number}"
            words = (f"--data-dir={self.root / name}", f"--nodename={name}", "--roles=node")
            self.daemons.append(self._start(name, *words, f"--proxy={self.proxy}"))
            text += _TUNNEL.format(n=number, cluster=CLUSTER)
        self.hosts = Hosts(warm, self.auth, self.root / "hosts", hosts)
        self.hosts.start()
        self._people(text)
        for way in self.ways:
            eventually(lambda way=way: self.comes_in(way), what=f"a way to {way}")  # type: ignore[misc]

    @property
    def proxy(self) -> str:
        return f"127.0.0.1:{self._web}"

    def _by_file(self, name: str, text: str) -> Daemon:
        config = self.root / f"{name}.yaml"
        config.write_text(text)
        config.chmod(0o600)
        return self._start(name, "-c", str(config))

    def _start(self, name: str, *words: str) -> Daemon:
        flags = (f"--token={self._token}", f"--ca-pin={self._pin}")
        log = self.root / f"{name}.log"
        daemon = self._warm.start("start", *words, *flags, log=log, env=self.auth.env)
        return daemon.wait_for("connected to auth", seconds=60)

    def _people(self, hosts: str) -> None:
        self.auth.ask("/v1/users/add", name="alice", roles=["access"], logins=[ME])
        out = f"--out={self.root / 'alice'}"
        self._tctl("auth", "sign", "--user=alice", "--format=openssh", out)
        known = self._tctl("auth", "export", "--type=host")
        (self.root / "known_hosts").write_text(known)
        rest = _ALL.format(web=self._web, cluster=CLUSTER, me=ME, root=self.root)
        (self.root / "ssh_config").write_text(hosts + rest)

    def _tctl(self, *words: str) -> str:
        command = [sys.executable, "-m", "teleport_lite", "tctl", "-c", str(self.auth.config)]
        done = subprocess.run(
            [*command, *words], env=self.auth.env, capture_output=True, text=True, check=True
        )
        return done.stdout

    def command(self, *words: str) -> list[str]:
        return ["ssh", "-F", str(self.root / "ssh_config"), *words]

    def comes_in(self, way: str) -> bool:
        done = subprocess.run(self.command(way, "true"), capture_output=True, timeout=60)
        return done.returncode == 0

    def online(self) -> int:
        found = self.auth.hosts().values()
        return sum(1 for each in found if each["status"]["state"] == "online")


def auth_away(run: Run) -> None:
    """Killed, and back after `minutes`. Half of the sessions go straight to a node, half down a
    tunnel."""
    seconds, sessions = run.seconds(5.0, 600.0), run.size(4, 50)
    direct, tunnels = run.size((1, 1), (3, 2))
    with warm_for(run) as warm, ExitStack() as stack:
        world = World(run, warm, direct=direct, tunnels=tunnels, hosts=run.size(2, 44))
        members = len(world.daemons) + len(world.hosts.daemons)
        halves = (world.ways[:direct], world.ways[direct:])
        talks = []
        for number in range(sessions):
            half = halves[number % 2]
            way = half[number // 2 % len(half)]
            talks.append(Talk(world.command(way, "cat")))
            stack.callback(talks[-1].close)
            talks[-1].ask()
        before = _echoes(talks, [])
        events = len(world.auth.events("session.start"))
        world.auth.kill()
        run.report.fault("kill -9 of auth")
        lost, refused, asked = list[str](), list[str](), 0
        meanwhile = list[float]()
        ends, ways = time.monotonic() + seconds, itertools.cycle(world.ways)
        while time.monotonic() < ends:
            meanwhile += _echoes(talks, lost)
            way, asked = next(ways), asked + 1
            if not world.comes_in(way):
                refused.append(way)
            time.sleep(run.size(0.2, 1.0))
        since = time.monotonic()
        world.auth.start()
        eventually(lambda: world.online() >= members, seconds=120, what="everybody is back")
        back = time.monotonic() - since
        wanted = events + asked
        eventually(
            lambda: len(world.auth.events("session.start")) >= wanted,
            seconds=120,
            what=f"{wanted} sessions in the trail: {len(world.auth.events('session.start'))}",
        )
        told = time.monotonic() - since
        _echoes(talks, lost)
        count, troubles = len(world.auth.events("session.start")), world.auth.troubles()
        _tell(run, sessions, lost, refused, asked, (before, meanwhile))
    run.report.told("auth is away", seconds, "s")
    run.report.at_most("everybody is back", round(back, 1), CONVERGED, "s", count=members)
    run.report.at_most("the trail has all of it", round(told, 1), TOLD, "s", count=asked)
    run.report.none("sessions told twice", range(count - wanted), count=asked)
    run.report.none("what is wrong in the store", troubles, count=members)


def _tell(
    run: Run,
    sessions: int,
    lost: list[str],
    refused: list[str],
    asked: int,
    echoes: tuple[list[float], list[float]],
) -> None:
    run.report.none("sessions that were lost", set(lost), count=sessions)
    run.report.none("new sessions refused while auth is away", refused, count=asked)
    before, meanwhile = (statistics.quantiles(each, n=100)[98] for each in echoes)
    run.report.told("echo before, p99", round(before * 1000, 1), "ms", count=len(echoes[0]))
    run.report.at_most(
        "echo while auth is away, p99, more than before",
        round((meanwhile - before) * 1000, 1),
        ECHO * 1000,
        "ms",
        count=len(echoes[1]),
    )


def _echoes(talks: Sequence[Talk], lost: list[str]) -> list[float]:
    """Three rounds."""
    took = []
    for number, talk in [*enumerate(talks)] * 3:
        if f"session {number}" in lost:
            continue
        try:
            took.append(talk.ask())
        except OSError:
            lost.append(f"session {number}")
    return took
