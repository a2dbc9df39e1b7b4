"""The roles a process can have, and how people spell them."""

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.model.system_role import RoleBook, SystemRole

NODE = SystemRole(name="Node", flag="node", aliases=frozenset({"ssh"}))
APP = SystemRole(name="App", flag="app")
KUBE = SystemRole(name="Kube", flag="kube", implies=("App", "Missing"))
BOOK = RoleBook([NODE, APP, KUBE])


@pytest.mark.parametrize("words", ["node", "NODE", "Node", " node ", "ssh"])
def test_case_and_aliases_do_not_matter(words: str) -> None:
    assert BOOK.parse(words) == ("Node",)


def test_a_list_keeps_its_order() -> None:
    assert BOOK.parse("app,node") == ("App", "Node")


@pytest.mark.parametrize("words", ["root", "", "node,", ",", "node;app", "no\nde"])
def test_a_role_that_does_not_exist_is_refused_with_those_that_do(words: str) -> None:
    with pytest.raises(Malformed, match="does not exist") as refused:
        BOOK.parse(words)
    assert refused.value.hint == "one or more of app,kube,node"
    assert refused.value.message.isprintable()


def test_a_misspelt_role_gets_the_nearest_right_one() -> None:
    with pytest.raises(Malformed, match="did you mean node"):
        BOOK.parse("nod")


@pytest.mark.parametrize("words", ["node,node", "node,ssh"])
def test_the_same_role_twice_is_refused(words: str) -> None:
    with pytest.raises(Malformed, match="role node is given twice"):
        BOOK.parse(words)


def test_a_role_brings_along_what_it_implies_and_what_is_there() -> None:
    assert BOOK.with_implied(["Kube", "App"]) == ("Kube", "App")


def test_a_canonical_name_is_not_a_word_people_type() -> None:
    assert BOOK.get("Node") is NODE
    assert "Node" in BOOK
    assert "node" not in BOOK
    with pytest.raises(Malformed, match="'node' is not known here"):
        BOOK.get("node")


def test_two_roles_may_not_share_a_word() -> None:
    with pytest.raises(ValueError, match="two roles are called ssh"):
        RoleBook([NODE, SystemRole(name="Other", flag="ssh")])
