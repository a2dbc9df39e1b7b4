"""Bad lines: bits that flip, a slow and lossy link, tunnels whose other end is silent."""

import os
import subprocess
import time
from types import TracebackType
from typing import Self

from tests.faults.crowd import Crowd
from tests.faults.hosts import Hosts
from tests.faults.kills import compare
from tests.faults.relay import Relay
from tests.faults.report import Run
from tests.faults.site import Auth
from tests.faults.warm import Daemon, Warm, warm_for
from tests.support import eventually, free_port


def bit_flips(run: Run) -> None:
    """A relay flips a bit in every other connection of hosts that join: they get an error, or what
    was meant for them, and try again."""
    joins = run.size(8, 2000)
    with warm_for(run) as warm:
        auth = Auth(warm, run.directory("auth"))
        auth.start()
        with Relay(auth.address, seed=run.seed) as relay:
            relay.flips = 0.5
            crowd = Crowd(
                [relay.address], auth.token("app"), run.root / "joins", workers=2, patient=True
            )
            with crowd:
                eventually(lambda: crowd.count() >= joins, seconds=600, what=f"{joins} joins")
            run.report.fault("bit flipped", relay.flipped)
        compare(run.report, auth, crowd)
        told = [each.told for each in crowd.answers() if each.told]
        run.report.told("joins that met an error first", len(told), count=len(crowd.answers()))
        odd = [each for each in told if "token" in each]
        run.report.none("errors that blame the token", odd, count=len(told))


class Space:
    """A network namespace with loopback only. A context manager."""

    def __init__(self) -> None:
        self.name = f"tl{os.getpid()}-faults"

    def __enter__(self) -> Self:
        for words in (("netns", "add", self.name), ("-n", self.name, "link", "set", "lo", "up")):
            subprocess.run(["ip", *words], check=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False)

    def rules(self, *lines: str) -> None:
        """For packets that arrive, in place of those before."""
        body = "\n".join(("type filter hook input priority 0", *lines))
        text = f"table ip f\nflush table ip f\ntable ip f {{\nchain in {{\n{body}\n}}\n}}\n"
        words = ["ip", "netns", "exec", self.name, "nft", "-f", "-"]
        subprocess.run(words, input=text.encode(), check=True)


def slow_link(run: Run) -> None:
    """200 ms there and back, 5 % of packets lost, 50 kB/s: hosts join, and stay."""
    count, seconds = run.size(1, 10), run.seconds(2.0, 600.0)
    took: list[float] = []
    with Space() as space, warm_for(run) as warm:
        space.rules("numgen random mod 100 < 5 drop")
        auth = Auth(warm, run.directory("auth"), inside=space.name)
        auth.start()
        with Relay(auth.address, inside=space.name) as relay:
            relay.delay, relay.rate = 0.1, 50_000.0
            through = [relay.address]
            hosts = Hosts(warm, auth, run.root / "hosts", count, through, inside=space.name)
            hosts.root.mkdir()
            token, pin = auth.token("app"), auth.pins[0]
            run.report.fault("a slow line that loses packets", count)
            for number in range(count):
                began = time.monotonic()
                daemon = hosts.begin(f"app-{number}", f"--token={token}", f"--ca-pin={pin}")
                daemon.wait_for("connected to auth", seconds=60)
                took.append(time.monotonic() - began)
            time.sleep(seconds)
            more = {name: n for name, n in hosts.connections().items() if n > 1}
            run.report.slowest("a join and its stream, the longest", took, 20)
            run.report.none("streams that broke for nothing", more, count=count)
            run.report.none("hosts that have ended", hosts.ended(), count=count)


_PROXY = """\
version: v3
teleport:
  nodename: proxy
  data_dir: {root}/proxy
  auth_server: {auth}
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
proxy_service: {{web_listen_addr: "{address}", public_addr: "{address}"}}
"""


def half_open(run: Run) -> None:
    """Between nodes and their proxy all packets are dropped, and no connection ends: it is noticed,
    told, and over soon after it is healed."""
    count, rounds = run.size(1, 3), run.size(1, 5)
    noticed, listed, back = list[float](), list[float](), list[float]()
    with Space() as space, warm_for(run) as warm:
        auth = Auth(warm, run.directory("auth"), inside=space.name)
        auth.start()
        port = free_port()
        proxy = _tunnels(run, warm, auth, space, port, count)
        for _ in range(rounds):
            eventually(lambda: _tunnelled(auth) == count, seconds=60, what="every tunnel")
            time.sleep(2)
            before, since = len(proxy.said()), time.monotonic()
            space.rules(f"tcp dport {port} drop", f"tcp sport {port} drop")
            run.report.fault("silence on every tunnel")
            eventually(
                lambda before=before: proxy.said()[before:].count("has ended") >= count,  # type: ignore[misc]
                seconds=90,
                what="the proxy to notice",
            )
            noticed.append(time.monotonic() - since)
            eventually(lambda: not _online(auth), seconds=90, what="auth to tell")
            listed.append(time.monotonic() - since)
            before, since = len(proxy.said()), time.monotonic()
            space.rules()
            eventually(
                lambda before=before: proxy.said()[before:].count("has a tunnel") >= count,  # type: ignore[misc]
                seconds=90,
                what="every tunnel again",
            )
            back.append(time.monotonic() - since)
    run.report.slowest("the proxy notices, the longest", noticed, 35)
    run.report.slowest("nodes are not listed as online any more, the longest", listed, 35)
    run.report.slowest("tunnels are back after it is healed, the longest", back, 15)


def _tunnels(run: Run, warm: Warm, auth: Auth, space: Space, port: int, count: int) -> Daemon:
    """A proxy, and nodes behind it. Returns the proxy."""
    config, pin, address = run.root / "proxy.yaml", auth.pins[0], f"127.0.0.1:{port}"
    config.write_text(_PROXY.format(root=run.root, auth=auth.address, address=address))
    config.chmod(0o600)

    def start(name: str, *words: str) -> Daemon:
        log = run.root / f"{name}.log"
        daemon = warm.start(
            "start", f"--ca-pin={pin}", *words, log=log, env=auth.env, inside=space.name
        )
        return daemon.wait_for("connected to auth")

    proxy = start("proxy", "-c", str(config), f"--token={auth.token('proxy')}")
    token = auth.token("node")
    for number in range(count):
        name = f"node-{number}"
        place = f"--data-dir={run.root / name}"
        start(name, "--roles=node", f"--nodename={name}", place, f"--proxy={address}",
              f"--token={token}")  # fmt: skip
    return proxy


def _tunnelled(auth: Auth) -> int:
    return sum(1 for each in auth.ask("/v1/nodes/list")["nodes"] if each["tunnels"])


def _online(auth: Auth) -> list[str]:
    found = auth.ask("/v1/nodes/list")["nodes"]
    return [each["hostname"] for each in found if each["state"] == "online"]
