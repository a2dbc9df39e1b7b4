"""What a person may ask about herself: who she is here, and which nodes are hers to enter."""

from collections.abc import Callable, Sequence
from typing import Any

from teleport_lite.access.decide import logins_of, may_open_shell, may_reach
from teleport_lite.access.verdict import Allowed
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.cas import Cas
from teleport_lite.errors import Denied
from teleport_lite.model.authority import CaType
from teleport_lite.model.names import LOGIN
from teleport_lite.model.user import Role, User
from teleport_lite.proto.login import MyNodes
from teleport_lite.store.protocols import Store

Doc = dict[str, Any]


class MeDesk:
    def __init__(
        self,
        *,
        store: Store,
        cluster: str,
        cas: Cas,
        nodes: Callable[[], list[Doc]],
        roles_of: Callable[[Caller], Sequence[str]] = lambda _: (),
    ) -> None:
        """`roles_of`: which roles of ours somebody from a cluster that we trust has."""
        self._store, self._cluster, self._cas, self._nodes = store, cluster, cas, nodes
        self._roles_of = roles_of

    def me(self, caller: Caller) -> Doc:
        """Roles and logins as they are now, as far as the certificate has them."""
        if caller.kind is Kind.REMOTE:
            names = [role.name for role in self._remote(caller)]
            return {"user": caller.name, "roles": names, "cluster": self._cluster}
        user, roles = self._person(caller)
        return {
            "user": user.name,
            "roles": [role.name for role in roles],
            "logins": list(logins_of(user, roles)),
            "traits": {key: list(values) for key, values in user.traits.items()},
            "cluster": self._cluster,
        }

    def roles(self, caller: Caller) -> list[Role]:
        """Of a person or bot of this cluster, as far as the certificate has them."""
        return list(self._person(caller)[1])

    def cas(self) -> Doc:
        """The host CAs of now, for a profile that was made before they were rotated."""
        return {"host_cas": self._cas.tls(CaType.HOST), "ssh_host_cas": self._cas.ssh(CaType.HOST)}

    def nodes(self, caller: Caller, asked: MyNodes) -> Doc:
        """Nodes on which a role of the caller allows some login, with those logins.

        `labels` have to be there as they are; each word of `search` in a name, a label or the
        UUID. The node decides again when somebody comes.
        """
        words = asked.search.lower().split()
        if caller.kind is Kind.REMOTE:
            return {"nodes": self._remote_nodes(self._remote(caller), asked, words)}
        user, roles = self._person(caller)
        found = []
        for node in self._nodes():
            if not (asked.labels.items() <= node["labels"].items() and _has(node, words)):
                continue
            logins = _logins_at(user, roles, node)
            if logins:
                found.append(node | {"logins": logins})
        return {"nodes": found}

    def _remote(self, caller: Caller) -> list[Role]:
        names = self._roles_of(caller)
        return [role for name in names if (role := self._store.role(name)) is not None]

    def _remote_nodes(self, roles: list[Role], asked: MyNodes, words: Sequence[str]) -> list[Doc]:
        """Their traits are in another certificate, so a template may stand for any login; the
        logins that are told are those that roles of ours name. Where a node is reached, and by
        which of our proxies, is our own business."""
        found = []
        for node in (each | {"address": "", "tunnels": []} for each in self._nodes()):
            if not (asked.labels.items() <= node["labels"].items() and _has(node, words)):
                continue
            if isinstance(may_reach(roles, None, node["labels"]), Allowed):
                named = sorted({login for role in roles for login in role.allow.logins})
                logins = [
                    each
                    for each in named
                    if LOGIN.fullmatch(each)
                    and isinstance(may_open_shell(roles, {}, each, node["labels"]), Allowed)
                ]
                found.append(node | {"logins": logins})
        return found

    def _person(self, caller: Caller) -> tuple[User, list[Role]]:
        user = self._store.user(caller.name)
        if user is None:
            raise Denied(f"user {caller.name} does not exist any more")
        names = [name for name in user.roles if name in caller.roles]
        return user, [role for name in names if (role := self._store.role(name)) is not None]


def _logins_at(user: User, roles: Sequence[Role], node: Doc) -> list[str]:
    return [
        login
        for login in logins_of(user, roles)
        if isinstance(may_open_shell(roles, user.traits, login, node["labels"]), Allowed)
    ]


def _has(node: Doc, words: Sequence[str]) -> bool:
    labels = (f"{key}={value}" for key, value in node["labels"].items())
    text = "\n".join((node["hostname"], node["id"], node["address"], *labels)).lower()
    return all(word in text for word in words)
