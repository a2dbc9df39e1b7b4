"""A store that forgets when the process ends: for tests and for tools that need none.

It keeps every promise of `protocols.py` except that of surviving a crash. A change works on a
draft (`drafts.py`); the draft replaces the tables when the change has succeeded.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from teleport_lite.errors import Unavailable
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.chain import GENESIS, link_line, read_line
from teleport_lite.model.event import Event
from teleport_lite.model.guess import Guesses
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
from teleport_lite.store.drafts import NEVER, MemoryTx, Tables, named, own
from teleport_lite.store.health import StoreHealth
from teleport_lite.store.protocols import Sealer, Snapshot
from teleport_lite.store.watching import Watchers

T = TypeVar("T")


class MemoryStore:
    def __init__(self, sealer: Sealer | None = None) -> None:
        """`sealer` is taken so that stores are built alike; memory has nothing to seal."""
        del sealer
        self._tables, self._closed = Tables(), False
        self._watchers = Watchers()
        self.health = StoreHealth()
        self._turn = threading.Lock()  # held by the one change that is being made
        self._writer: int | None = None  # the thread that holds it

    def write(self, change: Callable[[MemoryTx], T]) -> T:
        return self.health.write(self._write, change)

    def look(self) -> str:
        return self.health.look(self._write)

    def _write(self, change: Callable[[MemoryTx], T]) -> T:
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
        kept, told = self._tables, frozenset[str]()
        try:
            answer = change(tx)
            kept, told = tx._draft, frozenset(tx.topics)
        finally:
            if tx.seen is not None:
                kept.bury(tx.seen)
            topics = kept.topics(self._tables) | told
            self._tables = kept
            self._watchers.tell(topics)
        for call in tx.landed:
            call()
        return answer

    def token(self, name: str) -> JoinToken | None:
        row = self._tables.tokens.get(name)
        return own(row.token) if row else None

    def tokens(self) -> list[JoinToken]:
        found = [own(row.token) for row in self._tables.tokens.values()]
        return sorted(found, key=lambda token: (token.expires_at or NEVER, token.name))

    def host(self, host_id: str) -> tuple[Host, Report] | None:
        tables = self._tables
        host = tables.hosts.get(host_id)
        return (host, own(tables.reports[host_id])) if host else None

    def host_by_key(self, ssh_key: str) -> Host | None:
        found = [host for host in self._tables.hosts.values() if host.ssh_key == ssh_key]
        return max(found, key=lambda host: (host.joined_at, host.id), default=None)

    def hosts(self) -> list[tuple[Host, Report]]:
        tables = self._tables
        found = [(host, own(tables.reports[host.id])) for host in tables.hosts.values()]
        return sorted(found, key=lambda pair: (pair[0].name, pair[0].id))

    def user(self, name: str) -> User | None:
        return own(self._tables.users.get(name))

    def users(self) -> list[User]:
        return [own(user) for _, user in sorted(self._tables.users.items())]

    def password(self, user: str) -> Password | None:
        return self._tables.passwords.get(user)

    def with_password(self) -> frozenset[str]:
        return frozenset(self._tables.passwords)

    def invite(self, name: str) -> Invite | None:
        return named(self._tables, name)

    def invites(self) -> list[Invite]:
        return [invite for _, invite in sorted(self._tables.invites.items())]

    def login_sources(self, user: str) -> frozenset[str]:
        return frozenset(self._tables.sources.get(user, ()))

    def guesses(self, name: str | None = None) -> list[Guesses]:
        found = sorted(self._tables.guesses.items())
        return [each for (whose, _), each in found if name in (None, whose)]

    def role(self, name: str) -> Role | None:
        return own(self._tables.roles.get(name))

    def roles(self) -> list[Role]:
        return [own(role) for _, role in sorted(self._tables.roles.items())]

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

    def rotation(self, type: CaType) -> Rotation:
        return self._tables.rotations.get(type) or Rotation(type=type)

    def trusted_clusters(self) -> list[TrustedCluster]:
        return [cluster for _, cluster in sorted(self._tables.trusted.items())]

    def remote_clusters(self) -> list[RemoteCluster]:
        return [cluster for _, cluster in sorted(self._tables.remotes.items())]

    def lease(self, name: str) -> Lease | None:
        found = self._tables.leases.get(name)
        return found if found and found.holder else None

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

    def watch(self, call: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        return self._watchers.add(call)

    def snapshot(self) -> Snapshot:
        raise Unavailable("a store in memory has no backup")

    def close(self) -> None:
        self._closed = True
        self._watchers.close()
