"""Accounts that a host makes for its visitors: what the roles want. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from teleport_lite.access.decide import merged_options
from teleport_lite.access.traits import expand
from teleport_lite.model.labels import Labels, matches
from teleport_lite.model.user import HostUserMode, Role

Traits = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUser:
    """How an account is to be, if it is one of ours."""

    mode: HostUserMode  # never OFF
    groups: tuple[str, ...] = ()
    sudoers: tuple[str, ...] = ()  # lines of sudoers(5), without the user in front
    shell: str = ""  # "" is the system's own choice


def host_user(roles: Sequence[Role], traits: Traits, labels: Labels) -> HostUser | None:
    """None when no account is to be made. Only roles that match this host count.

    Groups and lines are those of all of them. A deny takes out what it names, "*" everything;
    one without labels of its own counts everywhere.
    """
    here = [role for role in roles if matches(role.allow.node_labels, labels)]
    options = merged_options(here)
    mode = options.create_host_user_mode
    if mode is None or mode is HostUserMode.OFF:
        return None
    against = [
        role.deny
        for role in roles
        if not role.deny.node_labels or matches(role.deny.node_labels, labels)
    ]
    return HostUser(
        mode=mode,
        groups=_left(
            (text for role in here for text in role.allow.host_groups),
            (text for deny in against for text in deny.host_groups),
            traits,
        ),
        sudoers=_left(
            (text for role in here for text in role.allow.host_sudoers),
            (text for deny in against for text in deny.host_sudoers),
            traits,
        ),
        shell=options.create_host_user_default_shell,
    )


def _left(wanted: Iterable[str], denied: Iterable[str], traits: Traits) -> tuple[str, ...]:
    out = expand(denied, traits)
    return () if "*" in out else tuple(each for each in expand(wanted, traits) if each not in out)
