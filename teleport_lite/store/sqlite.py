"""The default store: one SQLite file beside the auth role.

Writes go through one thread (`writer.py`). Reads run where they are called, each on a
connection nobody else uses meanwhile; in WAL mode they wait for no writer and see every commit.
Not for use across a fork.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from teleport_lite.ambient import Chance, SystemChance
from teleport_lite.errors import Unavailable
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.chain import read_line
from teleport_lite.model.event import Event
from teleport_lite.model.host import Host, Report
from teleport_lite.model.invite import Invite
from teleport_lite.model.lock import Lock
from teleport_lite.model.password import Password
from teleport_lite.model.recording import Recording
from teleport_lite.model.token import JoinToken, Verifier
from teleport_lite.model.user import Role, User
from teleport_lite.secret import Secret
from teleport_lite.store import connection, files, head
from teleport_lite.store.changes import (
    CA_PRIVATE,
    SqliteTx,
    ca_purpose,
    invite_purpose,
    password_purpose,
    token_purpose,
)
from teleport_lite.store.documents import from_text, micros, moment, noun
from teleport_lite.store.migrations import NEVER, check_version, migrate
from teleport_lite.store.protocols import Sealer
from teleport_lite.store.writer import Writer

T = TypeVar("T")

_TRAIL_KEY = "trail"
_KEY_PURPOSE = "store/trail-key"
# Connections kept for the next reader; more may be open while more read at once.
_KEEP_READERS = 8

_TOKENS = "SELECT name, expires_at, spent_at, document, sealed FROM tokens"
_HOSTS = (
    "SELECT hosts.document, reports.document FROM hosts "
    "LEFT JOIN reports ON reports.host_id = hosts.id"
)
_RECORDINGS = "SELECT document FROM recordings"
_INVITES = "SELECT name, document, sealed FROM invites"


def open_sqlite(path: Path, sealer: Sealer, *, chance: Chance | None = None) -> "SqliteStore":
    """Open the database, making it if there is none; the directory becomes or must be private.

    Raises Unavailable if another process has it, if it is damaged, foreign, from a newer
    version, or sealed under another keyring; Denied if others have access to it. Whatever is
    wrong with it, it is never replaced.
    """
    path = path.absolute()
    claim = files.Claim(path)
    try:
        files.tidy(path)
        with _explained(str(path), "open"):
            if not path.exists() and not path.is_symlink():
                key = (chance or SystemChance()).bytes(32)
                files.make(path, lambda fresh: _fill(fresh, sealer.seal(key, _KEY_PURPOSE), key))
            files.check(path)
            db = connection.connect(path)
            try:
                return SqliteStore(path, sealer, claim, db, _prepare(db, path, sealer))
            except BaseException:
                db.close()
                raise
    except BaseException:
        claim.release()
        raise


def _fill(fresh: Path, sealed_key: bytes, key: bytes) -> None:
    db = connection.connect(fresh)
    try:
        migrate(db)
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO keys (name, sealed) VALUES (?, ?)", (_TRAIL_KEY, sealed_key))
        head.write_head(db, key, head.START)
        db.execute("COMMIT")
    finally:
        db.close()


def _prepare(db: sqlite3.Connection, path: Path, sealer: Sealer) -> head.TrailEnd:
    """Look before touching: nothing is written to a file that is not sound and ours."""
    check_version(db, str(path))
    connection.quick_check(db, str(path))
    row = db.execute("SELECT sealed FROM keys WHERE name = ?", (_TRAIL_KEY,)).fetchone()
    try:
        if row is None:
            raise ValueError("no trail key")
        trail = head.TrailEnd(sealer.unseal(row[0], _KEY_PURPOSE))
    except ValueError as why:
        raise Unavailable(
            f"database {path} was sealed under another keyring", hint=files.PAGE, log=repr(why)
        ) from why
    connection.make_durable(db)
    migrate(db)
    trail.load(db)
    return trail


class SqliteStore:
    """Made by `open_sqlite`."""

    def __init__(
        self,
        path: Path,
        sealer: Sealer,
        claim: files.Claim,
        db: sqlite3.Connection,
        trail: head.TrailEnd,
    ) -> None:
        self._path, self._where, self._sealer, self._claim = path, str(path), sealer, claim
        self._trail_key = trail.key
        self._idle: list[sqlite3.Connection] = []  # list.append and pop are atomic
        self._closed = False
        self._writer = Writer(db, trail=trail, sealer=sealer, where=self._where)

    def write(self, change: Callable[[SqliteTx], T]) -> T:
        return self._writer.write(change)

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
        statement = "SELECT user, document, sealed FROM passwords WHERE user = ?"
        return self._one(self._password, statement, user)

    def with_password(self) -> frozenset[str]:
        return frozenset(self._all(_text, "SELECT user FROM passwords"))

    def invite(self, name: str) -> Invite | None:
        return self._one(self._invite, f"{_INVITES} WHERE name = ?", name)

    def invites(self) -> list[Invite]:
        return self._all(self._invite, f"{_INVITES} ORDER BY user")

    def login_sources(self, user: str) -> frozenset[str]:
        statement = "SELECT source FROM login_sources WHERE user = ?"
        return frozenset(self._all(_text, statement, user))

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
            "AND ? IN ('', user) ORDER BY started_at DESC, sid DESC LIMIT ?"
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

    def meta(self, key: str) -> str | None:
        return self._one(_text, "SELECT value FROM meta WHERE key = ?", key)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        statement = "SELECT seq, line FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        return self._all(_event, statement, min(after, NEVER), _bounded(limit))

    def verify_trail(self) -> tuple[int, int | None]:
        with _explained(self._where, "read"), self._reader() as db:
            db.execute("BEGIN")  # events and head as of one moment
            try:
                return head.verify(db, self._trail_key)
            finally:
                db.execute("ROLLBACK")

    def close(self) -> None:
        """Finish the writes that wait, and let others have the database. May be called twice."""
        self._closed = True
        self._writer.close()
        with suppress(IndexError):  # readers that still run close theirs themselves
            while True:
                self._idle.pop().close()
        self._claim.release()

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

    def _unsealed(self, sealed: bytes, purpose: str) -> dict[str, Any]:
        found = json.loads(self._sealer.unseal(sealed, purpose))
        if not isinstance(found, dict):
            raise ValueError("sealed for something else")
        return found

    def _one(self, read: Callable[[Any], T], statement: str, *values: object) -> T | None:
        found = self._all(read, statement, *values)
        return found[0] if found else None

    def _all(self, read: Callable[[Any], T], statement: str, *values: object) -> list[T]:
        with _explained(self._where, "read"), self._reader() as db:
            rows = db.execute(statement, values).fetchall()
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

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own for a moment."""
        if self._closed:
            raise Unavailable("the store is closed")
        try:
            db = self._idle.pop()
        except IndexError:
            db = connection.for_reading(self._path)
        try:
            yield db
        finally:
            if self._closed or len(self._idle) >= _KEEP_READERS:
                db.close()
            else:
                self._idle.append(db)


@contextmanager
def _explained(where: str, verb: str) -> Iterator[None]:
    """Failures of SQLite as Unavailable."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as why:  # damaged text is not even UTF-8
        raise connection.unavailable(where, verb, why) from why


def _text(row: Any) -> str:
    return str(row[0])


def _host(row: Any) -> tuple[Host, Report]:
    host, report = row
    return from_text(Host, host), Report() if report is None else from_text(Report, report)


def _user(row: Any) -> User:
    return from_text(User, row[0])


def _role(row: Any) -> Role:
    return from_text(Role, row[0])


def _lock(row: Any) -> Lock:
    return from_text(Lock, row[0])


def _recording(row: Any) -> Recording:
    return from_text(Recording, row[0])


def _number(row: Any) -> int:
    return int(row[0])


def _bounded(limit: int) -> int:
    return min(max(limit, 0), NEVER)


def _event(row: Any) -> tuple[int, Event]:
    seq, line = row
    return int(seq), read_line(line)
