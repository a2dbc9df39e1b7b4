"""The tables of the store that forgets, and the one change that works on a copy of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.chain import GENESIS, canonical, link_line
from teleport_lite.model.event import Event
from teleport_lite.model.guess import KEPT_STRANGERS, MAX_GUESSES, Guesses
from teleport_lite.model.host import Host, Report
from teleport_lite.model.invite import Invite
from teleport_lite.model.lease import Lease
from teleport_lite.model.lock import Lock
from teleport_lite.model.password import Password
from teleport_lite.model.recording import Recording
from teleport_lite.model.rotation import Rotation
from teleport_lite.model.token import JoinToken
from teleport_lite.model.trust import RemoteCluster, TrustedCluster
from teleport_lite.model.user import Role, User
from teleport_lite.store.protocols import KEPT_SOURCES, REPLAY_WINDOW, Known

T = TypeVar("T")
NEVER = datetime.max.replace(tzinfo=UTC)
# Which tables a topic of `Store.watch` is about.
_ABOUT = {
    "cas": ("cas",),
    "rotations": ("rotations",),
    "roles": ("roles",),
    "locks": ("locks",),
    "users": ("users", "passwords"),
    "hosts": ("hosts",),
    "tokens": ("tokens", "dead"),
    "trust": ("trusted", "remotes"),
}


@dataclass(frozen=True, slots=True)
class KeptToken:
    token: JoinToken
    dies_at: datetime  # nobody may use it from then on: expiry, or the end of the replay window
    spent_by: str = ""


@dataclass(slots=True)
class Tables:
    tokens: dict[str, KeptToken] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    hosts: dict[str, Host] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    passwords: dict[str, Password] = field(default_factory=dict)
    invites: dict[str, Invite] = field(default_factory=dict)  # by user
    sources: dict[str, dict[str, datetime]] = field(default_factory=dict)  # by user
    guesses: dict[tuple[str, str], Guesses] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    locks: dict[str, Lock] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)
    cas: dict[tuple[CaType, str], CaKeys] = field(default_factory=dict)
    rotations: dict[CaType, Rotation] = field(default_factory=dict)
    trusted: dict[str, TrustedCluster] = field(default_factory=dict)
    remotes: dict[str, RemoteCluster] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    trail: list[tuple[bytes, str]] = field(default_factory=list)  # canonical line, hash

    def draft(self) -> "Tables":
        return Tables(*(getattr(self, each.name).copy() for each in fields(self)))

    def topics(self, before: "Tables") -> frozenset[str]:
        """What has changed since, as `Store.watch` names it."""
        changed = (
            topic
            for topic, tables in _ABOUT.items()
            if any(getattr(self, each) != getattr(before, each) for each in tables)
        )
        return frozenset(changed)

    def bury(self, seen: datetime) -> None:
        """Tokens whose time was over at `seen` are dead for good, whatever clocks say later."""
        self.dead |= {name for name, row in self.tokens.items() if row.dies_at <= seen}
        self.invites = {user: each for user, each in self.invites.items() if not each.expired(seen)}


class MemoryTx:
    def __init__(self, draft: Tables) -> None:
        self._draft = draft
        self.seen: datetime | None = None  # the latest time this change has brought along
        self.landed: list[Callable[[], None]] = []
        self.topics: set[str] = set()  # told beside those whose tables differ

    def add_token(self, token: JoinToken) -> bool:
        kept = self._draft.tokens.get(token.name)
        if kept is not None and not self._gone_by(kept, token.created_at):
            return False
        fresh = replace(own(token), spent_at=None)
        self._draft.dead.discard(token.name)
        self._draft.tokens[token.name] = KeptToken(fresh, token.expires_at or NEVER)
        return True

    def remove_token(self, name: str) -> bool:
        self._draft.dead.discard(name)
        return self._draft.tokens.pop(name, None) is not None

    def spend_token(self, name: str, *, roles: Sequence[str], key: str, now: datetime) -> bool:
        self._saw(now)
        row = self._draft.tokens.get(name)
        if row is None or name in self._draft.dead or row.dies_at <= now:
            return False
        if not roles or not key or not set(roles) <= set(row.token.roles):
            return False
        if not row.token.once:
            return True
        if row.token.spent_at is not None:
            return row.spent_by == key
        spent = replace(row.token, spent_at=now)
        self._draft.tokens[name] = KeptToken(spent, min(row.dies_at, now + REPLAY_WINDOW), key)
        return True

    def is_still(self, kind: type[Known], name: str, was: Known | None) -> bool:
        draft = self._draft
        tables: dict[type[Any], dict[str, Any]] = {
            Host: draft.hosts,
            User: draft.users,
            Password: draft.passwords,
            RemoteCluster: draft.remotes,
            TrustedCluster: draft.trusted,
        }
        return bool(tables[kind].get(name) == was)

    def add_host(self, host: Host) -> bool:
        kept = self._draft.hosts
        if host.id in kept or any(each.ssh_key == host.ssh_key for each in kept.values()):
            return False
        self.put_host(host)
        return True

    def put_host(self, host: Host) -> None:
        self._draft.hosts[host.id] = host
        self._draft.reports.setdefault(host.id, Report())

    def remove_host(self, host_id: str) -> bool:
        self._draft.reports.pop(host_id, None)
        return self._draft.hosts.pop(host_id, None) is not None

    def put_report(self, host_id: str, report: Report, *, news: bool = False) -> bool:
        if host_id not in self._draft.hosts:
            return False
        self._draft.reports[host_id] = own(report)
        if news:
            self.topics.add("hosts")
        return True

    def add_user(self, user: User) -> bool:
        return _add(self._draft.users, user.name, user)

    def put_user(self, user: User) -> None:
        self._draft.users[user.name] = own(user)

    def change_user(self, user: User) -> bool:
        if user.name not in self._draft.users:
            return False
        self.put_user(user)
        return True

    def remove_user(self, name: str) -> bool:
        for table in (self._draft.passwords, self._draft.invites, self._draft.sources):
            table.pop(name, None)
        return self._draft.users.pop(name, None) is not None

    def put_password(self, password: Password) -> bool:
        return self._belonging(self._draft.passwords, password.user, password)

    def put_invite(self, invite: Invite) -> bool:
        return self._belonging(self._draft.invites, invite.user, invite)

    def use_invite(self, name: str, *, now: datetime) -> bool:
        self._saw(now)
        found = named(self._draft, name)
        return found is not None and not found.expired(now) and self.remove_invite(name)

    def remove_invite(self, name: str) -> bool:
        found = named(self._draft, name)
        return found is not None and self._draft.invites.pop(found.user) is found

    def note_login(self, user: str, source: str, at: datetime) -> bool:
        known = self._draft.sources.get(user, {}) | {source: at}
        latest = sorted(known, key=lambda each: (known[each], each))[-KEPT_SOURCES:]
        kept = {each: known[each] for each in latest}
        return self._belonging(self._draft.sources, user, kept)

    def count_guess(self, name: str, source: str, *, stranger: bool, now: datetime) -> int:
        self._saw(now)
        kept = self._draft.guesses.get((name, source))
        before = kept.count if kept and kept.running(now) else 0
        if before >= MAX_GUESSES:
            return 0
        self._draft.guesses[name, source] = Guesses(
            name=name, source=source, count=before + 1, last_at=now, stranger=stranger
        )
        running = {key: each for key, each in self._draft.guesses.items() if each.running(now)}
        strangers = sorted(each.last_at for each in running.values() if each.stranger)
        edge = strangers[-KEPT_STRANGERS - 1] if len(strangers) > KEPT_STRANGERS else None
        self._draft.guesses = {
            key: each
            for key, each in running.items()
            if edge is None or not each.stranger or each.last_at > edge
        }
        return before + 1

    def end_guesses(self, name: str, source: str, *, now: datetime) -> bool:
        kept = self._draft.guesses.get((name, source))
        if kept is not None and kept.running(now) and kept.count >= MAX_GUESSES:
            return False
        self._draft.guesses.pop((name, source), None)
        return True

    def forget_guesses(self, name: str) -> bool:
        kept = self._draft.guesses
        gone = [key for key in kept if key[0] == name]
        for key in gone:
            del kept[key]
        return bool(gone)

    def add_role(self, role: Role) -> bool:
        return _add(self._draft.roles, role.name, role)

    def put_role(self, role: Role) -> None:
        self._draft.roles[role.name] = own(role)

    def remove_role(self, name: str) -> bool:
        return self._draft.roles.pop(name, None) is not None

    def put_lock(self, lock: Lock) -> None:
        self._draft.locks[lock.id] = lock

    def remove_lock(self, lock_id: str) -> bool:
        return self._draft.locks.pop(lock_id, None) is not None

    def add_recording(self, recording: Recording) -> bool:
        return _add(self._draft.recordings, recording.sid, recording)

    def remove_recording(self, sid: str) -> bool:
        return self._draft.recordings.pop(sid, None) is not None

    def add_ca(self, keys: CaKeys) -> bool:
        return _add(self._draft.cas, (keys.type, keys.id), keys)

    def change_ca(
        self, type: CaType, id: str, *, active: bool, last_rotated: datetime | None
    ) -> bool:
        kept = self._draft.cas.get((type, id))
        if kept is None:
            return False
        self._draft.cas[type, id] = replace(kept, active=active, last_rotated=last_rotated)
        return True

    def remove_ca(self, type: CaType, id: str) -> bool:
        return self._draft.cas.pop((type, id), None) is not None

    def put_rotation(self, rotation: Rotation, *, after: int) -> bool:
        kept = self._draft.rotations.get(rotation.type)
        if (kept.serial if kept else 0) != after:
            return False
        self._draft.rotations[rotation.type] = replace(rotation, serial=after + 1)
        return True

    def put_trusted(self, cluster: TrustedCluster) -> None:
        self._draft.trusted[cluster.name] = cluster

    def remove_trusted(self, name: str) -> bool:
        return self._draft.trusted.pop(name, None) is not None

    def put_remote(self, cluster: RemoteCluster) -> None:
        self._draft.remotes[cluster.name] = cluster

    def remove_remote(self, name: str) -> bool:
        return self._draft.remotes.pop(name, None) is not None

    def take_lease(self, name: str, holder: str, *, now: datetime, until: datetime) -> int:
        self._saw(now)
        kept = self._draft.leases.get(name) or Lease(name=name, holder="", fence=0, until=now)
        if kept.holder not in ("", holder) and kept.until > now:
            return 0
        fence = kept.fence + (kept.holder != holder)
        self._draft.leases[name] = Lease(name=name, holder=holder, fence=fence, until=until)
        return fence

    def holds_lease(self, name: str, fence: int) -> bool:
        kept = self._draft.leases.get(name)
        return kept is not None and kept.holder != "" and kept.fence == fence

    def drop_lease(self, name: str, fence: int) -> bool:
        """The row stays, for its fence: that of the next holder is higher."""
        if not self.holds_lease(name, fence):
            return False
        self._draft.leases[name] = replace(self._draft.leases[name], holder="")
        return True

    def set_meta(self, key: str, value: str) -> None:
        self._draft.meta[key] = value

    def add_meta(self, key: str, value: str) -> bool:
        return _add(self._draft.meta, key, value)

    def record(self, event: Event) -> None:
        self._saw(event.at)
        trail, line = self._draft.trail, canonical(event)
        before = trail[-1][1] if trail else GENESIS
        trail.append((line, link_line(before, line, len(trail) + 1)))

    def sweep(self, now: datetime) -> int:
        self._saw(now)
        tokens = [name for name, row in self._draft.tokens.items() if self._gone_by(row, now)]
        invites = [each.name for each in self._draft.invites.values() if each.expired(now)]
        locks = [lock.id for lock in self._draft.locks.values() if not lock.in_force(now)]
        gone = [self.remove_token(name) for name in tokens]
        gone += [self.remove_invite(name) for name in invites]
        gone += [self.remove_lock(lock_id) for lock_id in locks]
        return len(gone)

    def reseal(self) -> int:
        return 0  # nothing is sealed here

    def on_commit(self, call: Callable[[], None]) -> None:
        self.landed.append(call)

    def _belonging(self, table: dict[str, Any], user: str, value: object) -> bool:
        """Keep what belongs to a user, if there is one."""
        if user not in self._draft.users:
            return False
        table[user] = value
        return True

    def _saw(self, now: datetime) -> None:
        self.seen = now if self.seen is None else max(self.seen, now)

    def _gone_by(self, row: KeptToken, now: datetime | None) -> bool:
        """Expired now, or seen expired before. Spent is not gone: its text stays taken."""
        expires = row.token.expires_at
        if expires is None:
            return False
        seen_expired = row.token.name in self._draft.dead and row.dies_at == expires
        return seen_expired or (now is not None and expires <= now)


def named(tables: Tables, name: str) -> Invite | None:
    return next((each for each in tables.invites.values() if each.name == name), None)


def _add(table: dict[Any, Any], key: object, value: object) -> bool:
    """False if the key is taken."""
    if key in table:
        return False
    table[key] = own(value)
    return True


def own(value: T) -> T:
    """A copy that shares no dict: frozen nouns may hold dicts, and callers may change those."""
    if isinstance(value, dict):
        return {key: own(each) for key, each in value.items()}  # type: ignore[return-value]  # a dict is a T here
    if isinstance(value, tuple):
        return tuple(own(each) for each in value)  # type: ignore[return-value]  # and so is a tuple
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: own(getattr(value, f.name)) for f in fields(value)})
    return value
