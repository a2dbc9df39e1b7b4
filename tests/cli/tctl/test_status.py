"""tctl status, as both guides show it."""

import json

import yaml

from tests.cli import answers
from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth


def test_status_names_the_cluster_its_cas_and_the_pin_last(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/status"] = answers.status()
    assert tctl("status").out == (
        "Cluster     tele.example.com\n"
        "Version     7.1.3\n"
        "host CA     never updated\n"
        "user CA     never updated\n"
        "db CA       never updated\n"
        "openssh CA  never updated\n"
        "jwt CA      never updated\n"
        f"CA pin      {answers.PIN}\n"
    )


def test_without_cas_the_columns_are_those_of_the_older_guide(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/status"] = answers.status(cas=[])
    assert tctl("status").out == (
        f"Cluster  tele.example.com\nVersion  7.1.3\nCA pin   {answers.PIN}\n"
    )


def test_a_rotated_ca_says_when_and_both_pins_are_shown(auth: FakeAuth, tctl: Tool) -> None:
    cas = [{"type": "host", "last_rotated": "2026-03-30T18:15:00Z"}]
    auth.answers["/v1/status"] = answers.status(cas=cas, ca_pins=["sha256:new", "sha256:old"])
    lines = tctl("status").out.splitlines()
    assert lines[2] == "host CA  rotated 30 Mar 26 18:15 UTC"
    assert lines[3:] == ["CA pin   sha256:new", "CA pin   sha256:old"]


def test_another_life_of_the_cluster_is_a_warning(auth: FakeAuth, tctl: Tool) -> None:
    other = {"hosts": 2, "lives": ["1-00c0ffee\x1b[2J"], "last": "2026-11-21T08:00:00Z"}
    life = {"id": "2-11111111", "began": "2026-11-20T08:00:00Z"}
    auth.answers["/v1/status"] = answers.status(cas=[], other_life=other, life=life)
    assert tctl("status").out.splitlines()[2:5] == [
        "Warning  2 hosts were told by another life of this cluster, the last at "
        "21 Nov 26 08:00 UTC",
        "         life 1-00c0ffee\\x1b[2J; this one is 2-11111111",
        "         a second auth server runs on a copy of the store: docs/backup.md",
    ]
    auth.answers["/v1/status"] = answers.status(cas=[], other_life=None, life=life)
    assert "Warning" not in tctl("status").out


def test_hosts_of_other_versions_are_counted_before_the_pin(auth: FakeAuth, tctl: Tool) -> None:
    versions = {"7.1.3": 7, "7.1.2": 2, "7.0.0\x1b[2J": 1}
    auth.answers["/v1/status"] = answers.status(cas=[], host_versions=versions)
    lines = tctl("status").out.splitlines()
    assert lines[2:] == [
        "Hosts    3 of 10 run 7.0.0\\x1b[2J (1), 7.1.2 (2)",
        f"CA pin   {answers.PIN}",
    ]
    auth.answers["/v1/status"] = answers.status(cas=[], host_versions={"7.1.3": 7})
    assert "Hosts" not in tctl("status").out


def test_json_and_yaml_say_the_same_facts(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/status"] = answers.status()
    assert json.loads(tctl("status", "--format=json").out) == answers.status()
    assert yaml.safe_load(tctl("status", "--format=yaml").out) == answers.status()
