"""tctl nodes ls."""

import json
import re

import yaml

from tests.cli import answers
from tests.cli.answers import UUID
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth


def test_the_table_has_the_columns_of_the_guide(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/nodes/list"] = {"nodes": [answers.node()]}
    listed = tctl("nodes", "ls")
    assert listed.out == (
        "Host    UUID                                  Public Address  Labels         Version\n"
        "------  ------------------------------------  --------------  -------------  -------\n"
        f"turing  {UUID}  10.1.0.5:3022   distro=ubuntu  0.1.0\n"
    )
    assert listed.err == ""


def test_the_older_columns_are_there_for_who_needs_them(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/nodes/list"] = {"nodes": [answers.node()]}
    header, _, row = tctl("nodes", "ls", "--compat-columns").out.splitlines()
    assert re.split(r" {2,}", header) == ["Node Name", "Node ID", "Address", "Labels"]
    assert re.split(r" {2,}", row) == ["turing", UUID, "10.1.0.5:3022", "distro:ubuntu"]


def test_a_node_that_is_away_is_not_passed_off_as_alive(auth: FakeAuth, tctl: Tool) -> None:
    away = answers.node(hostname="dijkstra", state="offline")
    auth.answers["/v1/nodes/list"] = {"nodes": [answers.node(), away]}
    listed = tctl("nodes", "ls")
    assert listed.err == "WARN: 1 of 2 nodes not online, tctl nodes ls -v shows which\n"
    assert "State" not in listed.out
    verbose = tctl("nodes", "ls", "-v")
    assert verbose.err == ""
    assert verbose.out.splitlines()[0].endswith("  State")
    assert verbose.out.splitlines()[2].endswith("  online")
    assert verbose.out.splitlines()[3].endswith("  offline since 21 Nov 26 09:00 UTC")


def test_labels_and_words_narrow_the_listing(auth: FakeAuth, tctl: Tool) -> None:
    other = answers.node(hostname="dijkstra", labels={"distro": "debian"}, address="10.1.0.6:3022")
    auth.answers["/v1/nodes/list"] = {"nodes": [answers.node(), other]}

    def names(*words: str) -> list[str]:
        found = json.loads(tctl("nodes", "ls", "--format=json", *words).out)
        return [each["hostname"] for each in found]

    assert names() == ["turing", "dijkstra"]
    assert names("distro=debian") == ["dijkstra"]
    assert names("--search=TUR,ubuntu") == ["turing"]
    assert names("--search=turing", "--search=debian") == []


def test_json_and_yaml_carry_the_state(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/nodes/list"] = {"nodes": [answers.node(state="stale")]}
    assert json.loads(tctl("nodes", "ls", "--format=json").out) == [answers.node(state="stale")]
    assert yaml.safe_load(tctl("nodes", "ls", "--format=yaml").out) == [answers.node(state="stale")]


def test_a_label_cannot_fake_a_row(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/nodes/list"] = {"nodes": [answers.node(labels={"a": "x\nroot  uuid\033[1A"})]}
    said = tctl("nodes", "ls").out
    assert len(said.splitlines()) == 3
    assert r"a=x\nroot  uuid\x1b[1A" in said
