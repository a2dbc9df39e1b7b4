"""Two clusters: a leaf joins its root, and users of the root reach nodes of the leaf."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.flow.cluster import Cluster
from tests.flow.proxied import PASSWORD, set_password
from tests.support import eventually, free_port

ME = pwd.getpwuid(os.getuid()).pw_name
ROOT, LEAF = "root.example.com", "leaf.example.com"
DENIED = 4

_CONFIG = """\
version: v3
teleport:
  nodename: {node}
  data_dir: %(data)s
auth_service:
  cluster_name: %(name)s
  listen_addr: 127.0.0.1:%(port)s
proxy_service:
  web_listen_addr: 127.0.0.1:{web}
  public_addr: 127.0.0.1:{web}
ssh_service:
  enabled: {has_node}
  listen_addr: 127.0.0.1:{ssh}
"""
_TRUST = """\
kind: trusted_cluster
version: v2
metadata: {{name: {root}}}
spec:
  enabled: {enabled}
  token: {token}
  web_proxy_addr: 127.0.0.1:{web}
  role_map:
  - {{remote: "^admin-(.*)$", local: ["lead-$1"]}}
  - {{remote: access, local: [visitor]}}
"""
_ROLE = """\
kind: role
version: v7
metadata: {{name: {name}}}
spec: {{allow: {{logins: [{login}], node_labels: {{"*": "*"}}}}}}
"""


def _cluster(root: Path, name: str, node: str, *, has_node: bool) -> tuple[Cluster, int]:
    root.mkdir()
    web = free_port()
    config = _CONFIG.format(
        node=node, web=web, ssh=free_port(), has_node="yes" if has_node else "no"
    )
    return Cluster(root, name=name, template=config.replace("%(", "{").replace(")s", "}")), web


@dataclass
class Pair:
    root: Cluster
    leaf: Cluster
    root_web: int
    leaf_web: int

    def tsh(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.root.run("tsh", *words)

    def trust(self, *, token: str = '""', enabled: str = "yes", force: bool = False) -> Any:
        doc = _TRUST.format(root=ROOT, web=self.root_web, token=token, enabled=enabled)
        words = ("tctl", "-c", str(self.leaf.config), "create", *(("-f",) if force else ()))
        return self.leaf.run(*words, stdin=doc)

    def node_is_there(self) -> bool:
        done = self.tsh("ls", f"--cluster={LEAF}", "--format=names")
        return done.stdout == "leaf-1\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    place = tmp_path_factory.mktemp("trust")
    root, root_web = _cluster(place / "root", ROOT, "root-1", has_node=False)
    with root:
        leaf, leaf_web = _cluster(place / "leaf", LEAF, "leaf-1", has_node=True)
        with leaf:
            pair = Pair(root, leaf, root_web, leaf_web)
            for name, login in (("visitor", ME), ("lead-web", ME)):
                leaf.tctl("create", stdin=_ROLE.format(name=name, login=login))
            root.tctl("create", stdin=_ROLE.format(name="stranger", login=ME))
            for user, role in (("alice", "access"), ("bob", "stranger")):
                link = root.json("users", "add", user, f"--logins={ME}", f"--roles={role}")
                set_password(link["invite"]["url"], root_web)
            log_in(pair, "alice")
            done = pair.trust(token=root.token("trusted_cluster"))
            assert done.returncode == 0, done.stderr
            eventually(pair.node_is_there, what="the node of the leaf, from the root")
            yield pair


def log_in(pair: Pair, user: str) -> None:
    where = (f"--proxy=127.0.0.1:{pair.root_web}", f"--user={user}", f"--ca-pin={pair.root.pin}")
    done = pair.root.run("tsh", "login", *where, stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr


def test_a_user_of_the_root_has_a_shell_at_the_leaf(pair: Pair) -> None:
    done = pair.tsh("ssh", f"--cluster={LEAF}", f"{ME}@leaf-1", "echo $SSH_TELEPORT_USER")
    assert done.stdout == f"alice@{ROOT}\n", done.stderr
