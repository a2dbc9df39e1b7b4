"""join_sessions of roles, as documents."""

from typing import Any

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.proto.resource import role_doc, role_from_doc

RULE = {"name": "help", "roles": ["dev"], "kinds": ["ssh"], "modes": ["observer", "peer"]}


def a_role(side: str = "allow", **changes: Any) -> dict[str, Any]:
    rule = {key: value for key, value in (RULE | changes).items() if value is not None}
    return {"kind": "role", "metadata": {"name": "r"}, "spec": {side: {"join_sessions": [rule]}}}


@pytest.mark.parametrize("side", ["allow", "deny"])
def test_a_rule_comes_back_as_it_was_written(side: str) -> None:
    role = role_from_doc(a_role(side))
    assert role_doc(role)["spec"][side]["join_sessions"] == [RULE]
    assert role_from_doc(role_doc(role)) == role


def test_one_word_is_a_list_of_one_and_a_name_may_be_missing() -> None:
    role = role_from_doc(a_role(name=None, modes="observer"))
    assert role.allow.join_sessions[0].modes == ("observer",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"roles": None}, r"join_sessions\[0\].roles is missing, like roles: \[access\]"),
        ({"kinds": []}, "kinds is missing"),
        ({"modes": None}, "modes is missing"),
        ({"modes": ["watcher"]}, "modes: 'watcher' is not one of observer, peer"),
        ({"kinds": ["telnet"]}, "kinds: 'telnet' is not one of ssh"),
        ({"name": 7}, "name must be text"),
        ({"roles": [7]}, "roles must be a list of text"),
        ({"role": "x"}, "unknown key 'role'"),
    ],
    ids=["roles", "kinds", "modes", "mode", "kind", "name", "text", "key"],
)
def test_what_is_wrong_with_a_rule_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Malformed, match=words):
        role_from_doc(a_role(**changes))


@pytest.mark.parametrize("raw", [{"a": 1}, "all", [7]], ids=["mapping", "text", "number"])
def test_it_is_a_list_of_mappings(raw: Any) -> None:
    doc = a_role()
    doc["spec"]["allow"]["join_sessions"] = raw
    with pytest.raises(Malformed):
        role_from_doc(doc)
