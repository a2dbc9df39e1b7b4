"""Two clusters: a leaf joins its root, and users of the root reach nodes of the leaf."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.errors import Denied
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import stranger_context
from teleport_lite.net.way import Way
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

    def tsh(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return self.root.run("tsh", *words, env=env)

    def trust(self, *, token: str = '""', enabled: str = "yes", force: bool = False) -> Any:
        doc = _TRUST.format(root=ROOT, web=self.root_web, token=token, enabled=enabled)
        words = ("tctl", "-c", str(self.leaf.config), "create", *(("-f",) if force else ()))
        return self.leaf.run(*words, stdin=doc)

    def join(self) -> None:
        """With a token, until users of the root see the node of the leaf."""
        done = self.trust(token=self.root.token("trusted_cluster"))
        assert done.returncode == 0, done.stderr
        eventually(self.node_is_there, what="the node of the leaf, from the root")

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
            pair.join()
            yield pair


def log_in(pair: Pair, user: str, **env: str) -> None:
    where = (f"--proxy=127.0.0.1:{pair.root_web}", f"--user={user}", f"--ca-pin={pair.root.pin}")
    done = pair.root.run("tsh", "login", *where, stdin=f"{PASSWORD}\n", env=env)
    assert done.returncode == 0, done.stderr


def shell(pair: Pair, *command: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return pair.tsh("ssh", f"--cluster={LEAF}", f"{ME}@leaf-1", *command, **env)


def events(cluster: Cluster, kind: str, **facts: str) -> list[dict[str, Any]]:
    """Of that kind, with these facts."""
    return [each for each in cluster.events(kind) if facts.items() <= each.items()]


class Session:
    """A shell at the leaf that stays open. A context manager."""

    def __init__(self, pair: Pair) -> None:
        words = pair.root.words("tsh", "ssh", f"--cluster={LEAF}", f"{ME}@leaf-1", "echo in; cat")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=pipe, env=pair.root.env
        )

    def __enter__(self) -> "Session":
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"in\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_both_ends_show_the_other(pair: Pair) -> None:
    [leaf] = pair.root.json("get", "remote_cluster")
    assert leaf["metadata"]["name"] == LEAF
    eventually(
        lambda: pair.root.json("get", "rc")[0]["status"]["connection"] == "online",
        what="the leaf is online",
    )
    [root] = pair.leaf.json("get", "trusted_cluster")
    assert root["metadata"]["name"] == ROOT
    assert "token" not in root["spec"]
    done = pair.tsh("clusters")
    assert [line.split()[:3] for line in done.stdout.splitlines()[2:]] == [
        [ROOT, "online", "root"],
        [LEAF, "online", "leaf"],
    ]
    # A leaf is no host of its root, and nothing else of it is shown there.
    assert [each["metadata"]["name"] for each in pair.root.json("get", "nodes")] == []
    assert len(pair.root.json("get", "hosts")) == 1


def test_a_user_of_the_root_has_a_shell_at_the_leaf(pair: Pair) -> None:
    done = shell(pair, "echo $SSH_TELEPORT_USER; exit 7")
    assert (done.stdout, done.returncode) == (f"alice@{ROOT}\n", 7), done.stderr
    # Told by the proxy and by the node, each in its own time.
    [here, *_] = eventually(lambda: events(pair.root, "session.connect", user="alice"))
    assert (here["cluster"], here["via"], here["node_name"]) == (LEAF, "leaf", "leaf-1")
    [there, *_] = eventually(lambda: events(pair.leaf, "session.connect", user=f"alice@{ROOT}"))
    assert (there["by"], there["login"]) == ("visitor", ME)
    eventually(lambda: events(pair.leaf, "session.end", user=f"alice@{ROOT}"))
    assert events(pair.leaf, "session.connect", user="alice") == []


def test_openssh_alone_gets_there_with_what_tsh_config_says(pair: Pair) -> None:
    config = pair.root.root / "ssh_config"
    config.write_text(pair.tsh("config").stdout)
    node = f"{ME}@leaf-1.{LEAF}"
    file = pair.root.root / "from-leaf"
    for words in (
        ("ssh", "-F", str(config), node, "true"),
        ("scp", "-F", str(config), f"{node}:/etc/hostname", str(file)),
    ):
        done = subprocess.run(words, env=pair.root.env, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert file.read_text() == Path("/etc/hostname").read_text()


def test_who_has_no_role_that_is_mapped_sees_and_enters_nothing(pair: Pair) -> None:
    home = {"TELEPORT_HOME": str(pair.root.root / "bob")}
    log_in(pair, "bob", **home)
    listed = pair.tsh("ls", f"--cluster={LEAF}", **home)
    assert listed.returncode == DENIED
    assert "no role of bob in cluster root.example.com is worth one" in listed.stderr
    done = shell(pair, "true", **home)
    assert done.returncode == 255
    assert "no role of bob in cluster root.example.com is worth one here" in done.stderr
    [told] = eventually(lambda: events(pair.leaf, "session.connect", user=f"bob@{ROOT}"))
    assert told["code"] == "TSC01W"


def test_a_lock_at_the_leaf_is_for_the_visitor_and_not_for_a_namesake(pair: Pair) -> None:
    pair.leaf.tctl("lock", "--user=alice", "--ttl=1m")
    with Session(pair) as session:
        said = pair.leaf.tctl("lock", f"--user=alice@{ROOT}")
        assert session.process.wait(timeout=60) == 255
    assert shell(pair, "true").returncode == 255
    pair.leaf.tctl("rm", f"lock/{said.split(chr(34))[1]}")
    eventually(lambda: shell(pair, "true").returncode == 0, what="the lock has ended")


def test_nobody_of_the_leaf_may_be_called_like_a_visitor(pair: Pair) -> None:
    words = ("users", "add", f"alice@{ROOT}", "--roles=access")
    done = pair.leaf.run("tctl", "-c", str(pair.leaf.config), *words)
    assert done.returncode != 0
    assert "is what a user of cluster root.example.com is called here" in done.stderr


def test_a_lock_at_the_root_holds_at_the_leaf(pair: Pair) -> None:
    with Session(pair) as session:
        said = pair.root.tctl("lock", "--user=alice")
        assert session.process.wait(timeout=60) == 255
    assert "user alice is locked" in shell(pair, "true").stderr
    pair.root.tctl("rm", f"lock/{said.split(chr(34))[1]}")
    eventually(lambda: shell(pair, "true").returncode == 0, what="the lock has ended")


def test_strangers_find_nobody_behind_the_name_of_the_leaf(pair: Pair) -> None:
    """Through a proxy of the root, auth of the leaf is there for users of the root alone."""
    way = Way(f"127.0.0.1:{pair.root_web}", LEAF)
    for path, words in (("/v1/ca", None), ("/v1/login/start", {"client_first": "x", "time": 0})):
        with Connection.tls(way, stranger_context()) as wire, pytest.raises(Denied):
            wire.ask(path, words)


def test_the_jump_host_of_the_root_says_what_leads_to_the_leaf(pair: Pair) -> None:
    config = pair.root.root / "jump_config"
    key = next((pair.root.root / "tsh" / "keys").glob("*/alice"))
    known = pair.root.root / "known"
    known.write_text(pair.root.tctl("auth", "export", "--type=host"))
    config.write_text(
        f"Host *\n UserKnownHostsFile {known}\n StrictHostKeyChecking no\n IdentityFile {key}\n"
    )
    jump = ("ssh", "-F", str(config), "-J", f"alice@127.0.0.1:{pair.root_web}")
    words = (*jump, f"{ME}@leaf-1.{LEAF}", "true")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 255
    assert f"tsh ssh --cluster={LEAF} leaf-1" in done.stderr


def test_an_identity_file_leads_to_the_leaf_as_well(pair: Pair, tmp_path: Path) -> None:
    file, proxy = tmp_path / "alice.identity", f"--proxy=127.0.0.1:{pair.root_web}"
    pair.root.tctl("auth", "sign", "--user=alice", f"--out={file}")
    home = {"TELEPORT_HOME": str(tmp_path / "nobody")}
    who = ("-i", str(file), proxy, f"--cluster={LEAF}")
    done = pair.tsh("ssh", *who, f"{ME}@leaf-1", "echo", "by file", **home)
    assert (done.stdout, done.returncode) == ("by file\n", 0), done.stderr
    done = pair.tsh("ssh", *who[:-1], "--cluster=nosuch.test", f"{ME}@leaf-1", **home)
    assert (done.returncode, "cluster nosuch.test is not known" in done.stderr) == (3, True)
    assert "tsh clusters" in done.stderr


def test_the_file_of_a_bot_says_that_it_is_for_its_own_cluster(pair: Pair, tmp_path: Path) -> None:
    made = pair.root.json("bots", "add", "ci", "--roles=access")
    words = (f"--auth-server=127.0.0.1:{pair.root_web}", f"--token={made['token']}", "--oneshot")
    places = (f"--storage={tmp_path / 'storage'}", f"--destination-dir={tmp_path / 'out'}")
    done = pair.root.run("tbot", "start", *words, *places, f"--ca-pin={pair.root.pin}")
    assert done.returncode == 0, done.stderr
    file, proxy = tmp_path / "out" / "identity", f"--proxy=127.0.0.1:{pair.root_web}"
    done = pair.tsh("ssh", "-i", str(file), proxy, f"--cluster={LEAF}", f"{ME}@leaf-1")
    assert done.returncode == 4
    assert f"is of a bot, and for cluster {ROOT} alone" in done.stderr
    assert "tctl auth sign --user=NAME" in done.stderr


def test_trust_can_be_taken_back_and_given_again_without_a_token(pair: Pair) -> None:
    with Session(pair) as session:
        done = pair.trust(enabled="no", force=True)
        assert done.returncode == 0, done.stderr
        assert session.process.wait(timeout=60) == 255
    assert shell(pair, "true").returncode == 255
    assert pair.trust(enabled="yes", force=True).returncode == 0
    eventually(lambda: shell(pair, "true").returncode == 0, what="a way to the leaf")


def test_a_leaf_that_was_removed_is_known_no_more(pair: Pair) -> None:
    pair.root.tctl("rm", f"rc/{LEAF}")
    eventually(lambda: "is not known" in shell(pair, "true").stderr, what="the leaf is gone")
    assert pair.root.json("get", "rc") == []
    pair.leaf.tctl("rm", f"tc/{ROOT}")
    assert pair.leaf.json("get", "tc") == []
    pair.join()  # it may again, and other tests may come after this one
