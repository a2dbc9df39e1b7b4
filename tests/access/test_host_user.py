"""Accounts that hosts make: what several roles want together."""

from teleport_lite.access.host_user import HostUser, host_user
from teleport_lite.model.user import Condition, HostUserMode, Options, Role

KEEP, DROP, OFF = HostUserMode.KEEP, HostUserMode.DROP, HostUserMode.OFF
EVERYWHERE = {"*": ("*",)}
PROD = {"env": ("prod",)}


def role(
    mode: HostUserMode | None = None,
    *,
    name: str = "r",
    labels: dict[str, tuple[str, ...]] = EVERYWHERE,
    groups: tuple[str, ...] = (),
    sudoers: tuple[str, ...] = (),
    shell: str = "",
    deny: Condition | None = None,
) -> Role:
    return Role(
        name=name,
        allow=Condition(node_labels=labels, host_groups=groups, host_sudoers=sudoers),
        deny=deny or Condition(),
        options=Options(create_host_user_mode=mode, create_host_user_default_shell=shell),
    )


def plan(*roles: Role, traits: dict[str, tuple[str, ...]] | None = None) -> HostUser | None:
    return host_user(roles, traits or {}, {"env": "prod"})


def test_without_a_word_of_a_role_there_is_no_account() -> None:
    assert plan() is None
    assert plan(role()) is None
    assert plan(role(OFF)) is None


def test_one_role_is_enough() -> None:
    assert plan(role(), role(DROP)) == HostUser(mode=DROP)


def test_off_wins_and_then_keep() -> None:
    assert plan(role(DROP), role(OFF), role(KEEP)) is None
    kept = plan(role(DROP), role(KEEP))
    assert kept is not None
    assert kept.mode is KEEP


def test_only_roles_that_match_this_host_count() -> None:
    elsewhere = {"env": ("dev",)}
    assert plan(role(KEEP, labels=elsewhere)) is None
    assert plan(role(KEEP, labels=PROD), role(OFF, labels=elsewhere)) == HostUser(mode=KEEP)
    found = plan(role(KEEP), role(labels=elsewhere, groups=("docker",), sudoers=("ALL=ALL",)))
    assert found == HostUser(mode=KEEP)


def test_groups_and_lines_of_all_roles_add_up() -> None:
    found = plan(
        role(KEEP, groups=("a", "b"), sudoers=("ALL=ALL",), shell="/bin/zsh"),
        role(groups=("b", "c"), sudoers=("ALL=NOPASSWD: ALL",)),
    )
    assert found == HostUser(
        mode=KEEP,
        groups=("a", "b", "c"),
        sudoers=("ALL=ALL", "ALL=NOPASSWD: ALL"),
        shell="/bin/zsh",
    )


def test_traits_fill_templates() -> None:
    found = plan(
        role(KEEP, groups=("{{external.teams}}", "x-{{external.none}}")),
        traits={"teams": ("red", "blue")},
    )
    assert found is not None
    assert found.groups == ("red", "blue")


def test_a_deny_takes_out_what_it_names() -> None:
    wants = role(KEEP, groups=("a", "docker"), sudoers=("ALL=ALL", "ALL=/bin/true"))
    denies = role(deny=Condition(host_groups=("docker",), host_sudoers=("ALL=ALL",)), labels={})
    assert plan(wants, denies) == HostUser(mode=KEEP, groups=("a",), sudoers=("ALL=/bin/true",))
    everything = role(deny=Condition(host_groups=("*",), host_sudoers=("*",)))
    assert plan(wants, everything) == HostUser(mode=KEEP)


def test_a_deny_for_other_hosts_takes_nothing_out() -> None:
    wants = role(KEEP, groups=("docker",))
    denies = role(deny=Condition(host_groups=("*",), node_labels={"env": ("dev",)}))
    assert plan(wants, denies) == HostUser(mode=KEEP, groups=("docker",))
