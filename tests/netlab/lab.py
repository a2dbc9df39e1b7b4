"""A small internet in network namespaces of our own, for what loopback can not show.

      auth 10.77.1.10 ──┐                        ┌── nat 10.77.2.2 | 192.168.77.1 ──┬── n1 .11
    proxy1 10.77.1.21 ──┤ br1          br2       │        (dials out only)          ├── n2 .12
    proxy2 10.77.1.22 ──┼──── core (router) ─────┤                                  └── n3 .13
    proxy3 10.77.1.23 ──┤   10.77.x.1            └── client 10.77.2.50
     lb    10.77.1.20 ──┘

Needs root, `ip` and `nft`. Everything is named after this process and gone when it is closed.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SERVERS = {
    "auth": "10.77.1.10",
    "lb": "10.77.1.20",
    "proxy1": "10.77.1.21",
    "proxy2": "10.77.1.22",
    "proxy3": "10.77.1.23",
}
OUTSIDE = {"client": "10.77.2.50", "nat": "10.77.2.2"}
NODES = {"n1": "192.168.77.11", "n2": "192.168.77.12", "n3": "192.168.77.13"}

# What is inside may dial out; nothing comes in but answers.
_NAT = """
table ip nat {
  chain post { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
}
table ip filter {
  set dead { type inet_service; }
  chain forward {
    type filter hook forward priority filter; policy drop;
    tcp sport @dead drop
    tcp dport @dead drop
    ct state established,related accept
    iifname "br0" oifname "wan" accept
  }
}
"""
# `outside`: what may be reached from br2. Empty lists let everything pass.
_CORE = """
table ip filter {
  chain forward {
    type filter hook forward priority filter;
    iifname "br2" oifname "br1" jump outside
  }
  chain outside { }
}
"""


def refusal() -> str:
    """Why there can be no lab here, "" if there can: containers may lack the right to one."""
    name = f"tl{os.getpid()}-probe"
    steps = (
        ["ip", "netns", "add", name],
        ["ip", "-n", name, "link", "set", "lo", "up"],
        ["ip", "netns", "exec", name, "nft", "add", "table", "ip", "probe"],
    )
    try:
        for words in steps:
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                return f"{' '.join(words)}: {done.stderr.strip()}"
        return ""
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Lab:
    """Namespaces, and the processes in them. A context manager; ends what it started, by PID."""

    def __init__(self) -> None:
        self._mark = f"tl{os.getpid()}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._down()

    # --- what tests do

    def start(
        self, where: str, *words: str, log: Path, env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        with log.open("ab") as out:
            process = subprocess.Popen(
                self._in(where, words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
            )
        self._processes.append(process)
        return process

    def run(
        self,
        where: str,
        *words: str,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 60,
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self._in(where, words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **(env or {})},
        )

    def popen(
        self, where: str, *words: str, env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """With pipes, for a session that goes on."""
        process = subprocess.Popen(
            self._in(where, words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
        self._processes.append(process)
        return process

    def only_the_balancer(self) -> None:
        """From outside, nothing but the balancer is reached; the rest is dropped silently."""
        self._nft(
            "core",
            f"add rule ip filter outside ip daddr {SERVERS['lb']} accept\n"
            "add rule ip filter outside drop\n",
        )

    def mappings(self, node: str, towards: str, port: int) -> list[str]:
        """Of the NAT, for what `node` has open to `towards`:port: the ports on its side."""
        said = self.run(node, "ss", "-tnH", "state", "established", "dst", towards).stdout
        return [
            words[2].rpartition(":")[2]
            for line in said.splitlines()
            if (words := line.split()) and words[3] == f"{towards}:{port}"
        ]

    def forget_mappings(self, ports: Sequence[str]) -> None:
        """The NAT drops what comes from and for them, without a word to anybody. New ones pass."""
        self._nft("nat", f"add element ip filter dead {{ {', '.join(ports)} }}\n")

    # --- how

    def _in(self, where: str, words: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", f"{self._mark}-{where}", *words]

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def _nft(self, where: str, rules: str) -> None:
        subprocess.run(
            self._in(where, ["nft", "-f", "-"]),
            input=rules.encode(),
            check=True,
            capture_output=True,
        )

    def _namespace(self, name: str) -> str:
        full = f"{self._mark}-{name}"
        self._ip("netns", "add", full)
        self._ip("-n", full, "link", "set", "lo", "up")
        return full

    def _bridge(self, where: str, name: str, address: str) -> None:
        space = f"{self._mark}-{where}"
        self._ip("-n", space, "link", "add", name, "type", "bridge")
        self._ip("-n", space, "addr", "add", address, "dev", name)
        self._ip("-n", space, "link", "set", name, "up")

    def _cable(self, host: str, device: str, address: str, to: str, bridge: str) -> None:
        """A host of its own namespace, plugged into a bridge of another."""
        space, hub = f"{self._mark}-{host}", f"{self._mark}-{to}"
        self._ip(
            *("link", "add", "name", device, "netns", space, "type", "veth"),
            *("peer", "name", f"p-{host}", "netns", hub),
        )
        self._ip("-n", space, "addr", "add", f"{address}/24", "dev", device)
        self._ip("-n", space, "link", "set", device, "up")
        self._ip("-n", hub, "link", "set", f"p-{host}", "master", bridge, "up")
        gateway = f"{address.rpartition('.')[0]}.1"
        self._ip("-n", space, "route", "add", "default", "via", gateway)

    def _up(self) -> None:
        for name in ("core", *SERVERS, *OUTSIDE, *NODES):
            self._namespace(name)
        self._bridge("core", "br1", "10.77.1.1/24")
        self._bridge("core", "br2", "10.77.2.1/24")
        for name, address in SERVERS.items():
            self._cable(name, "e0", address, "core", "br1")
        self._cable("client", "e0", OUTSIDE["client"], "core", "br2")
        self._cable("nat", "wan", OUTSIDE["nat"], "core", "br2")
        self._bridge("nat", "br0", "192.168.77.1/24")
        for name, address in NODES.items():
            self._cable(name, "e0", address, "nat", "br0")
        for router in ("core", "nat"):
            self.run(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self._nft("nat", _NAT)
        self._nft("core", _CORE)

    def _down(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        found = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
        for line in found.splitlines():
            name = line.split()[0]
            if name.startswith(f"{self._mark}-"):
                subprocess.run(["ip", "netns", "del", name], capture_output=True)
