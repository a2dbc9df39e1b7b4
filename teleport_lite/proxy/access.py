"""Who asks for a node, and may they? Decided before a byte is passed on, and by the node again.

The certificate was verified by whoever made the Caller. Everything else is what auth last said
(`Judge.learn`), so the answers go on while auth is away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from teleport_lite.access.decide import locked, may_go_on, may_reach
from teleport_lite.access.verdict import Refused, Verdict
from teleport_lite.agent.roots import Rules, roles_here, rules_of
from teleport_lite.ambient import Clock
from teleport_lite.errors import Denied, Error
from teleport_lite.model.labels import Labels
from teleport_lite.model.lock import Lock
from teleport_lite.model.trust import MAX_QUALIFIED, qualified
from teleport_lite.model.user import Role
from teleport_lite.pki.verify import Peer
from teleport_lite.proto.resource import lock_from_doc, role_from_doc
from teleport_lite.proto.stream import Knowledge, Route

_HEARD_NOTHING = "this proxy has heard nothing from auth yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A person or a bot, as their certificate describes them."""

    user: str
    roles: tuple[str, ...]
    # None: the certificate does not say, as X.509 ones do not. The node knows.
    traits: Mapping[str, tuple[str, ...]] | None = None
    bot_id: str = ""
    # Where somebody from a trusted cluster is from: `user` ends in it, `roles` are those there.
    cluster: str = ""

    @classmethod
    def of(cls, peer: Peer) -> "Caller":
        """`peer` is a user or bot: certificates of hosts open no nodes."""
        return cls(user=peer.name, roles=peer.roles, bot_id=peer.bot_id)

    @classmethod
    def from_root(cls, peer: Peer) -> "Caller":
        """Somebody from a cluster that we trust. Raises Denied for a name that is too long."""
        user = qualified(peer.name, peer.cluster)
        if len(user) > MAX_QUALIFIED:
            raise Denied(f"the name of {user} is longer than {MAX_QUALIFIED} letters")
        return cls(user=user, roles=peer.roles, bot_id=peer.bot_id, cluster=peer.cluster)


class Judge:
    """Locks and roles as auth last told them."""

    def __init__(self, clock: Clock, known: Knowledge | None = None) -> None:
        self._clock = clock
        self._roles: dict[str, Role | Error] = {}
        self._locks: list[Lock] = []
        self._roots: dict[str, Rules] = {}
        # The last answer, good for a second: the same is asked about every node there is.
        self._asked: tuple[Caller, int] | None = None
        self._here: tuple[str, ...] | str = ()  # text is why there are none
        self._blind = _HEARD_NOTHING
        if known is not None:
            self.learn(known)

    def learn(self, known: Knowledge) -> None:
        """A lock that cannot be read refuses everybody, a role everybody who has it: better no
        session than one that a rule we do not understand forbids."""
        self._blind = ""
        self._locks, self._roles, self._asked = [], {}, None
        self._roots = {root.cluster: rules_of(root) for root in known.roots}
        for doc in known.locks:
            try:
                self._locks.append(lock_from_doc(doc))
            except Error as why:
                self._blind = f"a lock can not be read: {why.message}"
        for doc in known.roles:
            try:
                role: Role | Error = role_from_doc(doc)
            except Error as why:
                role = why
            self._roles[_name(doc)] = role

    def welcome(self, caller: Caller) -> Verdict:
        """Before anything is asked: locks on the person, the bot, their roles."""
        return self._unlocked(caller)

    def may_reach(self, caller: Caller, route: Route, login: str = "") -> Verdict:
        verdict = self._unlocked(caller, login, route.id)
        if isinstance(verdict, Refused):
            return verdict
        return self._by_role(caller, route, login)

    def may_see(self, caller: Caller, route: Route) -> bool:
        """Locks aside: a host that is locked is still known to those who use it."""
        return not self._blind and not isinstance(self._by_role(caller, route), Refused)

    def may_go_on(self, caller: Caller, labels: Labels) -> Verdict:
        """To a leaf cluster; of what it will say there nothing is known here."""
        roles = self._known_roles(caller)
        return roles if isinstance(roles, Refused) else may_go_on(roles, labels)

    def _by_role(self, caller: Caller, route: Route, login: str = "") -> Verdict:
        roles = self._known_roles(caller)
        if isinstance(roles, Refused):
            return roles
        return may_reach(roles, caller.traits, route.labels, login)

    def _known_roles(self, caller: Caller) -> list[Role] | Refused:
        roles: list[Role] = []
        try:
            names = self._roles_of(caller)
        except Denied as why:
            return Refused(why.message)
        for name in names:
            role = self._roles.get(name)  # one that is gone allows nothing
            if isinstance(role, Error):
                return Refused(f"role {name} can not be read: {role.message}")
            if role is not None:
                roles.append(role)
        return roles

    def _unlocked(self, caller: Caller, login: str = "", node: str = "") -> Verdict:
        if self._blind:
            return Refused(self._blind)
        try:
            roles = self._roles_of(caller)
        except Denied as why:
            return Refused(why.message)
        return locked(
            self._locks,
            self._clock.now(),
            user=caller.user,
            role=roles,
            login=(login,) if login else (),
            node=(node,) if node else (),
            bot_instance_id=(caller.bot_id,) if caller.bot_id else (),
        )

    def _roles_of(self, caller: Caller) -> tuple[str, ...]:
        """Roles of ours. Raises Denied for somebody from elsewhere who has none here."""
        if not caller.cluster:
            return caller.roles
        now = self._clock.now()
        asked = (caller, int(now.timestamp()))
        if asked != self._asked:
            self._asked, self._here = asked, self._look(caller, now)
        if isinstance(self._here, str):
            raise Denied(self._here)
        return self._here

    def _look(self, caller: Caller, now: datetime) -> tuple[str, ...] | str:
        try:
            return roles_here(
                self._roots.get(caller.cluster),
                cluster=caller.cluster,
                user=caller.user.removesuffix(f"@{caller.cluster}"),
                roles=caller.roles,
                bot_id=caller.bot_id,
                now=now,
            )
        except Denied as why:
            return why.message


def _name(doc: Mapping[str, object]) -> str:
    metadata = doc.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
