"""tctl get, create, rm."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Tool
from tests.cli.fake_auth import FakeAuth, Refusal

ROLE: dict[str, Any] = {
    "kind": "role",
    "version": "v7",
    "metadata": {"name": "dev", "labels": {}},
    "spec": {"options": {"port_forwarding": True}, "allow": {"logins": ["root"]}},
}
USER: dict[str, Any] = {
    "kind": "user",
    "version": "v2",
    "metadata": {"name": "alice", "created": None},
    "spec": {"roles": ["dev"]},
}


def has(auth: FakeAuth, *resources: dict[str, Any]) -> None:
    auth.answers["/v1/resources/get"] = {"resources": list(resources)}


def test_get_prints_documents_with_a_line_between_them(auth: FakeAuth, tctl: Tool) -> None:
    has(auth, ROLE, USER)
    said = tctl("get", "nodes").out
    assert list(yaml.safe_load_all(said)) == [ROLE, USER]
    assert said.splitlines().count("---") == 1
    assert said.startswith("kind: role\nversion: v7\nmetadata:\n  name: dev\n")
    assert auth.asked[-1][1] == {"kind": "nodes", "name": ""}


def test_get_as_json_is_an_array_even_for_one(auth: FakeAuth, tctl: Tool) -> None:
    has(auth, ROLE)
    assert json.loads(tctl("get", "role/dev", "--format=json").out) == [ROLE]
    assert auth.asked[-1][1] == {"kind": "role", "name": "dev"}


def test_get_as_text_is_a_table(auth: FakeAuth, tctl: Tool) -> None:
    has(auth, ROLE)
    assert tctl("get", "roles", "--format=text").out == "Kind  Name\n----  ----\nrole  dev\n"


def test_get_takes_several_kinds_and_names_with_slashes(auth: FakeAuth, tctl: Tool) -> None:
    has(auth)
    tctl("get", "users,cert_authority/host/example.com")
    assert [asked for _, asked in auth.asked] == [
        {"kind": "users", "name": ""},
        {"kind": "cert_authority", "name": "host/example.com"},
    ]


def test_nothing_found_prints_nothing(auth: FakeAuth, tctl: Tool) -> None:
    has(auth)
    assert tctl("get", "locks").out == ""
    assert json.loads(tctl("get", "locks", "--format=json").out) == []


def test_what_get_prints_create_takes(auth: FakeAuth, tctl: Tool, tmp_path: Path) -> None:
    has(auth, ROLE, USER)
    auth.answers["/v1/resources/create"] = lambda asked: {
        "kind": asked["resource"]["kind"],
        "name": asked["resource"]["metadata"]["name"],
        "created": True,
    }
    for form in ("yaml", "json"):
        file = tmp_path / f"some.{form}"
        file.write_text(tctl("get", "all", f"--format={form}").out)
        auth.asked.clear()
        made = tctl("create", str(file))
        # `get all` asks for seven kinds, and this fake answers each of them with both.
        assert made.out == 'role "dev" has been created\nuser "alice" has been created\n' * 7
        assert [asked["resource"] for _, asked in auth.asked] == [ROLE, USER] * 7


def test_create_reads_standard_input_and_replaces_when_forced(
    auth: FakeAuth, tctl: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"kind": "role", "name": "dev", "created": False}
    auth.answers["/v1/resources/create"] = answer
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(yaml.safe_dump(ROLE).encode())))
    assert tctl("create", "-f").out == 'role "dev" has been updated\n'
    assert auth.asked[-1][1] == {"resource": ROLE, "force": True}


def test_a_bad_document_is_named_and_the_ones_before_it_stay(
    auth: FakeAuth, tctl: Tool, tmp_path: Path
) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("kind: role\n---\nkind: user\n")
    auth.answers["/v1/resources/create"] = lambda asked: (
        {"kind": "role", "name": "dev", "created": True}
        if asked["resource"]["kind"] == "role"
        else Refusal(409, "conflict", "user alice already exists", "tctl create -f")
    )
    refused = tctl("create", str(file))
    assert refused.code == 1
    assert refused.out == 'role "dev" has been created\n'
    assert refused.err == (
        f"ERROR: {file}, document 2 of 2: user alice already exists\n  try: tctl create -f\n"
    )


def test_nothing_is_sent_when_the_file_is_wrong(auth: FakeAuth, tctl: Tool, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("kind: role\n---\nkind: user\nkind: user\n")
    refused = tctl("create", str(file))
    assert (refused.code, refused.out, auth.asked) == (1, "", [])
    assert refused.err.startswith(f"ERROR: {file}:4: 'kind' is given twice")


def test_a_file_that_is_not_there_is_not_found(auth: FakeAuth, tctl: Tool) -> None:
    refused = tctl("create", "/nowhere/role.yaml")
    assert (refused.code, refused.err) == (3, "ERROR: /nowhere/role.yaml does not exist\n")


@pytest.mark.parametrize("verb", ["rm", "del"])
def test_rm_takes_kind_and_name(auth: FakeAuth, tctl: Tool, verb: str) -> None:
    auth.answers["/v1/resources/remove"] = {"kind": "role", "name": "dev"}
    assert tctl(verb, "role/dev").out == 'role "dev" has been deleted\n'
    assert auth.asked[-1][1] == {"kind": "role", "name": "dev"}


def test_update_sets_the_labels_of_a_leaf_cluster(auth: FakeAuth, tctl: Tool) -> None:
    auth.answers["/v1/resources/update"] = {"kind": "remote_cluster", "name": "leaf.example.com"}
    done = tctl("update", "rc/leaf.example.com", "--set-labels=env=prod,team=db")
    assert done.out == 'remote_cluster "leaf.example.com" has been updated\n'
    asked = {"kind": "rc", "name": "leaf.example.com", "labels": {"env": "prod", "team": "db"}}
    assert auth.asked[-1][1] == asked
    tctl("update", "rc/leaf.example.com", "--set-labels=")
    assert auth.asked[-1][1] == asked | {"labels": {}}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["rc", "--set-labels=a=b"], 2),
        (["rc/leaf"], 2),
        (["rc/leaf", "--set-labels=env"], 1),
        (["rc/leaf", "--set-labels=teleport.dev/x=y"], 1),
    ],
)
def test_update_asks_nothing_it_can_not_say(
    auth: FakeAuth, tctl: Tool, words: list[str], code: int
) -> None:
    refused = tctl("update", *words)
    assert (refused.code, auth.asked) == (code, [])


@pytest.mark.parametrize("what", ["role", "role/", "all", "role/a,role/b"])
def test_rm_removes_exactly_one_thing(auth: FakeAuth, tctl: Tool, what: str) -> None:
    refused = tctl("rm", what)
    assert (refused.code, auth.asked) == (2, [])
    assert refused.err.startswith(f"ERROR: {what} is not kind/name, like node/UUID or role/dev")
