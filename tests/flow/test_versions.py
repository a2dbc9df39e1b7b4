"""Two versions, a major apart: hosts, proxies, people and auth in any order, there and back."""

import json
import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow.cluster import Cluster, Running
from tests.flow.later import make_later
from tests.flow.proxied import PASSWORD, PROXY, set_password
from tests.flow.upgrades import Sources
from tests.support import eventually, free_port

ME = pwd.getpwuid(os.getuid()).pw_name
OLD, NEW = "9.4.1", "10.0.0"


class World(Cluster):
    """Auth, a proxy and a node of each version. Auth begins as the old one.

    `runs` is the file of the next process.
    """

    pinned: str
    node_new: Running

    def __init__(self, root: Path, files: dict[str, Path]) -> None:
        self.files, self.runs = files, files[OLD]
        super().__init__(root, name="versions.example.com")
        self.env |= {
            "TELEPORT_LITE_PYTHON": sys.executable,
            "TELEPORT_LITE_ROOT": str(root / "trees"),
        }
        self.web = {OLD: free_port(), NEW: free_port()}

    def words(self, *words: str) -> list[str]:
        return [str(self.runs), *words]

    def asked(self, version: str, *words: str, stdin: str = "") -> str:
        """What a tool of that version answers."""
        self.runs = self.files[version]
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, (version, words, done.stdout, done.stderr)
        return done.stdout

    def ask(self, version: str, *words: str) -> Any:
        words = ("tctl", "-c", str(self.config), *words, "--format=json")
        return json.loads(self.asked(version, *words))

    def restart_auth(self, version: str, **there: int) -> None:
        self.auth.stop()
        self.runs = self.files[version]
        self.start_auth()
        self.wait_for_hosts(version, **there)

    def wait_for_hosts(self, version: str, *, old: int, new: int) -> None:
        """So many of each version are connected, says a tool of `version`."""
        there = {OLD: old, NEW: new}
        eventually(lambda: self.ask(version, "status")["host_versions"] == there, what=str(there))

    def start_proxy(self, name: str, version: str, token: str) -> None:
        config, port = self.root / f"{name}.yaml", self.web[version]
        fields = {"name": name, "data": self.root / name, "auth": self.address, "extra": ""}
        config.write_text(PROXY.format(**fields, port=port, public=port))
        config.chmod(0o600)
        self.runs = self.files[version]
        words = ("start", "-c", str(config), f"--token={token}", self.pinned)
        self.start_words(*words, name=name)

    def start_node(self, name: str, version: str, by: str, token: str) -> Running:
        self.runs = self.files[version]
        flags = ("--roles=node", self.by(by), f"--token={token}", self.pinned)
        return self.start(*flags, name=name)

    def by(self, version: str) -> str:
        return f"--proxy=127.0.0.1:{self.web[version]}"

    def leads_to(self, tool: str, proxy: str, node: str) -> bool:
        """The proxy hears of a node a moment after it has come."""
        where = (self.by(proxy), f"--identity={self.root / 'alice.pem'}")
        self.runs = self.files[tool]
        command = ("-tt", f"{ME}@{node}", f"echo hello $((6 * 7)) {node}")
        return self.run("tsh", *where, "ssh", *command).stdout == f"hello 42 {node}\n"

    def check_ways(self, tool: str) -> None:
        """Through either proxy into either node."""
        for proxy in (OLD, NEW):
            for node in ("node-old", "node-new"):
                eventually(
                    lambda proxy=proxy, node=node: self.leads_to(tool, proxy, node),  # type: ignore[misc]  # mypy can not infer a lambda with a default
                    what=f"tsh {tool}, proxy {proxy}, {node}",
                )

    def check_login(self, tool: str, proxy: str, user: str) -> None:
        """With a password, which a browser sets at a proxy of that version."""
        invite = self.ask(tool, "users", "add", user, "--roles=access", f"--logins={ME}")
        set_password(invite["invite"]["url"], self.web[proxy])
        home = self.root / f"tsh-{user}"
        self.env["TELEPORT_HOME"] = str(home)
        words = (self.by(proxy), f"--user={user}", self.pinned)
        self.asked(tool, "tsh", "login", *words, stdin=f"{PASSWORD}\n")
        listed = json.loads(self.asked(tool, "tsh", "ls", "--format=json"))
        assert {"node-old", "node-new"} <= {each["hostname"] for each in listed}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    sources = Sources(tmp_path_factory.mktemp("builds"))
    old = sources.build(OLD)
    assert make_later(sources.package) > 50
    return {OLD: old, NEW: sources.build(NEW)}


@pytest.fixture
def world(tmp_path: Path, files: dict[str, Path]) -> Iterator[World]:
    with World(tmp_path, files) as world:
        yield world


@pytest.mark.timeout(600)
def test_one_version_apart_everybody_speaks_with_everybody(world: World) -> None:
    begin(world)
    # Auth is the oldest.
    world.check_ways(OLD)
    world.check_login(NEW, OLD, "bob")
    assert {each["version"] for each in world.ask(NEW, "nodes", "ls")} == {OLD, NEW}
    assert "2 of 4 run 10.0.0 (2)" in world.asked(OLD, "tctl", "-c", str(world.config), "status")
    [weather, *_] = eventually(lambda: events(world, "host.event"), what="an event nobody knew")
    assert (weather["kind"], weather["sky"]) == ("weather.change", "blue")
    # Auth goes first, as it should, and is joined by a host that is behind.
    world.restart_auth(NEW, old=2, new=2)
    world.check_ways(NEW)
    world.check_login(OLD, NEW, "carol")
    token = world.token("node")
    world.start_node("node-late", OLD, NEW, token)
    world.wait_for_hosts(OLD, old=3, new=2)
    eventually(lambda: sids(world, "session.upload") == sids(world, "session.start"))
    # It did not please. A node goes back too, with the files that its new program has written.
    world.node_new.stop()
    kept = json.loads((world.root / "node-new" / "identity.json").read_text())
    assert kept["invented"] == "of a later version"
    world.runs = world.files[OLD]
    world.start("--roles=node", world.by(OLD), name="node-new")
    world.restart_auth(OLD, old=4, new=1)
    eventually(lambda: world.leads_to(NEW, OLD, "node-new"), what="a node that has gone back")
    users = {each["name"] for each in world.ask(NEW, "users", "ls")}
    assert {"alice", "bob", "carol"} <= users
    assert [line for log in world.root.glob("*.log") for line in odd(log)] == []


def begin(world: World) -> None:
    world.pinned = f"--ca-pin={world.pin}"
    world.start_proxy("proxy-old", OLD, world.token("proxy"))
    world.start_proxy("proxy-new", NEW, world.token("proxy"))
    world.wait_for_hosts(OLD, old=1, new=1)
    world.start_node("node-old", OLD, NEW, world.token("node"))
    world.node_new = world.start_node("node-new", NEW, OLD, world.token("node"))
    world.tctl("users", "add", "alice", f"--logins={ME}", "--roles=access")
    world.tctl("auth", "sign", "--user=alice", f"--out={world.root / 'alice.pem'}")
    world.wait_for_hosts(NEW, old=2, new=2)


def events(world: World, kind: str) -> list[dict[str, Any]]:
    return [each for each in world.ask(NEW, "audit", "ls") if each["event"] == kind]


def sids(world: World, kind: str) -> set[str]:
    return {each["sid"] for each in events(world, kind)}


def odd(log: Path) -> list[str]:
    words = ("internal error", "Traceback", "is not a ", "can not be read", "dropped")
    return [line for line in log.read_text().splitlines() if any(each in line for each in words)]
