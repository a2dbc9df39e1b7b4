"""Every statement that changes the database. One method, one statement, one answer."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from teleport_lite.errors import Unavailable
from teleport_lite.model.authority import CaKeys
from teleport_lite.model.event import Event
from teleport_lite.model.host import Host, Report
from teleport_lite.model.invite import Invite
from teleport_lite.model.lock import Lock
from teleport_lite.model.password import Password
from teleport_lite.model.recording import Recording
from teleport_lite.model.token import JoinToken
from teleport_lite.model.user import Role, User
from teleport_lite.secret import Secret
from teleport_lite.store.documents import micros, plain, to_text
from teleport_lite.store.head import TrailEnd
from teleport_lite.store.migrations import NEVER
from teleport_lite.store.protocols import KEPT_SOURCES, REPLAY_WINDOW, Sealer

# Our own mistakes: they concern one change. Every other sqlite3.Error is about the database,
# and then nobody in the batch can be told that all is well.
_BUGS = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.NotSupportedError,
)
# What of a CA is sealed.
CA_PRIVATE = ("ssh_private", "tls_private", "jwt_private")
_WINDOW = REPLAY_WINDOW.days * 86_400_000_000 + REPLAY_WINDOW.seconds * 1_000_000

_ADD_TOKEN = """
INSERT INTO tokens (name, roles, once, expires_at, dies_at, document, sealed)
VALUES (:name, :roles, :once, :expires_at, :dies_at, :document, :sealed)
ON CONFLICT (name) DO UPDATE SET roles = excluded.roles, once = excluded.once,
    expires_at = excluded.expires_at, dies_at = excluded.dies_at, dead = 0, spent_at = NULL,
    spent_by = NULL, document = excluded.document, sealed = excluded.sealed
WHERE tokens.expires_at IS NOT NULL
  AND (tokens.expires_at <= :now OR (tokens.dead AND tokens.dies_at = tokens.expires_at))
"""
# The condition and the consequence in one statement: two that read first and write later both win.
_SPEND_TOKEN = """
UPDATE tokens SET
    dies_at = CASE WHEN once AND spent_at IS NULL THEN min(dies_at, :window) ELSE dies_at END,
    spent_by = CASE WHEN once AND spent_at IS NULL THEN :key ELSE spent_by END,
    spent_at = CASE WHEN once AND spent_at IS NULL THEN :now ELSE spent_at END
WHERE name = :name AND NOT dead AND dies_at > :now
  AND (NOT once OR spent_at IS NULL OR spent_by = :key)
"""
_PUT_HOST = """
INSERT INTO hosts (id, name, ssh_key, joined_at, document) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, ssh_key = excluded.ssh_key,
    joined_at = excluded.joined_at, document = excluded.document
"""
_PUT_REPORT = """
INSERT INTO reports (host_id, document) SELECT id, ? FROM hosts WHERE id = ?
ON CONFLICT (host_id) DO UPDATE SET document = excluded.document
"""
_PUT_LOCK = """
INSERT INTO locks (id, expires_at, document) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, document = excluded.document
"""
# Each of the three is a row only where there is a user.
_PUT_PASSWORD = """
INSERT INTO passwords (user, document, sealed) SELECT name, ?, ? FROM users WHERE name = ?
ON CONFLICT (user) DO UPDATE SET document = excluded.document, sealed = excluded.sealed
"""
_PUT_INVITE = """
INSERT INTO invites (user, name, expires_at, document, sealed)
SELECT users.name, :name, :expires_at, :document, :sealed FROM users WHERE users.name = :user
ON CONFLICT (user) DO UPDATE SET name = excluded.name, expires_at = excluded.expires_at,
    document = excluded.document, sealed = excluded.sealed
"""
_NOTE_LOGIN = """
INSERT INTO login_sources (user, source, last_at) SELECT name, ?, ? FROM users WHERE name = ?
ON CONFLICT (user, source) DO UPDATE SET last_at = excluded.last_at
"""
_FORGET_LOGINS = """
DELETE FROM login_sources WHERE user = :user AND source NOT IN (
    SELECT source FROM login_sources WHERE user = :user
    ORDER BY last_at DESC, source DESC LIMIT :kept
)
"""
_ADD_RECORDING = """
INSERT INTO recordings (sid, user, started_at, stored_at, stored, document)
VALUES (:sid, :user, :started_at, :stored_at, :stored, :document) ON CONFLICT DO NOTHING
"""
_SWEEP_TOKENS = """
DELETE FROM tokens WHERE expires_at IS NOT NULL
  AND (expires_at <= :now OR (dead AND dies_at = expires_at))
"""


def token_purpose(name: str) -> str:
    """What a sealed token is sealed for. Naming the row keeps one from standing in for another."""
    return f"token/{name}"


def ca_purpose(type: str, id: str) -> str:
    return f"ca/{type}/{id}"


def password_purpose(user: str) -> str:
    return f"password/{user}"


def invite_purpose(name: str) -> str:
    return f"invite/{name}"


class SqliteTx:
    """Alive only while its change runs, on the writer's thread."""

    def __init__(self, db: sqlite3.Connection, trail: TrailEnd, sealer: Sealer) -> None:
        self._db, self._trail, self._sealer = db, trail, sealer
        self.over = False
        self.failure: sqlite3.Error | None = None  # the database itself failed
        self.seen: int | None = None  # the latest time this change has brought along
        self.landed: list[Callable[[], None]] = []

    def add_token(self, token: JoinToken) -> bool:
        expires = None if token.expires_at is None else micros(token.expires_at)
        document = plain_without(token, "text", "verifier", "expires_at", "spent_at")
        secret = {"text": token.text.reveal(), "verifier": plain(token.verifier)}
        row = {
            "name": token.name,
            "roles": _role_list(token.roles),
            "once": int(token.once),
            "expires_at": expires,
            "dies_at": NEVER if expires is None else expires,
            "document": json.dumps(document),
            "sealed": self._seal(secret, token_purpose(token.name)),
            "now": -NEVER if token.created_at is None else micros(token.created_at),
        }
        return self._did(_ADD_TOKEN, row)

    def remove_token(self, name: str) -> bool:
        return self._did("DELETE FROM tokens WHERE name = ?", (name,))

    def spend_token(self, name: str, *, roles: Sequence[str], key: str, now: datetime) -> bool:
        at = self._saw(now)
        if not roles or not key or any("," in role for role in roles):
            return False
        values: dict[str, Any] = {"name": name, "now": at, "window": at + _WINDOW, "key": key}
        covered = ""
        for number, role in enumerate(roles):
            covered += f" AND instr(roles, :role{number})"
            values[f"role{number}"] = f",{role},"
        return self._did(_SPEND_TOKEN + covered, values)

    def put_host(self, host: Host) -> None:
        row = (host.id, host.name, host.ssh_key, micros(host.joined_at), to_text(host))
        self._did(_PUT_HOST, row)

    def remove_host(self, host_id: str) -> bool:
        return self._did("DELETE FROM hosts WHERE id = ?", (host_id,))

    def put_report(self, host_id: str, report: Report) -> bool:
        return self._did(_PUT_REPORT, (to_text(report), host_id))

    def add_user(self, user: User) -> bool:
        return self._did(_add("users", "name", "document"), (user.name, to_text(user)))

    def put_user(self, user: User) -> None:
        self._did(_put("users", "name", "document"), (user.name, to_text(user)))

    def change_user(self, user: User) -> bool:
        values = (to_text(user), user.name)
        return self._did("UPDATE users SET document = ? WHERE name = ?", values)

    def remove_user(self, name: str) -> bool:
        return self._did("DELETE FROM users WHERE name = ?", (name,))

    def put_password(self, password: Password) -> bool:
        document = json.dumps(plain_without(password, "verifier"))
        sealed = self._seal(plain(password.verifier), password_purpose(password.user))
        return self._did(_PUT_PASSWORD, (document, sealed, password.user))

    def put_invite(self, invite: Invite) -> bool:
        row = {
            "user": invite.user,
            "name": invite.name,
            "expires_at": micros(invite.expires_at),
            "document": json.dumps(plain_without(invite, "token")),
            "sealed": self._seal({"token": invite.token.reveal()}, invite_purpose(invite.name)),
        }
        return self._did(_PUT_INVITE, row)

    def use_invite(self, name: str, *, now: datetime) -> bool:
        values = (name, self._saw(now))
        return self._did("DELETE FROM invites WHERE name = ? AND expires_at > ?", values)

    def remove_invite(self, name: str) -> bool:
        return self._did("DELETE FROM invites WHERE name = ?", (name,))

    def note_login(self, user: str, source: str, at: datetime) -> bool:
        noted = self._did(_NOTE_LOGIN, (source, micros(at), user))
        self._count(_FORGET_LOGINS, {"user": user, "kept": KEPT_SOURCES})
        return noted

    def add_role(self, role: Role) -> bool:
        return self._did(_add("roles", "name", "document"), (role.name, to_text(role)))

    def put_role(self, role: Role) -> None:
        self._did(_put("roles", "name", "document"), (role.name, to_text(role)))

    def remove_role(self, name: str) -> bool:
        return self._did("DELETE FROM roles WHERE name = ?", (name,))

    def put_lock(self, lock: Lock) -> None:
        expires = None if lock.expires_at is None else micros(lock.expires_at)
        self._did(_PUT_LOCK, (lock.id, expires, to_text(lock)))

    def remove_lock(self, lock_id: str) -> bool:
        return self._did("DELETE FROM locks WHERE id = ?", (lock_id,))

    def add_recording(self, recording: Recording) -> bool:
        row = {
            "sid": recording.sid,
            "user": recording.user,
            "started_at": micros(recording.started),
            "stored_at": micros(recording.stored_at),
            "stored": recording.stored,
            "document": to_text(recording),
        }
        return self._did(_ADD_RECORDING, row)

    def remove_recording(self, sid: str) -> bool:
        return self._did("DELETE FROM recordings WHERE sid = ?", (sid,))

    def add_ca(self, keys: CaKeys) -> bool:
        secret = {name: _reveal(getattr(keys, name)) for name in CA_PRIVATE}
        document = json.dumps(plain_without(keys, *CA_PRIVATE))
        sealed = self._seal(secret, ca_purpose(keys.type, keys.id))
        return self._did(
            "INSERT INTO cas (type, id, document, sealed) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (str(keys.type), keys.id, document, sealed),
        )

    def set_meta(self, key: str, value: str) -> None:
        self._did(_put("meta", "key", "value"), (key, value))

    def add_meta(self, key: str, value: str) -> bool:
        return self._did(_add("meta", "key", "value"), (key, value))

    def record(self, event: Event) -> None:
        self._saw(event.at)
        self._guarded(lambda: self._trail.append(self._db, event))

    def sweep(self, now: datetime) -> int:
        at = {"now": self._saw(now)}
        invites, locks = (
            self._count(f"DELETE FROM {table} WHERE expires_at <= :now", at)  # noqa: S608  # names of ours
            for table in ("invites", "locks")
        )
        return self._count(_SWEEP_TOKENS, at) + invites + locks

    def on_commit(self, call: Callable[[], None]) -> None:
        self.landed.append(call)

    def _did(self, statement: str, values: Any) -> bool:
        return self._count(statement, values) > 0

    def _count(self, statement: str, values: Any) -> int:
        return int(self._guarded(lambda: self._db.execute(statement, values).rowcount))

    def _guarded(self, act: Callable[[], Any]) -> Any:
        """Remember a failure of the database: the change might swallow it, the writer may not."""
        if self.over:
            raise RuntimeError("a transaction was used after its end")
        try:
            return act()
        except _BUGS:
            raise
        except sqlite3.Error as why:
            self.failure = why
            raise Unavailable("the store cannot write", log=repr(why)) from why

    def _seal(self, secret: dict[str, Any], purpose: str) -> bytes:
        return self._sealer.seal(json.dumps(secret).encode(), purpose)

    def _saw(self, now: datetime) -> int:
        at = micros(now)
        self.seen = at if self.seen is None else max(self.seen, at)
        return at


def bury(db: sqlite3.Connection, seen: int) -> None:
    """Whose time was over at `seen` is dead for good, whatever clocks say later."""
    db.execute("UPDATE tokens SET dead = 1 WHERE dead = 0 AND dies_at <= ?", (seen,))
    db.execute("DELETE FROM invites WHERE expires_at <= ?", (seen,))


def plain_without(noun: JoinToken | CaKeys | Password | Invite, *kept_apart: str) -> dict[str, Any]:
    names = [name for name in noun.__dataclass_fields__ if name not in kept_apart]
    return {name: plain(getattr(noun, name)) for name in names}


def _role_list(roles: Sequence[str]) -> str:
    """ ",Node,Proxy,": the commas on both ends let one search find whole names only."""
    return f",{','.join(roles)},"


def _reveal(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _add(table: str, key: str, value: str) -> str:
    return f"INSERT INTO {table} ({key}, {value}) VALUES (?, ?) ON CONFLICT DO NOTHING"  # noqa: S608  # names of ours


def _put(table: str, key: str, value: str) -> str:
    return (
        f"INSERT INTO {table} ({key}, {value}) VALUES (?, ?) "  # noqa: S608  # names of ours
        f"ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}"
    )
