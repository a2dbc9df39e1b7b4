"""May this person do that?"""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.access.decide import (
    forced_command,
    locked,
    logins_of,
    may_do,
    may_go_on,
    may_open_shell,
    may_reach,
    merged_options,
    session_ttl,
)
from teleport_lite.access.presets import ACCESS, AUDITOR, EDITOR
from teleport_lite.access.verdict import Allowed, Refused
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.user import (
    MAX_SESSION_TTL,
    Condition,
    HostUserMode,
    Options,
    RecordMode,
    Role,
    Rule,
    User,
)
from teleport_lite.testing.fakes import T0

PROD, DEV = {"env": "prod"}, {"env": "dev"}
EVERYWHERE = {"*": ("*",)}


NOTHING = Condition()


def role(name: str, *, allow: Condition = NOTHING, deny: Condition = NOTHING, **options):
    return Role(name=name, allow=allow, deny=deny, options=Options(**options))


def shell(*roles: Role, login: str = "root", labels=PROD, traits=None):
    return may_open_shell(roles, traits or {}, login, labels)


ROOT_ON_PROD = role("prod", allow=Condition(logins=("root",), node_labels={"env": ("prod",)}))
DEPLOY_ON_DEV = role("dev", allow=Condition(logins=("deploy",), node_labels={"env": ("dev",)}))


# Leaf clusters


TO_PROD = role("to-prod", allow=Condition(cluster_labels={"env": ("prod",)}))
NOT_PROD = role("not-prod", deny=Condition(cluster_labels={"env": ("prod",)}))
TO_ALL = role("to-all", allow=Condition(cluster_labels=EVERYWHERE))


@pytest.mark.parametrize(
    ("roles", "labels", "by"),
    [
        ([], {}, None),
        ([ROOT_ON_PROD], {}, "prod"),  # nobody speaks of labels
        ([ROOT_ON_PROD], PROD, None),
        ([ROOT_ON_PROD, TO_PROD], PROD, "to-prod"),
        ([TO_PROD], DEV, None),
        ([TO_PROD], {}, None),
        ([TO_ALL], {}, "to-all"),
        ([TO_ALL, NOT_PROD], DEV, "to-all"),
        ([TO_ALL, NOT_PROD], PROD, None),
        ([NOT_PROD], {}, None),
    ],
)
def test_a_leaf_with_labels_wants_a_role_that_names_them(roles, labels, by) -> None:
    verdict = may_go_on(roles, labels)
    assert verdict == Allowed(by=by) if by else isinstance(verdict, Refused)


# Shells


def test_a_role_that_allows_login_and_labels_gets_the_credit() -> None:
    assert shell(DEPLOY_ON_DEV, ROOT_ON_PROD) == Allowed(by="prod")


def test_no_roles_allow_nothing() -> None:
    assert shell() == Refused("no role allows login root here")


def test_login_and_labels_have_to_come_from_the_same_role() -> None:
    assert isinstance(shell(ROOT_ON_PROD, DEPLOY_ON_DEV, labels=DEV), Refused)
    assert isinstance(shell(ROOT_ON_PROD, DEPLOY_ON_DEV, login="deploy"), Refused)


def test_a_role_without_labels_reaches_no_host() -> None:
    assert isinstance(shell(role("empty", allow=Condition(logins=("root",)))), Refused)


def test_a_role_without_logins_opens_no_shell() -> None:
    assert isinstance(shell(role("empty", allow=Condition(node_labels=EVERYWHERE))), Refused)


def test_a_deny_wins_over_every_allow_wherever_it_stands() -> None:
    no_root = role("no-root", deny=Condition(logins=("root",)))
    expected = Refused("role no-root denies login root here")
    assert shell(ROOT_ON_PROD, no_root) == expected
    assert shell(no_root, ROOT_ON_PROD) == expected


def test_a_deny_of_login_and_labels_needs_both() -> None:
    role_ = role("not-there", deny=Condition(logins=("root",), node_labels={"env": ("prod",)}))
    everywhere = role("all", allow=Condition(logins=("*",), node_labels=EVERYWHERE))
    assert isinstance(shell(everywhere, role_), Refused)
    assert isinstance(shell(everywhere, role_, labels=DEV), Allowed)
    assert isinstance(shell(everywhere, role_, login="deploy"), Allowed)


def test_a_deny_of_labels_alone_is_for_every_login() -> None:
    no_prod = role("no-prod", deny=Condition(node_labels={"env": ("prod",)}))
    assert shell(ROOT_ON_PROD, no_prod) == Refused("role no-prod denies access to this host")


def test_a_deny_reaches_logins_through_templates_too() -> None:
    own = role("own", deny=Condition(logins=("{{internal.banned}}",)))
    assert isinstance(shell(ROOT_ON_PROD, own, traits={"banned": ("root",)}), Refused)
    assert isinstance(shell(ROOT_ON_PROD, own, traits={}), Allowed)


def test_a_deny_of_star_is_a_deny_of_all() -> None:
    assert isinstance(shell(ROOT_ON_PROD, role("none", deny=Condition(logins=("*",)))), Refused)


def test_the_access_role_gives_people_their_own_logins_only() -> None:
    traits = {"logins": ("alice",)}
    assert shell(ACCESS, login="alice", traits=traits) == Allowed(by="access")
    assert isinstance(shell(ACCESS, login="root", traits=traits), Refused)
    assert isinstance(shell(ACCESS, login="root"), Refused)
    assert isinstance(shell(ACCESS, login=""), Refused)


@given(
    st.lists(st.sampled_from([ROOT_ON_PROD, DEPLOY_ON_DEV, ACCESS]), max_size=4),
    st.sampled_from(["root", "deploy", "alice"]),
    st.sampled_from([PROD, DEV, {}]),
)
def test_more_denies_never_allow_more(roles: list[Role], login: str, labels) -> None:
    traits = {"logins": ("alice",)}
    stricter = [*roles, role("deny", deny=Condition(logins=(login,)))]
    assert isinstance(may_open_shell(stricter, traits, login, labels), Refused)


# Verbs


def test_verbs_are_allowed_by_resource() -> None:
    rules = role("ops", allow=Condition(rules=(Rule(resources=("token",), verbs=("list",)),)))
    assert may_do([rules], "token", "list") == Allowed(by="ops")
    assert may_do([rules], "token", "create") == Refused("no role allows create on token")
    assert may_do([rules], "user", "list") == Refused("no role allows list on user")


def test_a_denied_verb_stays_denied() -> None:
    no_tokens = role("no", deny=Condition(rules=(Rule(resources=("*",), verbs=("create",)),)))
    assert may_do([EDITOR, no_tokens], "token", "create") == Refused(
        "role no denies create on token"
    )
    assert may_do([EDITOR, no_tokens], "token", "list") == Allowed(by="editor")


@pytest.mark.parametrize(
    ("preset", "resource", "verb", "may"),
    [
        (ACCESS, "node", "list", True),
        (ACCESS, "node", "delete", False),
        (ACCESS, "token", "list", False),
        (ACCESS, "event", "list", False),
        (EDITOR, "token", "create", True),
        (EDITOR, "role", "update", True),
        (EDITOR, "event", "list", False),
        (AUDITOR, "event", "list", True),
        (AUDITOR, "event", "delete", False),
        (AUDITOR, "token", "list", False),
        (AUDITOR, "auth", "create", False),
    ],
)
def test_presets_do_what_their_names_say(preset: Role, resource: str, verb: str, may: bool) -> None:
    assert isinstance(may_do([preset], resource, verb), Allowed) is may


# What goes into a certificate


def user(**traits: tuple[str, ...]) -> User:
    return User(name="alice", roles=(), traits=traits)


def test_a_certificate_names_the_logins_that_some_role_allows() -> None:
    assert logins_of(user(logins=("alice", "www")), [ACCESS, ROOT_ON_PROD]) == (
        "alice",
        "www",
        "root",
    )


def test_a_login_that_is_denied_everywhere_is_not_in_it() -> None:
    no_root = role("no-root", deny=Condition(logins=("root",)))
    assert logins_of(user(logins=("root", "www")), [ACCESS, no_root]) == ("www",)


def test_a_login_that_is_denied_somewhere_still_is() -> None:
    not_prod = role("x", deny=Condition(logins=("root",), node_labels={"env": ("prod",)}))
    assert logins_of(user(logins=("root",)), [ACCESS, not_prod]) == ("root",)


@pytest.mark.parametrize("login", ["*", "root,www", "a b", "-x", ""])
def test_what_is_no_login_of_a_system_never_is(login: str) -> None:
    assert logins_of(user(logins=(login,)), [ACCESS]) == ()


def test_several_roles_give_the_shortest_life_and_the_strictest_rules() -> None:
    merged = merged_options(
        [
            role("a", max_session_ttl=timedelta(hours=2), file_copy=True, port_forwarding=False),
            role("b", max_session_ttl=timedelta(hours=9), file_copy=False, forward_agent=True),
            role("c", pin_source_ip=True, port_forwarding=False),
        ]
    )
    assert merged == Options(
        max_session_ttl=timedelta(hours=2),
        port_forwarding=True,
        forward_agent=True,
        file_copy=False,
        pin_source_ip=True,
    )


def test_nobody_gets_a_longer_session_than_the_roles_allow() -> None:
    short = role("short", max_session_ttl=timedelta(hours=1))
    assert session_ttl(timedelta(hours=12), [ACCESS, short]) == timedelta(hours=1)
    assert session_ttl(timedelta(minutes=5), [ACCESS, short]) == timedelta(minutes=5)


def test_no_role_can_allow_more_than_the_program_does() -> None:
    endless = role("endless", max_session_ttl=timedelta(days=900))
    assert session_ttl(timedelta(days=800), [endless]) == MAX_SESSION_TTL


# Locks


def a_lock(target: Target, value: str, **more) -> Lock:
    return Lock(id="1", target=target, value=value, created_at=T0, **more)


@pytest.mark.parametrize(
    ("target", "who", "words"),
    [
        (Target.USER, {"user": "x"}, "user x is locked"),
        (Target.ROLE, {"role": ("a", "x")}, "role x is locked"),
        (Target.LOGIN, {"login": "x"}, "login x is locked"),
        (Target.NODE, {"node": "x"}, "host x is locked"),
        (Target.BOT, {"bot_instance_id": "x"}, "bot x is locked"),
        (Target.TOKEN, {"join_token": "x"}, "join token x is locked"),
    ],
)
def test_a_lock_refuses_whom_it_names_and_nobody_else(target: Target, who, words: str) -> None:
    lock = a_lock(target, "x")
    assert locked([lock], T0, **who) == Refused(words)
    [(kind, _)] = who.items()
    assert isinstance(locked([lock], T0, **{kind: "y"}), Allowed)
    others = {each.value: "x" for each in Target if each.value != kind}
    assert isinstance(locked([lock], T0, **others), Allowed)


def test_a_lock_says_why_if_somebody_wrote_it_down() -> None:
    lock = a_lock(Target.USER, "x", message="laptop stolen")
    assert locked([lock], T0, user="x") == Refused("user x is locked: laptop stolen")


def test_a_lock_that_is_over_refuses_nobody() -> None:
    assert isinstance(locked([a_lock(Target.USER, "x", expires_at=T0)], T0, user="x"), Allowed)


def test_an_empty_name_is_nobody() -> None:
    assert isinstance(locked([a_lock(Target.NODE, "x")], T0, node="", user=()), Allowed)


# Reaching: what a proxy decides before the host does


def reach(*roles: Role, labels=PROD, traits=None, login: str = ""):
    return may_reach(roles, traits, labels, login)


ALICE = {"logins": ("alice", "root")}


def test_one_login_that_is_allowed_is_enough_to_reach_a_host() -> None:
    assert reach(DEPLOY_ON_DEV, ROOT_ON_PROD, traits={}) == Allowed(by="prod")
    assert reach(ACCESS, traits=ALICE) == Allowed(by="access")


def test_a_host_on_which_no_login_is_allowed_is_not_reached() -> None:
    nobody = Refused("no role allows any login here")
    assert reach(DEPLOY_ON_DEV, traits={}) == nobody
    assert reach(ACCESS, traits={}) == nobody
    assert reach(EDITOR, AUDITOR, traits=ALICE) == nobody
    assert reach(traits=ALICE) == nobody


def test_a_login_that_is_named_has_to_be_allowed_itself() -> None:
    assert reach(ROOT_ON_PROD, traits={}, login="root") == Allowed(by="prod")
    assert reach(ROOT_ON_PROD, traits={}, login="deploy") == Refused(
        "no role allows login deploy here"
    )


def test_a_deny_takes_a_login_or_the_whole_host_away() -> None:
    no_root = role("no-root", deny=Condition(logins=("root",)))
    assert isinstance(reach(ROOT_ON_PROD, no_root, traits={}), Refused)
    assert reach(ACCESS, no_root, traits=ALICE) == Allowed(by="access")  # as alice
    no_prod = role("no-prod", deny=Condition(node_labels={"env": ("prod",)}))
    assert isinstance(reach(ACCESS, no_prod, traits=ALICE), Refused)
    nobody = role("nobody", deny=Condition(logins=("*",)))
    assert isinstance(reach(ACCESS, nobody, traits=ALICE), Refused)


def test_any_login_is_some_login() -> None:
    anybody = role("anybody", allow=Condition(logins=("*",), node_labels=EVERYWHERE))
    no_root = role("no-root", deny=Condition(logins=("root",)))
    assert reach(anybody, no_root, traits={}) == Allowed(by="anybody")
    assert isinstance(reach(anybody, no_root, traits={}, login="root"), Refused)


def test_templates_may_be_any_login_while_traits_are_not_known() -> None:
    assert reach(ACCESS) == Allowed(by="access")
    assert reach(ACCESS, login="alice") == Allowed(by="access")
    assert isinstance(reach(ROOT_ON_PROD, login="deploy"), Refused)
    denies = role("no-own", deny=Condition(logins=("{{internal.logins}}",)))
    assert reach(ACCESS, denies) == Allowed(by="access")  # the host knows who that is
    no_root = role("no-root", deny=Condition(logins=("root",)))
    assert isinstance(reach(ACCESS, no_root, login="root"), Refused)
    assert isinstance(reach(EDITOR), Refused)


@given(
    st.sampled_from(["alice", "root", "deploy", "bob"]),
    st.sampled_from([PROD, DEV, {}]),
    st.lists(st.sampled_from([ACCESS, ROOT_ON_PROD, DEPLOY_ON_DEV, EDITOR]), max_size=3),
)
def test_a_shell_is_never_allowed_where_the_proxy_refuses(login, labels, roles) -> None:
    """Else a proxy would keep people from what the host would let them do."""
    if isinstance(may_open_shell(roles, ALICE, login, labels), Allowed):
        for traits in (ALICE, None):
            assert isinstance(may_reach(roles, traits, labels), Allowed)
            assert isinstance(may_reach(roles, traits, labels, login), Allowed)


def test_limits_of_several_roles_are_the_smallest_that_any_of_them_has() -> None:
    merged = merged_options(
        [
            role("a", max_sessions=5, client_idle_timeout=timedelta(minutes=9)),
            role("b", max_sessions=2, max_connections=7),
            role("c", client_idle_timeout=timedelta(minutes=4)),
        ]
    )
    assert (merged.max_sessions, merged.max_connections) == (2, 7)
    assert merged.client_idle_timeout == timedelta(minutes=4)


def test_one_role_that_wants_strict_recording_is_enough() -> None:
    merged = merged_options([role("a"), role("b", record_session=RecordMode.STRICT)])
    assert merged.record_session is RecordMode.STRICT


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ((None, None), None),
        ((None, HostUserMode.DROP), HostUserMode.DROP),
        ((HostUserMode.KEEP, HostUserMode.DROP), HostUserMode.KEEP),
        ((HostUserMode.OFF, HostUserMode.KEEP), HostUserMode.OFF),
    ],
)
def test_accounts_are_made_unless_a_role_says_off(
    modes: tuple[HostUserMode | None, ...], expected: HostUserMode | None
) -> None:
    roles = [role(str(at), create_host_user_mode=mode) for at, mode in enumerate(modes)]
    assert merged_options(roles).create_host_user_mode is expected


def test_forwarding_needs_both_switches_in_one_role() -> None:
    merged = merged_options([role("a", port_forwarding=False), role("b", remote_forwarding=False)])
    assert merged.local_forwarding
    assert not merged.remote_forwarding


SWITCHES = st.fixed_dictionaries(
    dict.fromkeys(("port_forwarding", "local_forwarding", "remote_forwarding"), st.booleans())
)


@given(st.lists(SWITCHES, min_size=1, max_size=3))
def test_some_role_has_to_allow_a_way_whole(said: list[dict[str, bool]]) -> None:
    merged = merged_options([role(f"r{n}", **each) for n, each in enumerate(said)])
    ports = [each for each in said if each["port_forwarding"]]
    assert merged.port_forwarding is bool(ports)
    assert merged.local_forwarding is any(each["local_forwarding"] for each in ports)
    assert merged.remote_forwarding is any(each["remote_forwarding"] for each in ports)


def test_two_roles_that_force_different_commands_let_nobody_in() -> None:
    same = [role("a", force_command="date"), role("b", force_command="date"), role("c")]
    assert isinstance(forced_command(same), Allowed)
    assert merged_options(same).force_command == "date"
    verdict = forced_command([*same, role("d", force_command="id")])
    assert isinstance(verdict, Refused)
    assert "roles b and d force different commands" in verdict.reason
