"""Every change of the database. One method, one statement, one answer."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from teleport_lite.errors import Unavailable
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.event import Event
from teleport_lite.model.guess import GUESSES_LAST, KEPT_STRANGERS, MAX_GUESSES
from teleport_lite.model.host import Host, Report
from teleport_lite.model.invite import Invite
from teleport_lite.model.lock import Lock
from teleport_lite.model.password import Password
from teleport_lite.model.recording import Recording
from teleport_lite.model.rotation import Rotation
from teleport_lite.model.token import JoinToken
from teleport_lite.model.trust import RemoteCluster, TrustedCluster
from teleport_lite.model.user import Role, User
from teleport_lite.secret import Secret
from teleport_lite.store.dialect import Ledger
from teleport_lite.store.documents import micros, noun, plain, to_text
from teleport_lite.store.head import TrailEnd
from teleport_lite.store.migrations import NEVER
from teleport_lite.store.protocols import KEPT_SOURCES, REPLAY_WINDOW, Known, Sealer
from teleport_lite.store.sealed import reseal
from teleport_lite.store.statements import (
    ADD_CA,
    ADD_HOST,
    ADD_RECORDING,
    ADD_ROTATION,
    ADD_TOKEN,
    CHANGE_CA,
    CHANGE_ROTATION,
    COUNT_GUESS,
    COVERS,
    DROP_LEASE,
    END_GUESSES,
    FORGET_GUESSES,
    FORGET_LOGINS,
    NOTE_LOGIN,
    PUT_HOST,
    PUT_INVITE,
    PUT_LOCK,
    PUT_PASSWORD,
    PUT_REPORT,
    PUT_TRUSTED,
    SPEND_TOKEN,
    SWEEP_TOKENS,
    TAKE_LEASE,
    add,
    ca_purpose,
    invite_purpose,
    password_purpose,
    put,
    token_purpose,
    trusted_purpose,
)

# What of a CA, and of a trusted cluster, is sealed.
CA_PRIVATE = ("ssh_private", "tls_private", "jwt_private")
TRUSTED_PRIVATE = ("tls_private",)
_DOCUMENT_OF: dict[type[Any], str] = {
    Host: "SELECT document FROM hosts WHERE id = ?",
    User: "SELECT document FROM users WHERE name = ?",
    Password: 'SELECT document FROM passwords WHERE "user" = ?',
    RemoteCluster: "SELECT document FROM remotes WHERE name = ?",
    TrustedCluster: "SELECT document FROM trusted WHERE name = ?",
}
_GUESSES_OF = "SELECT count FROM guesses WHERE name = ? AND source = ?"
_WINDOW = REPLAY_WINDOW.days * 86_400_000_000 + REPLAY_WINDOW.seconds * 1_000_000


class SqlTx:
    """Alive only while its change runs, on the writer's thread."""

    def __init__(self, db: Ledger, trail: TrailEnd, sealer: Sealer) -> None:
        self._db, self._trail, self._sealer = db, trail, sealer
        self.over = False
        self.failure: Exception | None = None  # the database itself failed
        self.seen: int | None = None  # the latest time this change has brought along
        self.landed: list[Callable[[], None]] = []
        self.topics: set[str] = set()

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
        return self._did(ADD_TOKEN, row, tells="tokens")

    def remove_token(self, name: str) -> bool:
        return self._did("DELETE FROM tokens WHERE name = ?", (name,), tells="tokens")

    def spend_token(self, name: str, *, roles: Sequence[str], key: str, now: datetime) -> bool:
        at = self._saw(now)
        if not roles or not key or any("," in role for role in roles):
            return False
        values: dict[str, Any] = {"name": name, "now": at, "window": at + _WINDOW, "key": key}
        covered = ""
        for number, role in enumerate(roles):
            covered += COVERS.format(number=number)
            values[f"role{number}"] = f",{role},"
        return self._did(SPEND_TOKEN + covered, values)

    def is_still(self, kind: type[Known], name: str, was: Known | None) -> bool:
        found = self._rows(_DOCUMENT_OF[kind], (name,))
        if not found or was is None:
            return not found and was is None
        # What is sealed of them changes only together with the certificate, or the date.
        apart = [name for name in ("tls_private", "verifier") if hasattr(was, name)]
        private = {name: getattr(was, name) for name in apart}
        return bool(noun(kind, json.loads(found[0][0]), **private) == was)

    def add_host(self, host: Host) -> bool:
        row = {
            "id": host.id,
            "name": host.name,
            "ssh_key": host.ssh_key,
            "joined_at": micros(host.joined_at),
            "document": to_text(host),
        }
        return self._did(ADD_HOST, row, tells="hosts")

    def put_host(self, host: Host) -> None:
        row = (host.id, host.name, host.ssh_key, micros(host.joined_at), to_text(host))
        self._did(PUT_HOST, row, tells="hosts")

    def remove_host(self, host_id: str) -> bool:
        return self._did("DELETE FROM hosts WHERE id = ?", (host_id,), tells="hosts")

    def put_report(self, host_id: str, report: Report, *, news: bool = False) -> bool:
        return self._did(PUT_REPORT, (to_text(report), host_id), tells="hosts" if news else "")

    def add_user(self, user: User) -> bool:
        return self._did(
            add("users", "name", "document"), (user.name, to_text(user)), tells="users"
        )

    def put_user(self, user: User) -> None:
        self._did(put("users", "name", "document"), (user.name, to_text(user)), tells="users")

    def change_user(self, user: User) -> bool:
        values = (to_text(user), user.name)
        return self._did("UPDATE users SET document = ? WHERE name = ?", values, tells="users")

    def remove_user(self, name: str) -> bool:
        return self._did("DELETE FROM users WHERE name = ?", (name,), tells="users")

    def put_password(self, password: Password) -> bool:
        document = json.dumps(plain_without(password, "verifier"))
        sealed = self._seal(plain(password.verifier), password_purpose(password.user))
        return self._did(PUT_PASSWORD, (document, sealed, password.user), tells="users")

    def put_invite(self, invite: Invite) -> bool:
        row = {
            "user": invite.user,
            "name": invite.name,
            "expires_at": micros(invite.expires_at),
            "document": json.dumps(plain_without(invite, "token")),
            "sealed": self._seal({"token": invite.token.reveal()}, invite_purpose(invite.name)),
        }
        return self._did(PUT_INVITE, row)

    def use_invite(self, name: str, *, now: datetime) -> bool:
        values = (name, self._saw(now))
        return self._did("DELETE FROM invites WHERE name = ? AND expires_at > ?", values)

    def remove_invite(self, name: str) -> bool:
        return self._did("DELETE FROM invites WHERE name = ?", (name,))

    def note_login(self, user: str, source: str, at: datetime) -> bool:
        noted = self._did(NOTE_LOGIN, (source, micros(at), user))
        self._count(FORGET_LOGINS, {"user": user, "kept": KEPT_SOURCES})
        return noted

    def count_guess(self, name: str, source: str, *, stranger: bool, now: datetime) -> int:
        ages = _ages(now)
        row = {"name": name, "source": source, "now": self._saw(now), "stranger": int(stranger)}
        if not self._did(COUNT_GUESS, row | ages | {"most": MAX_GUESSES}):
            return 0
        self._count(FORGET_GUESSES, ages | {"kept": KEPT_STRANGERS})
        found = self._rows(_GUESSES_OF, (name, source))
        return int(found[0][0]) if found else 1  # crowded out by others of this moment

    def end_guesses(self, name: str, source: str, *, now: datetime) -> bool:
        place = {"name": name, "source": source}
        ended = self._did(END_GUESSES, place | _ages(now) | {"most": MAX_GUESSES})
        return ended or not self._rows(_GUESSES_OF, (name, source))

    def forget_guesses(self, name: str) -> bool:
        return self._did("DELETE FROM guesses WHERE name = ?", (name,))

    def add_role(self, role: Role) -> bool:
        return self._did(
            add("roles", "name", "document"), (role.name, to_text(role)), tells="roles"
        )

    def put_role(self, role: Role) -> None:
        self._did(put("roles", "name", "document"), (role.name, to_text(role)), tells="roles")

    def remove_role(self, name: str) -> bool:
        return self._did("DELETE FROM roles WHERE name = ?", (name,), tells="roles")

    def put_lock(self, lock: Lock) -> None:
        expires = None if lock.expires_at is None else micros(lock.expires_at)
        self._did(PUT_LOCK, (lock.id, expires, to_text(lock)), tells="locks")

    def remove_lock(self, lock_id: str) -> bool:
        return self._did("DELETE FROM locks WHERE id = ?", (lock_id,), tells="locks")

    def add_recording(self, recording: Recording) -> bool:
        row = {
            "sid": recording.sid,
            "user": recording.user,
            "started_at": micros(recording.started),
            "stored_at": micros(recording.stored_at),
            "stored": recording.stored,
            "document": to_text(recording),
        }
        return self._did(ADD_RECORDING, row)

    def remove_recording(self, sid: str) -> bool:
        return self._did("DELETE FROM recordings WHERE sid = ?", (sid,))

    def add_ca(self, keys: CaKeys) -> bool:
        secret = {name: _reveal(getattr(keys, name)) for name in CA_PRIVATE}
        document = json.dumps(plain_without(keys, *CA_PRIVATE))
        sealed = self._seal(secret, ca_purpose(keys.type, keys.id))
        return self._did(ADD_CA, (str(keys.type), keys.id, document, sealed), tells="cas")

    def change_ca(
        self, type: CaType, id: str, *, active: bool, last_rotated: datetime | None
    ) -> bool:
        found = self._rows("SELECT document FROM cas WHERE type = ? AND id = ?", (str(type), id))
        if not found:
            return False
        document = json.loads(found[0][0])
        document |= {"active": active, "last_rotated": plain(last_rotated)}
        return self._did(CHANGE_CA, (json.dumps(document), str(type), id), tells="cas")

    def remove_ca(self, type: CaType, id: str) -> bool:
        return self._did("DELETE FROM cas WHERE type = ? AND id = ?", (str(type), id), tells="cas")

    def put_rotation(self, rotation: Rotation, *, after: int) -> bool:
        counted = replace(rotation, serial=after + 1)
        row = {
            "type": str(rotation.type),
            "serial": counted.serial,
            "document": to_text(counted),
            "after": after,
        }
        return self._did(CHANGE_ROTATION if after else ADD_ROTATION, row, tells="rotations")

    def put_trusted(self, cluster: TrustedCluster) -> None:
        document = json.dumps(plain_without(cluster, *TRUSTED_PRIVATE))
        secret = {name: _reveal(getattr(cluster, name)) for name in TRUSTED_PRIVATE}
        sealed = self._seal(secret, trusted_purpose(cluster.name))
        self._did(PUT_TRUSTED, (cluster.name, document, sealed), tells="trust")

    def remove_trusted(self, name: str) -> bool:
        return self._did("DELETE FROM trusted WHERE name = ?", (name,), tells="trust")

    def put_remote(self, cluster: RemoteCluster) -> None:
        self._did(
            put("remotes", "name", "document"), (cluster.name, to_text(cluster)), tells="trust"
        )

    def remove_remote(self, name: str) -> bool:
        return self._did("DELETE FROM remotes WHERE name = ?", (name,), tells="trust")

    def take_lease(self, name: str, holder: str, *, now: datetime, until: datetime) -> int:
        at = self._saw(now)
        row = {"name": name, "holder": holder, "now": at, "until": micros(until)}
        if not self._did(TAKE_LEASE, row):
            return 0
        [[fence]] = self._rows("SELECT fence FROM leases WHERE name = ?", (name,))
        return int(fence)

    def holds_lease(self, name: str, fence: int) -> bool:
        held = "SELECT 1 FROM leases WHERE name = ? AND fence = ? AND holder <> ''"
        return bool(self._rows(held, (name, fence)))

    def drop_lease(self, name: str, fence: int) -> bool:
        return self._did(DROP_LEASE, (name, fence))

    def set_meta(self, key: str, value: str) -> None:
        self._did(put("meta", "key", "value"), (key, value))

    def add_meta(self, key: str, value: str) -> bool:
        return self._did(add("meta", "key", "value"), (key, value))

    def record(self, event: Event) -> None:
        self._saw(event.at)
        self._guarded(lambda: self._trail.append(self._db, event))

    def sweep(self, now: datetime) -> int:
        at = {"now": self._saw(now)}
        invites = self._count("DELETE FROM invites WHERE expires_at <= :now", at)
        locks = self._count("DELETE FROM locks WHERE expires_at <= :now", at, tells="locks")
        return self._count(SWEEP_TOKENS, at, tells="tokens") + invites + locks

    def reseal(self) -> int:
        done = reseal(self._rows, self._did, self._sealer)
        if done:
            self.topics.add("keyring")
        return done

    def on_commit(self, call: Callable[[], None]) -> None:
        self.landed.append(call)

    def _did(self, statement: str, values: Any, *, tells: str = "") -> bool:
        """`tells`: the topic of `Store.watch` that it is about, if it takes effect."""
        return self._count(statement, values, tells=tells) > 0

    def _count(self, statement: str, values: Any, *, tells: str = "") -> int:
        count = int(self._guarded(lambda: self._db.execute(statement, values).rowcount))
        if count and tells:
            self.topics.add(tells)
        return count

    def _rows(self, statement: str, values: Any) -> list[Any]:
        return list(self._guarded(lambda: self._db.execute(statement, values).fetchall()))

    def _guarded(self, act: Callable[[], Any]) -> Any:
        """Remember a failure of the database: the change might swallow it, the writer may not."""
        if self.over:
            raise RuntimeError("a transaction was used after its end")
        try:
            return act()
        except self._db.dialect.error as why:
            if self._db.dialect.is_bug(why):
                raise
            self.failure = why
            raise Unavailable("the store cannot write", log=repr(why)) from why

    def _seal(self, secret: dict[str, Any], purpose: str) -> bytes:
        return self._sealer.seal(json.dumps(secret).encode(), purpose)

    def _saw(self, now: datetime) -> int:
        at = micros(now)
        self.seen = at if self.seen is None else max(self.seen, at)
        return at


def burial(seen: int) -> tuple[str, ...]:
    """Whose time was over at `seen` is dead for good, whatever clocks say later."""
    return (
        f"UPDATE tokens SET dead = 1 WHERE dead = 0 AND dies_at <= {int(seen)}",  # noqa: S608  # a number
        f"DELETE FROM invites WHERE expires_at <= {int(seen)}",  # noqa: S608  # a number
    )


def plain_without(
    noun: JoinToken | CaKeys | Password | Invite | TrustedCluster, *kept_apart: str
) -> dict[str, Any]:
    names = [name for name in noun.__dataclass_fields__ if name not in kept_apart]
    return {name: plain(getattr(noun, name)) for name in names}


def _ages(now: datetime) -> dict[str, int]:
    """Rows of wrong guesses that are not over have their last one between these."""
    return {"oldest": micros(now - GUESSES_LAST), "newest": micros(now + GUESSES_LAST)}


def _role_list(roles: Sequence[str]) -> str:
    """ ",Node,Proxy,": the commas on both ends let one search find whole names only."""
    return f",{','.join(roles)},"


def _reveal(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()
