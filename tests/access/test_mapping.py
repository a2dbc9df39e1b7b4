"""Role maps: what roles of another cluster are worth here."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.access.mapping import MAX_GIVEN, check_map, map_roles, named
from teleport_lite.errors import Malformed
from teleport_lite.model.names import RESOURCE_NAME
from teleport_lite.model.trust import RoleMapping

MAP = (
    RoleMapping(remote="access", local=("visitor",)),
    RoleMapping(remote="^admin-(.*)$", local=("lead-$1", "on-call")),
    RoleMapping(remote="dev-*", local=("dev",)),
)


def line(remote: str, *local: str) -> RoleMapping:
    return RoleMapping(remote=remote, local=local)


@pytest.mark.parametrize(
    ("claimed", "given_here"),
    [
        (("access",), ("visitor",)),
        (("admin-web",), ("lead-web", "on-call")),
        (("dev-a", "dev-b"), ("dev",)),
        (("access", "admin-db"), ("visitor", "lead-db", "on-call")),
        ((), ()),
        # Nothing of it is in the map: names of ours, parts of names, other cases.
        (("visitor", "lead-web", "editor", "root"), ()),
        (("Access", "access2", "xaccess", "access ", "dev", "badmin-x"), ()),
    ],
)
def test_roles_are_worth_what_the_map_says_and_nothing_else(
    claimed: tuple[str, ...], given_here: tuple[str, ...]
) -> None:
    assert map_roles(MAP, claimed) == given_here


def test_without_a_map_nobody_has_a_role() -> None:
    assert map_roles((), ("access", "editor")) == ()


@pytest.mark.parametrize("claimed", ["admin-x y", "admin-../editor", "admin-\n", "admin-é", ""])
def test_what_is_no_name_of_a_role_becomes_none(claimed: str) -> None:
    assert map_roles((*MAP, line("*", "guest")), (claimed,)) == ()


def test_a_group_that_did_not_match_is_empty() -> None:
    assert map_roles((line("^(a)?b$", "x${1}y"),), ("b", "ab")) == ("xy", "xay")


def test_a_role_that_would_have_no_name_is_not_given() -> None:
    assert map_roles((line("^(a?)b$", "$1"),), ("b", "ab")) == ("a",)


def test_no_more_roles_than_anybody_has() -> None:
    claimed = [f"r{number}" for number in range(1000)]
    assert len(map_roles((line("^(r.*)$", "x-$1"),), claimed)) == MAX_GIVEN


@pytest.mark.parametrize(
    ("remote", "local", "says"),
    [
        ("", ("a",), "is not a role"),
        ("access", (), "has no local roles"),
        ("^(a$", ("a",), "is not a pattern"),
        ("admin-(.*)", ("a",), "patterns go from"),
        ("^a$", ("lead-$1",), "needs a group"),
        ("^(a)$", ("lead-$2",), "needs a group"),
        ("^a$", ("no spaces",), "is not the name of a role"),
        ("^(a+)+$", ("x",), "repetitions"),
        ("^(a|a)*$", ("x",), "repetitions"),
        ("^(a{1,9}){9}$", ("x",), "repetitions"),
        ("^.*.*.*$", ("x",), "repetitions"),
        ("*a*a*a*", ("x",), "is not a role or a glob"),
        ("^" + "a" * 300 + "$", ("x",), "is not a role"),
        ("[a-z]", ("x",), "is not a role or a glob"),
    ],
)
def test_a_line_that_can_not_be_meant_is_refused(
    remote: str, local: tuple[str, ...], says: str
) -> None:
    with pytest.raises(Malformed, match=says):
        check_map((line(remote, *local),))


def test_what_was_refused_opens_nothing_where_it_stands_all_the_same() -> None:
    assert map_roles((line("^(a+)+$", "x"),), ("aaaa",)) == ()


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_map_that_is_taken_makes_anybody_wait(remote: str, claimed: str) -> None:
    made = (line(remote, "x"),)
    try:
        check_map(made)
    except Malformed:
        return
    begun = time.thread_time()  # of ours alone: others may have the machine for long
    assert set(map_roles(made, (claimed,))) <= {"x"}
    assert time.thread_time() - begun < 1


@pytest.mark.parametrize(
    "remote", ["^.*.*x$", "^a*a*b$", "^(.*)-(.*)y$", "^.?.?x$", "^[a-z]*[a-z]*1$"]
)
def test_the_worst_pattern_that_is_taken_is_fast(remote: str) -> None:
    made = (line(remote, "x"),)
    check_map(made)
    begun = time.thread_time()
    map_roles(made, ["a" * 128] * 256)
    assert time.thread_time() - begun < 5


@given(st.lists(st.from_regex(RESOURCE_NAME, fullmatch=True), max_size=5))
def test_every_role_that_is_given_is_one_that_a_line_names(claimed: list[str]) -> None:
    allowed = {"visitor", "on-call", "dev"}
    for role in map_roles(MAP, claimed):
        assert role in allowed or role.startswith("lead-")


def test_the_roles_that_are_named_outright() -> None:
    assert named(MAP) == ("visitor", "on-call", "dev")
