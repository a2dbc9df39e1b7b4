"""A cluster of whole machines: one with auth and proxy, one that becomes a node. As seed B has it.

get.example.com 10.88.0.1     releases
tele.example.com 10.88.0.10   auth, proxy on 443, node; people work here
node1 10.88.0.11              bare: tests install it
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests.machines.machine import Machine
from tests.machines.site import BASE, NAME, Authority
from tests.machines.wires import STREET, Street
from tests.support import eventually

DOMAIN = "tele.example.com"
TELE, NODE = "10.88.0.10", "10.88.0.11"
HOSTS = f"{STREET} {NAME}\n{TELE} {DOMAIN}\n{NODE} node1\n"
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
_SSH = f"""\
Host jump
 HostName {DOMAIN}
 Port 443
 HostKeyAlias tele.{DOMAIN}
Host node1
 HostName node1.{DOMAIN}
 HostKeyAlias node1.{DOMAIN}
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


@contextlib.contextmanager
def bare(
    street: Street, image: Path, authority: Authority, address: str, name: str
) -> Iterator[Machine]:
    """A machine that trusts the CA of the test and has nothing of ours."""
    with Machine(image, street.cable(address), name, hosts=HOSTS) as machine:
        authority.trusted_by(machine)
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

    @property
    def pin(self) -> str:
        found = re.search(r"^CA pin\s+(\S+)$", self.tele.say("tctl", "status"), re.M)
        assert found
        return found[1]

    def token(self, kind: str = "node") -> str:
        said = self.tele.say("tctl", "tokens", "add", "--ttl=5m", f"--type={kind}")
        found = re.search(r"^The invite token: (\S+)$", said, re.M)
        assert found
        return found[1]

    def nodes(self) -> list[str]:
        said = json.loads(self.tele.say("tctl", "nodes", "ls", "--format=json"))
        return [each["name"] for each in said]

    def ssh(self, *words: str) -> str:
        return self.tele.say("ssh", *words)

    def reaches(self, name: str) -> None:
        """The proxy hears of a node a moment after it came."""
        eventually(
            lambda: self.tele.run("ssh", name, "true").returncode == 0, what=f"ssh to {name}"
        )
