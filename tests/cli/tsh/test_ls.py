"""tsh ls and tsh clusters; tctl with what tsh login left."""

import json
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.client.profile import Profile
from tests.cli import answers
from tests.cli.conftest import Tool
from tests.cli.tsh.conftest import Tsh
from tests.client.fake_proxy import CLUSTER, FakeProxy


def node(**changes: Any) -> dict[str, Any]:
    return answers.node(tunnels=[], logins=["root"], **changes)


def test_nodes_behind_a_nat_are_marked(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    nodes = [node(), node(hostname="nat-1", address="", labels={"b": "2", "a": "1"})]
    proxy.answers["/v1/me/nodes"] = {"nodes": nodes}
    said = tsh("ls")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "Node Name  Address        Labels\n"
        "---------  -------------  -------------\n"
        "turing     10.1.0.5:3022  distro=ubuntu\n"
        "nat-1      ⟵ Tunnel       a=1,b=2\n"
    )
    wide = tsh("ls", "-v").out.splitlines()
    assert wide[0].split() == ["Node", "Name", "Node", "ID", "Address", "Labels", "State"]
    assert answers.UUID in wide[2]
    assert wide[2].endswith("online")


def test_what_is_wanted_is_asked_for(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/me/nodes"] = {"nodes": [node()]}
    assert tsh("ls", "env=prod,role=db", "--search=web,prod", "--search=x").code == 0
    assert proxy.asked[-1][1] == {"labels": {"env": "prod", "role": "db"}, "search": "web prod x"}
    assert tsh("ls", "nonsense").code == 1


def test_it_has_its_forms(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/me/nodes"] = {"nodes": [node(), node(hostname="evil\x1b[2J")]}
    assert json.loads(tsh("ls", "--format=json").out)[0]["hostname"] == "turing"
    assert "hostname: turing" in tsh("ls", "-f", "yaml").out
    assert tsh("ls", "-f", "names").out == "turing\nevil\\x1b[2J\n"


def test_absent_nodes_do_not_look_alive(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/me/nodes"] = {"nodes": [node(), node(state="offline")]}
    assert tsh("ls").err == "WARN: 1 of 2 nodes not online, tsh ls -v shows which\n"


def test_flags_may_stand_before_or_after_and_the_environment_is_asked(
    tsh: Tsh, alice: Profile, proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.answers["/v1/me/nodes"] = {"nodes": []}
    where = f"--proxy={proxy.address}"
    assert tsh(where, "ls").code == 0
    assert tsh("ls", where).code == 0
    assert tsh("--proxy=elsewhere.example.com", "ls", where).code == 0
    monkeypatch.setenv("TELEPORT_PROXY", "elsewhere.example.com")
    assert tsh("ls").code == 4
    assert tsh("ls", where).code == 0
    said = tsh("ls", where, "--cluster=leaf.example.com")
    assert (said.code, "cluster leaf.example.com is not known" in said.err) == (3, True)
    assert tsh("ls", where, "-c", CLUSTER).code == 0


def test_clusters_lists_the_one(tsh: Tsh, alice: Profile, proxy: FakeProxy) -> None:
    proxy.answers["/v1/me"] = {"user": "alice"}
    proxy.answers["/v1/me/clusters"] = {"clusters": []}
    said = tsh("clusters")
    assert said.out.splitlines()[2].split() == [CLUSTER, "online", "root", "*"]
    assert tsh("clusters", "-q").out == f"{CLUSTER}  online\n"
    assert json.loads(tsh("clusters", "-f", "json").out)[0]["selected"] is True
    proxy.answers["/v1/me"] = lambda _: {
        "error": {"code": "unavailable", "message": "closing", "hint": "", "trace": ""},
        "_status": 503,
    }
    assert "offline" in tsh("clusters").out


def test_tctl_asks_through_the_proxy_somebody_is_logged_in_to(
    run: Tool, alice: Profile, proxy: FakeProxy, tmp_path: Path
) -> None:
    proxy.answers["/v1/status"] = answers.status()
    said = run("tctl", "status")
    assert said.code == 0, said.err
    assert proxy.asked[-1][0] == "/v1/status"
    assert run("tctl", "status", f"--auth-server={proxy.address}").code == 0


def test_a_proxy_that_does_not_know_the_cluster_is_told_as_one(
    run: Tool, alice: Profile, proxy: FakeProxy
) -> None:
    proxy.cluster.name = "other.example.com"
    said = run("tctl", "status")
    assert said.code == 5
    assert said.err.startswith(f"ERROR: {proxy.address}")
    assert "auth service may be down" in said.err or "the connection broke" in said.err
