"""A cluster of whole machines, as seed B has it.

get.example.com   10.88.0.1    releases, served by the test
tele.example.com  10.88.0.10   auth, proxy on 443, node; people work here
node1             10.88.0.11   installed and joined; others are bare
"""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.machines.machine import Machine
from tests.machines.site import BASE, FIRST, NAME, Authority
from tests.machines.wires import STREET, Street
from tests.support import eventually

DOMAIN = "tele.example.com"
ADDRESSES: Mapping[str, str] = MappingProxyType(
    {
        f"{name}": f"10.88.0.{at}"
        for at, name in enumerate(
            ("tele", "node1", "node2", "node3", "app1", "auth1", "proxy1"), 10
        )
    }
)
HOSTS = "".join(f"{address} {name}\n" for name, address in ADDRESSES.items())
HOSTS += f"{STREET} {NAME}\n{ADDRESSES['tele']} {DOMAIN}\n"
INSTALL = f"curl -fsSL {BASE}/install.sh | bash"
CONFIG = "/etc/teleport-lite.yaml"
_TELE = f"""\
version: v3
teleport:
  nodename: tele
auth_service:
  cluster_name: {DOMAIN}
proxy_service:
  web_listen_addr: 0.0.0.0:443
  public_addr: {DOMAIN}:443
  https_keypairs:
  - key_file: /etc/web.key
    cert_file: /etc/web.pem
"""
# Through the jump host that every proxy is: none of the nodes opens a port.
_SSH = f"""\
Host jump
 HostName {DOMAIN}
 Port 443
 HostKeyAlias tele.{DOMAIN}
Host node1 node2 node3 app1
 HostName %h.{DOMAIN}
 ProxyJump jump
 Port 22
Host *
 User root
 UserKnownHostsFile /root/known_hosts
 StrictHostKeyChecking yes
 IdentityFile /root/alice
 IdentitiesOnly yes
 BatchMode yes
 LogLevel ERROR
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The street, what is published on it, and the image that its machines boot."""

    street: Street
    image: Path
    authority: Authority
    www: Path

    @contextlib.contextmanager
    def machine(self, name: str) -> Iterator[Machine]:
        """Bare: it trusts the CA of the test, and has nothing of ours."""
        with (
            contextlib.closing(self.street.cable(ADDRESSES[name])) as net,
            Machine(self.image, net, name, hosts=HOSTS) as machine,
        ):
            self.authority.trusted_by(machine)
            yield machine


class Cluster:
    """What runs on tele, and how people ask it."""

    def __init__(self, tele: Machine, authority: Authority) -> None:
        self.tele = tele
        for file, path in zip(authority.certificate(DOMAIN), ("pem", "key"), strict=True):
            tele.write(f"/etc/web.{path}", file.read_text(), 0o600)
        tele.write(CONFIG, _TELE, 0o600)
        tele.bash(INSTALL, timeout=120)
        tele.say("systemctl", "enable", "--now", "teleport-lite")
        tele.say("tctl", "users", "add", "alice", "--logins=root", "--roles=access")
        tele.say("tctl", "auth", "sign", "--user=alice", "--format=openssh", "--out=/root/alice")
        tele.write("/root/known_hosts", tele.say("tctl", "auth", "export", "--type=host") + "\n")
        tele.write("/root/.ssh/config", _SSH, 0o600)

    def token(self, kind: str = "node") -> str:
        said = self.tele.say("tctl", "tokens", "add", "--ttl=5m", f"--type={kind}")
        found = re.search(r"^The invite token: (\S+)$", said, re.M)
        assert found
        return found[1]

    def add(self, node: Machine, *, version: str = FIRST) -> None:
        """Installed by one line, configured by another, run by systemd. Waits until it is there."""
        node.bash(f"{INSTALL} -s {version}", timeout=120)
        words = ("node", "configure", f"--token={self.token()}", f"--proxy={DOMAIN}:443")
        node.say("teleport-lite", *words, "-o", "file")
        node.say("systemctl", "enable", "--now", "teleport-lite")
        self.reaches(node.name)

    def versions(self) -> dict[str, str]:
        """Of each host that is listed as a node."""
        said = json.loads(self.tele.say("tctl", "nodes", "ls", "--format=json"))
        return {each["hostname"]: each["version"] for each in said}

    def reaches(self, name: str) -> None:
        """The proxy hears of a node a moment after it came."""

        def refusal() -> str:
            done = self.tele.run("ssh", name, "true")
            return f"exit {done.returncode}: {done.stderr}" if done.returncode else ""

        try:
            eventually(lambda: not refusal())
        except AssertionError:
            raise AssertionError(f"no way to {name}: {refusal()}") from None

    @contextlib.contextmanager
    def session(self, name: str) -> Iterator["Session"]:
        with self.tele.going("ssh", name, "cat") as process:
            session = Session(process)
            session.answers()
            yield session


class Session:
    """A `cat` on a node, that says the same again as long as everything between us is well."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process, self._count = process, 0

    def answers(self) -> None:
        self._count += 1
        word = f"word {self._count}\n".encode()
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(word)
        assert self._process.stdout.readline() == word
