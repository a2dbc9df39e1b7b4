"""Who may come into a session that somebody else has begun, and who may look at its recording.

Pure, and asked twice: by auth when somebody wants to join, and by the node when she comes.
"""

from collections.abc import Iterable, Sequence

from teleport_lite.access.decide import may_do
from teleport_lite.access.verdict import Allowed, Refused, Verdict
from teleport_lite.model.user import JoinMode, JoinRule, Role

SSH = "ssh"
# What rules of roles call sessions and their recordings.
SESSION = "session"
OWN = "it is their own session"


def may_join(
    roles: Sequence[Role],
    *,
    joiner: str,
    owner: str,
    owner_roles: Iterable[str],
    mode: JoinMode,
    kind: str = SSH,
) -> Verdict:
    """May `joiner`, who has `roles`, come into a session of `owner`, who has `owner_roles`?

    A deny anywhere wins, over one's own sessions too. One's own need no rule. Anybody else's
    need one that names a role of the owner, the kind of session and the mode.
    """
    theirs = frozenset(owner_roles)
    for role in roles:
        if any(_covers(rule, theirs, mode, kind) for rule in role.deny.join_sessions):
            return Refused(f"role {role.name} denies joining this session as {mode}")
    if joiner == owner:
        return Allowed(by=OWN)
    for role in roles:
        if any(_covers(rule, theirs, mode, kind) for rule in role.allow.join_sessions):
            return Allowed(by=role.name)
    return Refused(f"no role allows joining this session as {mode}")


def may_see_session(roles: Sequence[Role], verb: str, *, user: str, owner: str) -> Verdict:
    """May `user` list, read or delete what was recorded of a session of `owner`?

    One's own may be listed and read without a rule; a deny on `session` covers them too.
    """
    verdict = may_do(roles, SESSION, verb)
    if isinstance(verdict, Allowed) or user != owner or verb not in ("list", "read"):
        return verdict
    denied = any(_denies(role, verb) for role in roles)
    return verdict if denied else Allowed(by=OWN)


def _denies(role: Role, verb: str) -> bool:
    return any(
        not {SESSION, "*"}.isdisjoint(rule.resources) and not {verb, "*"}.isdisjoint(rule.verbs)
        for rule in role.deny.rules
    )


def _covers(rule: JoinRule, owner_roles: frozenset[str], mode: JoinMode, kind: str) -> bool:
    return (
        ("*" in rule.roles or not owner_roles.isdisjoint(rule.roles))
        and ("*" in rule.kinds or kind in rule.kinds)
        and ("*" in rule.modes or mode in rule.modes)
    )
