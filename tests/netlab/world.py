"""A cluster in the lab: the single file, real daemons, a real haproxy, real OpenSSH."""

import json
import os
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import forked
from tests.netlab.lab import NODES, SERVERS, Lab
from tests.support import eventually

FILE = Path(__file__).parent.parent.parent / "dist" / "teleport-lite.pyz"
CLUSTER = "lab.example.com"
PASSWORD = "correct-horse-battery"
WEB = 3080
BALANCER = f"{SERVERS['lb']}:{WEB}"

_AUTH = f"""\
version: v3
teleport:
  nodename: auth
  data_dir: {{data}}
auth_service:
  cluster_name: {CLUSTER}
  listen_addr: {SERVERS["auth"]}:3025
proxy_service: {{{{enabled: no}}}}
ssh_service: {{{{enabled: no}}}}
"""
_PROXY = """\
version: v3
teleport:
  nodename: {name}
  data_dir: {data}
  diag_addr: 127.0.0.1:3000
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
proxy_service:
  web_listen_addr: {address}:3080
  public_addr: {public}
  proxy_protocol: "{header}"
"""
_HAPROXY = """\
global
  maxconn 4000
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
frontend web
  bind {lb}:3080
  default_backend proxies
backend proxies
  balance {algorithm}
  option tcp-check
  default-server check inter 300ms fall 2 rise 1 {header}
{servers}
"""


class World:
    """Auth, proxies behind a balancer, nodes behind a NAT, and a person at a desk."""

    def __init__(self, root: Path, *, algorithm: str = "roundrobin", header: bool = False) -> None:
        self.root, self.lab = root, Lab()
        self._algorithm, self._header = algorithm, header
        self.tunnels_land = algorithm != "source"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        (root / "bin").mkdir()
        shutil.copy(FILE, root / "bin" / "teleport-lite")
        for name in ("tctl", "tsh", "tbot"):
            (root / "bin" / name).symlink_to("teleport-lite")
        self.env = {
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
            "TELEPORT_LITE_CONFIG": str(root / "none.yaml"),
            "TELEPORT_HOME": str(root / "tsh"),
            "SSH_AUTH_SOCK": "",
        }

    def __enter__(self) -> Self:
        self.lab.__enter__()
        try:
            self._start_auth()
        except BaseException:
            self.lab.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if exc is not None:
            for log in sorted(self.root.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
        self.lab.__exit__(kind, exc, trace)

    # --- daemons

    def balancer(self, *proxies: str) -> None:
        header = "send-proxy-v2 check-send-proxy" if self._header else ""
        servers = "".join(f"  server {each} {SERVERS[each]}:{WEB}\n" for each in proxies)
        config = self.root / "haproxy.cfg"
        config.write_text(
            _HAPROXY.format(
                lb=SERVERS["lb"], algorithm=self._algorithm, header=header, servers=servers
            )
        )
        if "lb" in self.daemons:
            self.end("lb")
        words = ("haproxy", "-db", "-f", str(config))
        self.daemons["lb"] = self.lab.start("lb", *words, log=self.root / "lb.log")

    def proxy(self, name: str) -> None:
        """Joins with a token the first time; later the identity is there."""
        config, data = self.root / f"{name}.yaml", self.root / name
        config.write_text(
            _PROXY.format(
                name=name,
                data=data,
                address=SERVERS[name],
                public=BALANCER,
                header="on" if self._header else "off",
            )
        )
        flags = [f"--auth-server={SERVERS['auth']}:3025"]
        if not (data / "identity.json").exists():
            flags += [f"--token={self.token('proxy')}", f"--ca-pin={self.pin}"]
        self._daemon(name, name, "start", "-c", str(config), "--roles=proxy", "-d", *flags)

    def node(self, name: str, *flags: str) -> None:
        data = f"--data-dir={self.root / name}"
        words = ("start", "--roles=node", f"--nodename={name}", data, "-d", *flags)
        self._daemon(name, name, *words)

    def end(self, name: str, *, kill: bool = False) -> None:
        process = self.daemons.pop(name)
        process.kill() if kill else process.terminate()
        process.wait(timeout=60)

    # --- questions

    def tctl(self, *words: str) -> str:
        # On the socket of auth's machine, which is a file.
        env = {**os.environ, **self.env}
        done = forked.run("tctl", "-c", str(self.root / "auth.yaml"), *words, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.tctl(*words, "--format=json"))

    def token(self, types: str) -> str:
        return self.tctl("tokens", "add", f"--type={types}", "--format=text").strip()

    @property
    def pin(self) -> str:
        return str(self.json("status")["ca_pins"][0])

    def tunnels(self) -> dict[str, set[str]]:
        """Node name to the host names of the proxies that hold its tunnel."""
        names = {each["metadata"]["name"]: _name(each) for each in self.json("get", "hosts")}
        return {
            each["hostname"]: {names.get(proxy, proxy) for proxy in each["tunnels"]}
            for each in self.json("nodes", "ls")
            if each["state"] == "online"
        }

    def wait_for_tunnels(self, *proxies: str, nodes: Sequence[str] = tuple(NODES)) -> None:
        wanted = {node: set(proxies) for node in nodes}
        eventually(
            lambda: self.tunnels() == wanted, seconds=60, what=f"every node at {', '.join(proxies)}"
        )

    def wait_for_direct_tunnels(self, *proxies: str) -> None:
        """Through the balancer or not, but not by way of another proxy."""
        eventually(
            lambda: all(self._relayed(node, proxies) == set() for node in NODES),
            seconds=60,
            what="no tunnel goes by way of another proxy",
        )

    def _relayed(self, node: str, proxies: Sequence[str]) -> set[str]:
        """Proxies to which the tunnel of a node goes by way of another one, as it tells."""
        told = re.findall(
            r"tunnel to proxy (\S+) through [^\s,]+(, by way of)?",
            (self.root / f"{node}.log").read_text(),
        )
        last = {self.host_name(proxy): bool(by_way) for proxy, by_way in told}
        return {proxy for proxy in proxies if last[proxy]}

    def events(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("audit", "ls")
        return [event for event in found if event["event"] == kind]

    def host_name(self, host_id: str) -> str:
        names = {each["metadata"]["name"]: _name(each) for each in self.json("get", "hosts")}
        return names[host_id]

    # --- people

    def add_user(self, name: str, *flags: str) -> None:
        """Invited, password set on the page, logged in from the client's desk."""
        link = self.json("users", "add", name, *flags)["invite"]["url"]
        path = urllib.parse.urlsplit(link).path
        done = self.run(
            *("client", "curl", "-sSk", "-o", "/dev/null", "-w", "%{http_code}"),
            *("--data-urlencode", f"password={PASSWORD}", "--data-urlencode", f"again={PASSWORD}"),
            f"https://{BALANCER}{path}",
        )
        assert done.stdout in ("200", "303"), done
        self.login(name)

    def login(self, name: str) -> None:
        words = ("login", f"--proxy={BALANCER}", f"--user={name}", f"--ca-pin={self.pin}")
        done = self.run("client", "tsh", *words, stdin=f"{PASSWORD}\n")
        assert done.returncode == 0, done.stderr
        config = self.run("client", "tsh", "config").stdout
        (self.root / "ssh_config").write_text(config)

    def ssh(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.run("client", "ssh", "-F", str(self.root / "ssh_config"), *words)

    def run(
        self,
        where: str,
        *words: str,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> "subprocess.CompletedProcess[str]":
        env = {**self.env, **(env or {})}
        return self.lab.run(where, *words, env=env, stdin=stdin, timeout=timeout)

    def _start_auth(self) -> None:
        config = self.root / "auth.yaml"
        config.write_text(_AUTH.format(data=self.root / "auth"))
        self._daemon("auth", "auth", "start", "-c", str(config))

    def _daemon(self, name: str, where: str, *words: str) -> None:
        log = self.root / f"{name}.log"
        before = _running(log)
        process = self.lab.start(where, "teleport-lite", *words, log=log, env=self.env)
        self.daemons[name] = process

        def runs() -> bool:
            assert process.poll() is None, log.read_text()
            return _running(log) > before

        eventually(runs, seconds=60, what=f"{name} is running")


def _running(log: Path) -> int:
    return len(re.findall("is running", log.read_text())) if log.exists() else 0


def _name(host: dict[str, Any]) -> str:
    return str(host["spec"]["hostname"])
