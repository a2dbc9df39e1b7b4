"""A store that forgets when the process ends: for tests and for tools that need none.

It keeps every promise of `protocols.py` except that of surviving a crash. A change works on a
draft; the draft replaces the tables when the change has succeeded.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from teleport_lite.errors import Unavailable
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.chain import GENESIS, canonical, link_line, read_line
from teleport_lite.model.event import Event
from teleport_lite.model.host import Host, Report
from teleport_lite.model.invite import Invite
from teleport_lite.model.lock import Lock
from teleport_lite.model.password import Password
from teleport_lite.model.recording import Recording
from teleport_lite.model.token import JoinToken
from teleport_lite.model.user import Role, User
from teleport_lite.store.protocols import KEPT_SOURCES, REPLAY_WINDOW, Sealer

T = TypeVar("T")
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Token:
    token: JoinToken
    dies_at: datetime  # nobody may use it from then on: expiry, or the end of the replay window
    spent_by: str = ""


@dataclass(slots=True)
class _Tables:
    tokens: dict[str, _Token] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    hosts: dict[str, Host] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    passwords: dict[str, Password] = field(default_factory=dict)
    invites: dict[str, Invite] = field(default_factory=dict)  # by user
    sources: dict[str, dict[str, datetime]] = field(default_factory=dict)  # by user
    roles: dict[str, Role] = field(default_factory=dict)
    locks: dict[str, Lock] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)
    cas: dict[tuple[CaType, str], CaKeys] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    trail: list[tuple[bytes, str]] = field(default_factory=list)  # canonical line, hash

    def draft(self) -> "_Tables":
        return _Tables(*(getattr(self, each.name).copy() for each in fields(self)))

    def bury(self, seen: datetime) -> None:
        """Tokens whose time was over at `seen` are dead for good, whatever clocks say later."""
        self.dead |= {name for name, row in self.tokens.items() if row.dies_at <= seen}
        self.invites = {user: each for user, each in self.invites.items() if not each.expired(seen)}


class MemoryTx:
    def __init__(self, draft: _Tables) -> None:
        self._draft = draft
        self.seen: datetime | None = None  # the latest time this change has brought along
        self.landed: list[Callable[[], None]] = []

    def add_token(self, token: JoinToken) -> bool:
        kept = self._draft.tokens.get(token.name)
        if kept is not None and not self._gone_by(kept, token.created_at):
            return False
        fresh = replace(_own(token), spent_at=None)
        self._draft.dead.discard(token.name)
        self._draft.tokens[token.name] = _Token(fresh, token.expires_at or NEVER)
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
        self._draft.tokens[name] = _Token(spent, min(row.dies_at, now + REPLAY_WINDOW), key)
        return True

    def put_host(self, host: Host) -> None:
        self._draft.hosts[host.id] = host
        self._draft.reports.setdefault(host.id, Report())

    def remove_host(self, host_id: str) -> bool:
        self._draft.reports.pop(host_id, None)
        return self._draft.hosts.pop(host_id, None) is not None

    def put_report(self, host_id: str, report: Report) -> bool:
        if host_id not in self._draft.hosts:
            return False
        self._draft.reports[host_id] = _own(report)
        return True

    def add_user(self, user: User) -> bool:
        return _add(self._draft.users, user.name, user)

    def put_user(self, user: User) -> None:
        self._draft.users[user.name] = _own(user)

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
        found = _named(self._draft, name)
        return found is not None and not found.expired(now) and self.remove_invite(name)

    def remove_invite(self, name: str) -> bool:
        found = _named(self._draft, name)
        return found is not None and self._draft.invites.pop(found.user) is found

    def note_login(self, user: str, source: str, at: datetime) -> bool:
        known = self._draft.sources.get(user, {}) | {source: at}
        latest = sorted(known, key=lambda each: (known[each], each))[-KEPT_SOURCES:]
        kept = {each: known[each] for each in latest}
        return self._belonging(self._draft.sources, user, kept)

    def add_role(self, role: Role) -> bool:
        return _add(self._draft.roles, role.name, role)

    def put_role(self, role: Role) -> None:
        self._draft.roles[role.name] = _own(role)

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

    def _gone_by(self, row: _Token, now: datetime | None) -> bool:
        """Expired now, or seen expired before. Spent is not gone: its text stays taken."""
        expires = row.token.expires_at
        if expires is None:
            return False
        seen_expired = row.token.name in self._draft.dead and row.dies_at == expires
        return seen_expired or (now is not None and expires <= now)


class MemoryStore:
    def __init__(self, sealer: Sealer | None = None) -> None:
        """`sealer` is taken so that stores are built alike; memory has nothing to seal."""
        del sealer
        self._tables, self._closed = _Tables(), False
        self._turn = threading.Lock()  # held by the one change that is being made
        self._writer: int | None = None  # the thread that holds it

    def write(self, change: Callable[[MemoryTx], T]) -> T:
        if self._writer == threading.get_ident():
            raise RuntimeError("write was called from within a change")
        with self._turn:
            if self._closed:
                raise Unavailable("the store is closed")
            self._writer = threading.get_ident()
            try:
                return self._apply(change)
            finally:
                self._writer = None

    def _apply(self, change: Callable[[MemoryTx], T]) -> T:
        tx = MemoryTx(self._tables.draft())
        kept = self._tables
        try:
            answer = change(tx)
            kept = tx._draft
        finally:
            if tx.seen is not None:
                kept.bury(tx.seen)
            self._tables = kept
        for call in tx.landed:
            call()
        return answer

    def token(self, name: str) -> JoinToken | None:
        row = self._tables.tokens.get(name)
        return _own(row.token) if row else None

    def tokens(self) -> list[JoinToken]:
        found = [_own(row.token) for row in self._tables.tokens.values()]
        return sorted(found, key=lambda token: (token.expires_at or NEVER, token.name))

    def host(self, host_id: str) -> tuple[Host, Report] | None:
        tables = self._tables
        host = tables.hosts.get(host_id)
        return (host, _own(tables.reports[host_id])) if host else None

    def host_by_key(self, ssh_key: str) -> Host | None:
        found = [host for host in self._tables.hosts.values() if host.ssh_key == ssh_key]
        return max(found, key=lambda host: (host.joined_at, host.id), default=None)

    def hosts(self) -> list[tuple[Host, Report]]:
        tables = self._tables
        found = [(host, _own(tables.reports[host.id])) for host in tables.hosts.values()]
        return sorted(found, key=lambda pair: (pair[0].name, pair[0].id))

    def user(self, name: str) -> User | None:
        return _own(self._tables.users.get(name))

    def users(self) -> list[User]:
        return [_own(user) for _, user in sorted(self._tables.users.items())]

    def password(self, user: str) -> Password | None:
        return self._tables.passwords.get(user)

    def with_password(self) -> frozenset[str]:
        return frozenset(self._tables.passwords)

    def invite(self, name: str) -> Invite | None:
        return _named(self._tables, name)

    def invites(self) -> list[Invite]:
        return [invite for _, invite in sorted(self._tables.invites.items())]

    def login_sources(self, user: str) -> frozenset[str]:
        return frozenset(self._tables.sources.get(user, ()))

    def role(self, name: str) -> Role | None:
        return _own(self._tables.roles.get(name))

    def roles(self) -> list[Role]:
        return [_own(role) for _, role in sorted(self._tables.roles.items())]

    def locks(self) -> list[Lock]:
        return sorted(self._tables.locks.values(), key=lambda lock: lock.id)

    def recording(self, sid: str) -> Recording | None:
        return self._tables.recordings.get(sid)

    def recordings(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        user: str = "",
        before: Recording | None = None,
        limit: int = 1000,
    ) -> list[Recording]:
        found = [
            each
            for each in self._tables.recordings.values()
            if (since is None or since <= each.started)
            and (until is None or each.started < until)
            and user in ("", each.user)
            and (before is None or (each.started, each.sid) < (before.started, before.sid))
        ]
        found.sort(key=lambda each: (each.started, each.sid), reverse=True)
        return found[: max(limit, 0)]

    def old_recordings(self, stored_before: datetime, *, limit: int = 1000) -> list[Recording]:
        found = [x for x in self._tables.recordings.values() if x.stored_at < stored_before]
        return sorted(found, key=lambda each: (each.stored_at, each.sid))[: max(limit, 0)]

    def recordings_size(self) -> int:
        return sum(each.stored for each in self._tables.recordings.values())

    def cas(self, type: CaType | None = None) -> list[CaKeys]:
        order = list(CaType)
        found = [keys for keys in self._tables.cas.values() if type in (None, keys.type)]
        return sorted(found, key=lambda keys: (order.index(keys.type), keys.created_at, keys.id))

    def meta(self, key: str) -> str | None:
        return self._tables.meta.get(key)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        trail, first = self._tables.trail, max(after, 0)
        lines = trail[first : first + max(limit, 0)]
        return [(seq, read_line(line)) for seq, (line, _) in enumerate(lines, first + 1)]

    def verify_trail(self) -> tuple[int, int | None]:
        before = GENESIS
        for seq, (line, found) in enumerate(self._tables.trail, 1):
            before = link_line(before, line, seq)
            if found != before:
                return seq - 1, seq
        return len(self._tables.trail), None

    def close(self) -> None:
        self._closed = True


def _named(tables: _Tables, name: str) -> Invite | None:
    return next((each for each in tables.invites.values() if each.name == name), None)


def _add(table: dict[Any, Any], key: object, value: object) -> bool:
    """False if the key is taken."""
    if key in table:
        return False
    table[key] = _own(value)
    return True


def _own(value: T) -> T:
    """A copy that shares no dict: frozen nouns may hold dicts, and callers may change those."""
    if isinstance(value, dict):
        return {key: _own(each) for key, each in value.items()}  # type: ignore[return-value]  # a dict is a T here
    if isinstance(value, tuple):
        return tuple(_own(each) for each in value)  # type: ignore[return-value]  # and so is a tuple
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _own(getattr(value, f.name)) for f in fields(value)})
    return value
