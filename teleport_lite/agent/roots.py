"""Somebody from a cluster that we trust: what they are called here, and which roles they have.

Asked by nodes and by proxies, at every login and again whenever auth has told something new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from teleport_lite.access.decide import locked, may_open_shell
from teleport_lite.access.mapping import map_roles
from teleport_lite.access.verdict import Refused, Verdict
from teleport_lite.errors import Denied, Error
from teleport_lite.model.labels import Labels
from teleport_lite.model.lock import Lock
from teleport_lite.model.names import USER_NAME
from teleport_lite.model.trust import MAX_QUALIFIED, RoleMapping, is_foreign, qualified
from teleport_lite.model.user import Role
from teleport_lite.pki.foreign import root_of
from teleport_lite.pki.keys import ssh_blob
from teleport_lite.pki.visitor import Visitor
from teleport_lite.proto.resource import lock_from_doc
from teleport_lite.proto.stream import Knowledge, RootWord
from teleport_lite.proto.trust import role_map_of

# A root chooses the traits of its users. This login it can not give them: a role of ours has to
# name it.
_ADMIN = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a `RootWord` says about its people, read. `unreadable` is why it can not be."""

    cluster: str
    lines: tuple[RoleMapping, ...] = ()
    locks: tuple[Lock, ...] = ()
    unreadable: str = ""


def rules_of(word: RootWord) -> Rules:
    """Once for all questions: a root may tell of a thousand locks."""
    try:
        lines = role_map_of(word.role_map, "role_map")
        return Rules(cluster=word.cluster, lines=lines, locks=tuple(map(lock_from_doc, word.locks)))
    except Error as why:
        return Rules(cluster=word.cluster, unreadable=why.message)


def ssh_cas(known: Knowledge) -> frozenset[bytes]:
    """The user CAs that are believed here: ours, and those of the roots."""
    lines = [*known.ssh_user_cas, *(ca for root in known.roots for ca in root.ssh_user_cas)]
    return frozenset(map(ssh_blob, lines))


def placed(visitor: Visitor, known: Knowledge) -> Visitor:
    """Which cluster is `visitor` from, by the CA that vouches for them? With the name and the
    roles they have here.

    Raises Denied for a name that could be taken for that of somebody else.
    """
    if any(ssh_blob(line) == visitor.ca_blob for line in known.ssh_user_cas):
        if is_foreign(visitor.user, [root.cluster for root in known.roots]):
            raise Denied(f"user {visitor.user} is called like somebody of a trusted cluster")
        return visitor
    cluster = root_of(visitor.ca_blob, known.roots)
    if not cluster:
        raise Denied("the certificate is of no cluster that is trusted here")
    name = qualified(visitor.user, cluster)
    if len(name) > MAX_QUALIFIED:
        raise Denied(f"the name {name} is longer than {MAX_QUALIFIED} letters, no lock fits it")
    return replace(
        visitor,
        user=name,
        cluster=cluster,
        claimed_user=visitor.user,
        claimed_roles=visitor.roles,
        roles=(),
        traits=_traits(visitor.traits),
    )


def roles_here(
    rules: Rules | None,
    *,
    cluster: str,
    user: str,
    roles: Sequence[str],
    bot_id: str,
    now: datetime,
) -> tuple[str, ...]:
    """Of `user` of `cluster`, who has `roles` there; `rules` are those of that cluster, if it is
    trusted at all.

    Raises Denied with the reason if they have none here: the cluster is not trusted (any more),
    it has locked them itself, or no line of the role map is about them. Better none than by a
    rule that we can not read.
    """
    if rules is None or rules.cluster != cluster:
        raise Denied(f"cluster {cluster} is not trusted here")
    if rules.unreadable:
        raise Denied(f"what is known of cluster {cluster} can not be read: {rules.unreadable}")
    bot = (bot_id,) if bot_id else ()
    verdict = locked(rules.locks, now, user=user, role=roles, bot_instance_id=bot)
    if isinstance(verdict, Refused):
        raise Denied(f"{verdict.reason} in cluster {cluster}")
    found = map_roles(rules.lines, roles)
    if not found:
        raise Denied(
            f"no role of {user} in cluster {cluster} is worth one here",
            hint="an administrator here: tctl get trusted_clusters shows the role map",
        )
    return found


def open_shell(visitor: Visitor, roles: Sequence[Role], labels: Labels) -> Verdict:
    """As `may_open_shell`. Somebody from elsewhere is root only where a role of ours says so
    outright: what fills in a template, or a part of one, their cluster has chosen."""
    verdict = may_open_shell(roles, visitor.traits, visitor.login, labels)
    if visitor.cluster and visitor.login == _ADMIN and not isinstance(verdict, Refused):
        return may_open_shell(roles, {}, visitor.login, labels)
    return verdict


def _traits(said: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Names, and nothing that a rule gives a meaning to: "*" is any login."""
    return {
        name: tuple(each for each in values if USER_NAME.fullmatch(each) and each != _ADMIN)
        for name, values in said.items()
    }
