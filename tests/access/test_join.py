"""Who may join a session, and who may see what was recorded of it."""

from typing import Any

import pytest

from teleport_lite.access.join import may_join, may_see_session
from teleport_lite.access.presets import ACCESS, AUDITOR, EDITOR
from teleport_lite.access.verdict import Allowed, Refused, Verdict
from teleport_lite.model.user import Condition, JoinMode, JoinRule, Role, Rule

OBSERVE, TYPE = JoinMode.OBSERVER, JoinMode.PEER


def a_rule(**changes: Any) -> JoinRule:
    fields = {"name": "help", "roles": ("dev",), "kinds": ("ssh",), "modes": ("observer",)}
    return JoinRule(**(fields | changes))


def helper(*rules: JoinRule, deny: tuple[JoinRule, ...] = ()) -> Role:
    allow, denied = Condition(join_sessions=rules), Condition(join_sessions=deny)
    return Role(name="helper", allow=allow, deny=denied)


def asked(*roles: Role, joiner: str = "bob", mode: JoinMode = OBSERVE, **more: Any) -> Verdict:
    fields: dict[str, Any] = {"owner": "alice", "owner_roles": ("access", "dev")}
    return may_join(roles, joiner=joiner, mode=mode, **(fields | more))


def test_a_rule_lets_into_sessions_of_users_with_one_of_its_roles() -> None:
    assert asked(helper(a_rule())) == Allowed(by="helper")
    assert isinstance(asked(helper(a_rule()), owner_roles=("access",)), Refused)
    assert isinstance(asked(helper(a_rule()), owner_roles=()), Refused)
    assert isinstance(asked(helper(a_rule(roles=("*",))), owner_roles=()), Allowed)


def test_a_rule_is_for_its_modes_and_kinds_alone() -> None:
    refused = asked(helper(a_rule()), mode=TYPE)
    assert refused == Refused("no role allows joining this session as peer")
    assert isinstance(asked(helper(a_rule(modes=("peer",)))), Refused)
    assert isinstance(asked(helper(a_rule(modes=("*",))), mode=TYPE), Allowed)
    assert isinstance(asked(helper(a_rule(kinds=("k8s",)))), Refused)
    assert isinstance(asked(helper(a_rule(kinds=("*",)))), Allowed)


def test_no_rule_is_no_permission() -> None:
    assert isinstance(asked(), Refused)
    assert isinstance(asked(ACCESS, EDITOR, AUDITOR), Refused)


def test_ones_own_session_needs_no_rule() -> None:
    for mode in JoinMode:
        assert asked(joiner="alice", mode=mode) == Allowed(by="it is their own session")


def test_a_deny_wins_over_every_allow_and_over_ones_own() -> None:
    roles = (helper(a_rule(modes=("*",))), helper(deny=(a_rule(modes=("peer",)),)))
    assert isinstance(asked(*roles), Allowed)
    assert isinstance(asked(*roles, mode=TYPE), Refused)
    assert isinstance(asked(*roles, mode=TYPE, joiner="alice"), Refused)


@pytest.mark.parametrize("verb", ["list", "read", "delete"])
def test_of_other_peoples_recordings_the_presets_say(verb: str) -> None:
    def may(role: Role) -> bool:
        return isinstance(may_see_session((role,), verb, user="bob", owner="alice"), Allowed)

    assert not may(ACCESS)
    assert may(EDITOR)
    assert may(AUDITOR) is (verb != "delete")


def test_ones_own_recordings_may_be_seen_and_not_deleted() -> None:
    def own(verb: str, *roles: Role) -> Verdict:
        return may_see_session(roles, verb, user="alice", owner="alice")

    assert own("list", ACCESS) == own("read") == Allowed(by="it is their own session")
    assert isinstance(own("delete", ACCESS), Refused)


@pytest.mark.parametrize("what", ["session", "*"])
def test_a_deny_covers_ones_own_recordings(what: str) -> None:
    rules = (Rule(resources=(what,), verbs=("read",)),)
    blind = Role(name="blind", deny=Condition(rules=rules))
    assert isinstance(may_see_session((blind,), "read", user="a", owner="a"), Refused)
    assert isinstance(may_see_session((blind,), "list", user="a", owner="a"), Allowed)


def test_a_deny_of_something_else_does_not_cover_them() -> None:
    rules = (Rule(resources=("token",), verbs=("read",)),)
    blind = Role(name="blind", deny=Condition(rules=rules))
    assert may_see_session((blind,), "read", user="a", owner="a") == Allowed(
        by="it is their own session"
    )
    assert may_see_session((blind, EDITOR), "read", user="a", owner="a") == Allowed(by=EDITOR.name)
