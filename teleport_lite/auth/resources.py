"""`tctl get`, `create` and `rm`: every kind of resource through one table."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.hosts import Presence
from teleport_lite.auth.issue import bot_user
from teleport_lite.auth.leaves import LeafDesk
from teleport_lite.auth.names import check_ours
from teleport_lite.auth.record import write_recorded
from teleport_lite.auth.tokens import TokenDesk
from teleport_lite.auth.trust import TrustDesk
from teleport_lite.errors import Conflict, Malformed, NotFound
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.host import Host, Report, presence
from teleport_lite.model.labels import check_labels
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.names import LOGIN, RESOURCE_NAME, UUID, checked
from teleport_lite.model.system_role import BOT, NODE, RoleBook
from teleport_lite.model.token import DEFAULT_TTL
from teleport_lite.proto import resource as docs
from teleport_lite.proto.admin import (
    LockAdd,
    ResourceCreate,
    ResourceGet,
    ResourceRemove,
    ResourceUpdate,
)
from teleport_lite.secret import Secret
from teleport_lite.store.protocols import Store, Tx

Doc = dict[str, Any]

# What people type, and the kind it means.
ALIASES = {
    "tokens": "token",
    "nodes": "node",
    "hosts": "host",
    "inventory": "host",
    "users": "user",
    "roles": "role",
    "locks": "lock",
    "bots": "bot",
    "ca": "cert_authority",
    "cas": "cert_authority",
    "cert_authorities": "cert_authority",
    "auth": "auth_server",
    "auths": "auth_server",
    "app": "app_server",
    "apps": "app_server",
    "db": "db_server",
    "dbs": "db_server",
    "kube": "kube_server",
    "kube_cluster": "kube_server",
    "tc": "trusted_cluster",
    "trustedcluster": "trusted_cluster",
    "rc": "remote_cluster",
    "remotecluster": "remote_cluster",
}


# Kinds that roles name; all others are "resource" to them.
_NAMED = frozenset(
    {
        "token",
        "node",
        "host",
        "user",
        "role",
        "lock",
        "bot",
        "cert_authority",
        "trusted_cluster",
        "remote_cluster",
    }
)
MIN_LOCK, MAX_LOCK = timedelta(seconds=1), timedelta(days=36500)
# For what documents do not make or remove, the command that does.
_INSTEAD = {
    "bot": "tctl bots --help",
    "node": "tctl nodes add",
    "remote_cluster": "tctl tokens add --type=trusted_cluster",
}


class ResourceDesk:
    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        store: Store,
        trail: Trail,
        cas: Cas,
        tokens: TokenDesk,
        presence: Presence,
        book: RoleBook,
        changed: Callable[[], None],
        auth_servers: Callable[[], list[tuple[Host, Report]]] = list,
        trust: TrustDesk | None = None,
        leaves: LeafDesk | None = None,
    ) -> None:
        self._auth_servers = auth_servers
        self._trust, self._leaves = trust, leaves
        self._clock, self._chance = clock, chance
        self._store, self._trail, self._cas = store, trail, cas
        self._tokens, self._presence, self._book = tokens, presence, book
        self._changed = changed
        self._announced = {role.announces for role in book if role.announces} - {"node"}

    def kind(self, word: str) -> str:
        """The kind somebody means. Raises Malformed with the kinds there are."""
        word = word.lower()
        kind = ALIASES.get(word, word)
        for known in (kind, kind.removesuffix("s")):
            if known in self._getters() or known in self._announced:
                return known
        there_are = ", ".join(sorted({*self._getters(), *self._announced}))
        raise Malformed(f"kind {word[:40]!a} does not exist", hint=f"one of {there_are}")

    def get(self, kind: str, name: str) -> list[Doc]:
        """All of a kind, or the one called `name`. Raises NotFound if that does not exist."""
        getter = self._getters().get(kind) or (lambda: self._announcements(kind))
        found = [doc for doc in getter() if not name or _is_called(doc, name)]
        if name and not found:
            raise NotFound(f"{kind} {name[:64]!a} does not exist", hint=f"tctl get {kind}s")
        return found

    def found(self, asked: ResourceGet) -> Doc:
        return {"resources": self.get(self.kind(asked.kind), asked.name)}

    def as_roles_name_it(
        self, asked: ResourceGet | ResourceCreate | ResourceRemove | ResourceUpdate
    ) -> str:
        """What a question of `tctl get`, `create`, `update` or `rm` is about."""
        if isinstance(asked, ResourceCreate):
            kind = self.kind(docs.kind_of(asked.resource))
        else:
            kind = self.kind(asked.kind)
        return kind if kind in _NAMED else "resource"

    def create(self, caller: Caller, doc: Doc, *, force: bool) -> Doc:
        """Raises Conflict if it exists and `force` is off, Malformed for what can not be made."""
        kind = self.kind(docs.kind_of(doc))
        if kind == "role":
            return self._create_role(caller, doc, force)
        if kind == "user":
            return self._create_user(caller, doc, force)
        if kind == "token":
            return self._create_token(caller, doc)
        if kind == "lock":
            return self._create_lock(caller, doc, force)
        if kind == "trusted_cluster" and self._trust is not None:
            return self._trust.create(caller, doc, force=force)
        raise Malformed(f"{kind} can not be created by hand", hint=_INSTEAD.get(kind, ""))

    def remove(self, caller: Caller, kind: str, name: str) -> Doc:
        """Raises NotFound, or Conflict for what the cluster can not do without."""
        if kind == "token":
            self._tokens.remove(name, caller)
            return {"kind": kind, "name": name}
        if kind == "trusted_cluster" and self._trust is not None:
            return self._trust.remove(caller, name)
        if kind == "remote_cluster" and self._leaves is not None:
            return self._leaves.remove(caller, name)
        removers: dict[str, Callable[[Tx], bool]] = {
            "role": lambda tx: tx.remove_role(name),
            "user": lambda tx: tx.remove_user(name),
            "lock": lambda tx: tx.remove_lock(name),
            "node": lambda tx: tx.remove_host(name),
            "host": lambda tx: tx.remove_host(name),
        }
        if kind not in removers:
            raise Malformed(f"{kind} can not be removed by hand", hint=_INSTEAD.get(kind, ""))
        facts = {"type": kind, "name": name, "user": caller.label, "addr.remote": caller.address}
        code = "TLK01I" if kind == "lock" else "TLR01I"
        with self._trail.attempt("resource.delete", ok=code, refused="TLR01E", **facts) as entry:
            if kind == "role":
                self._check_unused(name)
            if kind in ("node", "host"):
                checked(UUID, name, "host UUID", example="d52527f9-b260-41d0-bb5a-e23b0cfe0f8f")
            if not write_recorded(self._store, entry, removers[kind]):
                raise NotFound(f"{kind} {name[:64]!a} does not exist", hint=f"tctl get {kind}s")
        if kind in ("node", "host"):
            self._presence.cut(name, "this host was removed from the cluster")
            self._presence.forget(name)
        self._changed()
        return {"kind": kind, "name": name}

    def update(self, caller: Caller, asked: ResourceUpdate) -> Doc:
        """Raises NotFound, and Malformed for what is changed in another way."""
        kind = self.kind(asked.kind)
        if kind == "remote_cluster" and self._leaves is not None:
            return self._leaves.label(caller, asked.name, check_labels(asked.labels))
        raise Malformed(f"labels of {kind} can not be set by hand", hint="tctl create -f")

    def lock(self, caller: Caller, asked: LockAdd) -> Doc:
        """Refuse somebody everywhere, within seconds."""
        words = [each.value for each in Target]
        if asked.target not in words:
            raise Malformed(f"lock target must be one of {', '.join(words)}")
        now = self._clock.now()
        ttl = parse_duration(asked.ttl, "ttl") if asked.ttl else None
        if ttl is not None and not MIN_LOCK <= ttl <= MAX_LOCK:
            raise Malformed("ttl of a lock must be between 1s and 36500d; leave it out for ever")
        lock = Lock(
            id=self._chance.uuid(),
            target=Target(asked.target),
            value=asked.value,
            message=asked.message[:500],
            created_at=now,
            created_by=caller.label,
            expires_at=now + ttl if ttl else None,
        )
        return {"id": self._put_lock(caller, lock).id}

    def nodes(self) -> list[Doc]:
        now = self._clock.now()
        return [
            {
                "id": host.id,
                "hostname": host.name,
                "address": report.address,
                "labels": report.labels,
                "version": report.version,
                "state": presence(report, now).value,
                "last_seen": docs.moment(report.last_seen),
                "roles": list(host.roles),
                "skew": round(report.skew, 1),
                "tunnels": list(report.tunnels),
            }
            for host, report in self._presence.hosts()
            if NODE in host.roles
        ]

    def _getters(self) -> dict[str, Callable[[], list[Doc]]]:
        return {
            "token": lambda: [docs.token_doc(token) for token in self._tokens.live()],
            "node": self._node_docs,
            "host": self._host_docs,
            "auth_server": lambda: [
                docs.auth_server_doc(*each, self._clock.now()) for each in self._auth_servers()
            ],
            "user": lambda: [docs.user_doc(u) for u in self._store.users() if not u.bot],
            "bot": lambda: [docs.user_doc(u) for u in self._store.users() if u.bot],
            "role": lambda: [docs.role_doc(role) for role in self._store.roles()],
            "lock": lambda: [docs.lock_doc(lock) for lock in self._store.locks()],
            "cert_authority": lambda: [
                docs.ca_doc(keys, self._cas.cluster) for keys in self._cas.all()
            ],
            "trusted_cluster": self._trust.docs if self._trust else list,
            "remote_cluster": self._leaves.docs if self._leaves else list,
        }

    def _node_docs(self) -> list[Doc]:
        now = self._clock.now()
        return [
            docs.node_doc(host, report, now)
            for host, report in self._presence.hosts()
            if NODE in host.roles
        ]

    def _host_docs(self) -> list[Doc]:
        now = self._clock.now()
        hosts = self._presence.hosts()
        return [docs.host_doc(host, report, now) for host, report in hosts if host.roles != (BOT,)]

    def _announcements(self, kind: str) -> list[Doc]:
        now = self._clock.now()
        return [
            docs.resource_doc(host, report, each, now)
            for host, report in self._presence.hosts()
            for each in report.resources
            if each.kind == kind
        ]

    def _create_role(self, caller: Caller, doc: Doc, force: bool) -> Doc:
        role = docs.role_from_doc(doc)
        created = self._put(
            caller,
            ("role.create", "T9000", role.name),
            force,
            add=lambda tx: tx.add_role(role),
            replace=lambda tx: tx.put_role(role),
        )
        self._changed()
        return {"kind": "role", "name": role.name, "created": created}

    def _create_user(self, caller: Caller, doc: Doc, force: bool) -> Doc:
        user = docs.user_from_doc(doc)
        if user.bot is not user.name.startswith(bot_user("")):
            raise Malformed("names of bots, and no others, begin with bot-", hint="tctl bots add")
        for login in user.logins:
            checked(LOGIN, login, "login", example="root")
        for role in user.roles:
            if self._store.role(role) is None:
                raise NotFound(f"role {role[:64]!a} does not exist", hint="tctl get roles")
        check_ours(self._store, user.name)
        known = self._store.user(user.name)
        user = replace(
            user,
            created_at=known.created_at if known else self._clock.now(),
            generation=known.generation if known else 0,
        )
        created = self._put(
            caller,
            ("user.create", "T1002", user.name),
            force,
            add=lambda tx: tx.add_user(user),
            replace=lambda tx: tx.put_user(user),
        )
        return {"kind": "user", "name": user.name, "created": created}

    def _create_lock(self, caller: Caller, doc: Doc, force: bool) -> Doc:
        """Who made it, and when, is ours to say."""
        lock = docs.lock_from_doc(doc)
        lock = replace(lock, created_at=self._clock.now(), created_by=caller.label)
        known = any(each.id == lock.id for each in self._store.locks())
        if known and not force:
            raise Conflict(f"lock {lock.id} already exists", hint="tctl create -f")
        self._put_lock(caller, lock)
        return {"kind": "lock", "name": lock.id, "created": not known}

    def _put(
        self,
        caller: Caller,
        what: tuple[str, str, str],
        force: bool,
        *,
        add: Callable[[Tx], bool],
        replace: Callable[[Tx], None],
    ) -> bool:
        """Add, or replace if forced to, together with the event. True if it is new."""
        kind, code, name = what
        facts = {"name": name, "user": caller.label, "addr.remote": caller.address}
        with self._trail.attempt(kind, ok=f"{code}I", refused=f"{code}E", **facts) as entry:

            def change(tx: Tx) -> bool:
                fresh = add(tx)
                if not fresh and not force:
                    raise Conflict(
                        f"{kind.partition('.')[0]} {name} already exists", hint="tctl create -f"
                    )
                if not fresh:
                    replace(tx)
                entry.commit(tx)
                return fresh

            return self._store.write(change)

    def _create_token(self, caller: Caller, doc: Doc) -> Doc:
        value, words, expires, labels, bot_name = docs.token_parts(doc)
        ttl: timedelta = DEFAULT_TTL
        if expires is not None:
            ttl = docs.read_moment(expires, "expires") - self._clock.now()
        token = self._tokens.make(
            roles=self._book.parse(",".join(words)),
            text=Secret(value),
            ttl=ttl,
            labels=labels,
            bot_name=bot_name,
            by=caller,
        )
        return {"kind": "token", "name": token.text.reveal(), "created": True}

    def _put_lock(self, caller: Caller, lock: Lock) -> Lock:
        if lock.target is Target.TOKEN:
            lock = replace(lock, value=self._tokens.id_of(lock.value))
        checked(RESOURCE_NAME, lock.value, "lock value", example="alice")
        facts = {
            "name": lock.id,
            "target": f"{lock.target.value}:{lock.value}",
            "user": caller.label,
            "addr.remote": caller.address,
        }
        with self._trail.attempt("lock.created", ok="TLK00I", refused="TLK00E", **facts) as entry:
            write_recorded(self._store, entry, lambda tx: tx.put_lock(lock))
        self._changed()
        if lock.target is Target.NODE:
            self._presence.cut(lock.value, "this host is locked")
        return lock

    def _check_unused(self, role: str) -> None:
        users = [user.name for user in self._store.users() if role in user.roles]
        if users:
            raise Conflict(f"role {role} is in use by {', '.join(users[:5])}")


def _is_called(doc: Doc, name: str) -> bool:
    """By name, by host name for nodes, by type for CAs ("host" means "host/<cluster>")."""
    called = doc["metadata"]["name"]
    return name in (called, doc["spec"].get("hostname"), str(called).partition("/")[0])
