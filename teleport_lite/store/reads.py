"""Every question that is put to the database, and how its rows become nouns."""

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from teleport_lite.errors import Unavailable
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.chain import read_line
from teleport_lite.model.event import Event
from teleport_lite.model.guess import Guesses
from teleport_lite.model.host import Host, Report
from teleport_lite.model.invite import Invite
from teleport_lite.model.lease import Lease
from teleport_lite.model.lock import Lock
from teleport_lite.model.password import Password
from teleport_lite.model.recording import Recording
from teleport_lite.model.rotation import Rotation
from teleport_lite.model.token import JoinToken, Verifier
from teleport_lite.model.trust import RemoteCluster, TrustedCluster
from teleport_lite.model.user import Role, User
from teleport_lite.secret import Secret
from teleport_lite.store import files
from teleport_lite.store.changes import CA_PRIVATE, TRUSTED_PRIVATE
from teleport_lite.store.documents import from_text, micros, moment, noun
from teleport_lite.store.migrations import NEVER
from teleport_lite.store.protocols import Sealer
from teleport_lite.store.statements import (
    ca_purpose,
    invite_purpose,
    password_purpose,
    token_purpose,
    trusted_purpose,
)

T = TypeVar("T")

_TOKENS = "SELECT name, expires_at, spent_at, document, sealed FROM tokens"
_HOSTS = (
    "SELECT hosts.document, reports.document FROM hosts "
    "LEFT JOIN reports ON reports.host_id = hosts.id"
)
_GUESSES = "SELECT name, source, count, last_at, stranger FROM guesses"
_RECORDINGS = "SELECT document FROM recordings"
_INVITES = "SELECT name, document, sealed FROM invites"


class SqlReads:
    """What both SQL stores answer alike."""

    _where: str  # names the database in an error
    _sealer: Sealer

    @abstractmethod
    def _fetch(self, statement: str, values: Sequence[object]) -> list[Any]:
        """All rows. Raises Unavailable when the database can not be read."""

    def token(self, name: str) -> JoinToken | None:
        return self._one(self._token, f"{_TOKENS} WHERE name = ?", name)

    def tokens(self) -> list[JoinToken]:
        return self._all(self._token, f"{_TOKENS} ORDER BY expires_at IS NULL, expires_at, name")

    def host(self, host_id: str) -> tuple[Host, Report] | None:
        return self._one(_host, f"{_HOSTS} WHERE hosts.id = ?", host_id)

    def host_by_key(self, ssh_key: str) -> Host | None:
        newest = "WHERE hosts.ssh_key = ? ORDER BY joined_at DESC, id DESC LIMIT 1"
        found = self._one(_host, f"{_HOSTS} {newest}", ssh_key)
        return found[0] if found else None

    def hosts(self) -> list[tuple[Host, Report]]:
        return self._all(_host, f"{_HOSTS} ORDER BY hosts.name, hosts.id")

    def user(self, name: str) -> User | None:
        return self._one(_user, "SELECT document FROM users WHERE name = ?", name)

    def users(self) -> list[User]:
        return self._all(_user, "SELECT document FROM users ORDER BY name")

    def password(self, user: str) -> Password | None:
        statement = 'SELECT "user", document, sealed FROM passwords WHERE "user" = ?'
        return self._one(self._password, statement, user)

    def with_password(self) -> frozenset[str]:
        return frozenset(self._all(_text, 'SELECT "user" FROM passwords'))

    def invite(self, name: str) -> Invite | None:
        return self._one(self._invite, f"{_INVITES} WHERE name = ?", name)

    def invites(self) -> list[Invite]:
        return self._all(self._invite, f'{_INVITES} ORDER BY "user"')

    def login_sources(self, user: str) -> frozenset[str]:
        statement = 'SELECT source FROM login_sources WHERE "user" = ?'
        return frozenset(self._all(_text, statement, user))

    def guesses(self, name: str | None = None) -> list[Guesses]:
        if name is None:
            return self._all(_guesses, f"{_GUESSES} ORDER BY name, source")
        return self._all(_guesses, f"{_GUESSES} WHERE name = ? ORDER BY source", name)

    def role(self, name: str) -> Role | None:
        return self._one(_role, "SELECT document FROM roles WHERE name = ?", name)

    def roles(self) -> list[Role]:
        return self._all(_role, "SELECT document FROM roles ORDER BY name")

    def locks(self) -> list[Lock]:
        return self._all(_lock, "SELECT document FROM locks ORDER BY id")

    def recording(self, sid: str) -> Recording | None:
        return self._one(_recording, f"{_RECORDINGS} WHERE sid = ?", sid)

    def recordings(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        user: str = "",
        before: Recording | None = None,
        limit: int = 1000,
    ) -> list[Recording]:
        # One comparison of pairs, which the index on both serves.
        low = (-NEVER if since is None else micros(since), "")
        high = (NEVER if until is None else micros(until), "")
        if before is not None:
            high = min(high, (micros(before.started), before.sid))
        statement = (
            f"{_RECORDINGS} WHERE (started_at, sid) >= (?, ?) AND (started_at, sid) < (?, ?) "
            "AND ? IN ('', \"user\") ORDER BY started_at DESC, sid DESC LIMIT ?"
        )
        return self._all(_recording, statement, *low, *high, user, _bounded(limit))

    def old_recordings(self, stored_before: datetime, *, limit: int = 1000) -> list[Recording]:
        statement = f"{_RECORDINGS} WHERE stored_at < ? ORDER BY stored_at, sid LIMIT ?"
        return self._all(_recording, statement, micros(stored_before), _bounded(limit))

    def recordings_size(self) -> int:
        return self._one(_number, "SELECT coalesce(sum(stored), 0) FROM recordings") or 0

    def cas(self, type: CaType | None = None) -> list[CaKeys]:
        order = list(CaType)
        # A newer program may have made some of a type that means nothing to us.
        known = ", ".join(f"'{each}'" for each in order)
        statement = f"SELECT type, id, document, sealed FROM cas WHERE type IN ({known})"  # noqa: S608  # names of ours
        found = self._all(self._ca, statement)
        wanted = [keys for keys in found if type in (None, keys.type)]
        return sorted(wanted, key=lambda keys: (order.index(keys.type), keys.created_at, keys.id))

    def rotation(self, type: CaType) -> Rotation:
        statement = "SELECT document FROM rotations WHERE type = ?"
        return self._one(_rotation, statement, str(type)) or Rotation(type=type)

    def trusted_clusters(self) -> list[TrustedCluster]:
        return self._all(self._trusted, "SELECT name, document, sealed FROM trusted ORDER BY name")

    def remote_clusters(self) -> list[RemoteCluster]:
        return self._all(_remote, "SELECT document FROM remotes ORDER BY name")

    def lease(self, name: str) -> Lease | None:
        statement = "SELECT name, holder, fence, ends_at FROM leases WHERE name = ?"
        return self._one(_lease, f"{statement} AND holder <> ''", name)

    def meta(self, key: str) -> str | None:
        return self._one(_text, "SELECT value FROM meta WHERE key = ?", key)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        statement = "SELECT seq, line FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        return self._all(_event, statement, min(after, NEVER), _bounded(limit))

    def _token(self, row: Any) -> JoinToken:
        name, expires_at, spent_at, document, sealed = row
        secret = self._unsealed(sealed, token_purpose(name))
        return noun(
            JoinToken,
            json.loads(document),
            text=Secret(secret["text"]),
            verifier=noun(Verifier, secret["verifier"]),
            expires_at=None if expires_at is None else moment(expires_at),
            spent_at=None if spent_at is None else moment(spent_at),
        )

    def _ca(self, row: Any) -> CaKeys:
        type, id, document, sealed = row
        found = self._unsealed(sealed, ca_purpose(type, id))
        keys = {name: None if found[name] is None else Secret(found[name]) for name in CA_PRIVATE}
        return noun(CaKeys, json.loads(document), **keys)

    def _password(self, row: Any) -> Password:
        user, document, sealed = row
        verifier = noun(Verifier, self._unsealed(sealed, password_purpose(user)))
        return noun(Password, json.loads(document), verifier=verifier)

    def _invite(self, row: Any) -> Invite:
        name, document, sealed = row
        token = Secret(self._unsealed(sealed, invite_purpose(name))["token"])
        return noun(Invite, json.loads(document), token=token)

    def _trusted(self, row: Any) -> TrustedCluster:
        name, document, sealed = row
        found = self._unsealed(sealed, trusted_purpose(name))
        keys = {key: None if found[key] is None else Secret(found[key]) for key in TRUSTED_PRIVATE}
        return noun(TrustedCluster, json.loads(document), **keys)

    def _unsealed(self, sealed: bytes, purpose: str) -> dict[str, Any]:
        found = json.loads(self._sealer.unseal(sealed, purpose))
        if not isinstance(found, dict):
            raise ValueError("sealed for something else")
        return found

    def _one(self, read: Callable[[Any], T], statement: str, *values: object) -> T | None:
        found = self._all(read, statement, *values)
        return found[0] if found else None

    def _all(self, read: Callable[[Any], T], statement: str, *values: object) -> list[T]:
        rows = self._fetch(statement, values)
        try:
            return [read(row) for row in rows]
        except (ValueError, LookupError, TypeError) as why:
            # The log names the kind alone: the value may be half a secret.
            raise Unavailable(
                f"cannot read database {self._where}: a row is damaged, "
                "or was sealed under another keyring",
                hint=files.PAGE,
                log=f"{type(why).__name__} in: {statement}",
            ) from why


def _text(row: Any) -> str:
    return str(row[0])


def _host(row: Any) -> tuple[Host, Report]:
    host, report = row
    return from_text(Host, host), Report() if report is None else from_text(Report, report)


def _user(row: Any) -> User:
    return from_text(User, row[0])


def _guesses(row: Any) -> Guesses:
    name, source, count, last_at, stranger = row
    return Guesses(
        name=name,
        source=source,
        count=int(count),
        last_at=moment(last_at),
        stranger=bool(stranger),
    )


def _role(row: Any) -> Role:
    return from_text(Role, row[0])


def _lock(row: Any) -> Lock:
    return from_text(Lock, row[0])


def _recording(row: Any) -> Recording:
    return from_text(Recording, row[0])


def _rotation(row: Any) -> Rotation:
    return from_text(Rotation, row[0])


def _remote(row: Any) -> RemoteCluster:
    return from_text(RemoteCluster, row[0])


def _lease(row: Any) -> Lease:
    name, holder, fence, ends_at = row
    return Lease(name=name, holder=holder, fence=int(fence), until=moment(ends_at))


def _number(row: Any) -> int:
    return int(row[0])


def _bounded(limit: int) -> int:
    return min(max(limit, 0), NEVER)


def _event(row: Any) -> tuple[int, Event]:
    seq, line = row
    return int(seq), read_line(line)
