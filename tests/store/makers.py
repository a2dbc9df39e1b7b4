"""Nouns to put into a store, and stores to put them into."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from teleport_lite.model.event import Event
from teleport_lite.model.host import Host
from teleport_lite.model.invite import Invite, InviteKind
from teleport_lite.model.password import Password
from teleport_lite.model.recording import Recording
from teleport_lite.model.token import JoinToken, Verifier
from teleport_lite.pki.seal import Keyring
from teleport_lite.secret import Secret
from teleport_lite.store.memory import MemoryStore
from teleport_lite.store.postgres import open_postgres
from teleport_lite.store.protocols import Store
from teleport_lite.store.sqlite import open_sqlite

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def a_keyring(key: bytes = b"k") -> Keyring:
    return Keyring([key * 32])


def open_file(directory: Path) -> Store:
    return open_sqlite(directory / "data" / "auth.db", a_keyring())


# One line for each implementation; the contract suite does the rest. `place` is a directory of the
# test, or in PostgreSQL the conn_string of an empty database.
OPENERS: dict[str, Callable[[Path | str], Store]] = {
    "memory": lambda place: MemoryStore(),
    "sqlite": lambda place: open_file(Path(place)),
    "postgres": lambda place: open_postgres(Secret(str(place)), a_keyring()),
}


def a_token(name: str = "t1", **changes: Any) -> JoinToken:
    verifier = Verifier(salt=b"salt", iterations=4096, stored_key=b"\0\1", server_key=b"\xff")
    fields: dict[str, Any] = {
        "name": name,
        "text": Secret(f"text-of-{name}"),
        "roles": ("Node",),
        "verifier": verifier,
        "expires_at": T0 + 30 * MINUTE,
        "created_at": T0,
    }
    return JoinToken(**(fields | changes))


def an_invite(name: str = "i1", user: str = "alice", **changes: Any) -> Invite:
    fields: dict[str, Any] = {
        "name": name,
        "token": Secret(f"token-of-{name}"),
        "user": user,
        "kind": InviteKind.INVITE,
        "expires_at": T0 + 30 * MINUTE,
        "created_at": T0,
    }
    return Invite(**(fields | changes))


def a_password(user: str = "alice", **changes: Any) -> Password:
    return dataclasses.replace(filled(Password), user=user, **changes)


def a_recording(sid: str = "s1", **changes: Any) -> Recording:
    return dataclasses.replace(filled(Recording), sid=sid, **changes)


def a_host(host_id: str = "h1", **changes: Any) -> Host:
    fields: dict[str, Any] = {
        "id": host_id,
        "name": f"name-of-{host_id}",
        "roles": ("Node",),
        "joined_at": T0,
        "token_id": "t1",
        "ssh_key": f"ssh-ed25519 {host_id}",
        "tls_key": "PEM",
    }
    return Host(**(fields | changes))


def an_event(kind: str = "instance.join", at: datetime = T0, **facts: str) -> Event:
    return Event(kind=kind, code="TJ002I", at=at, outcome="ok", facts=facts)


def spend(store: Store, name: str = "t1", at: datetime = T0, key: str = "key-1") -> bool:
    return store.write(lambda tx: tx.spend_token(name, roles=("Node",), key=key, now=at))


def filled(kind: type[Any]) -> Any:
    """A `kind` in which no field has its default, so that one which is not kept is noticed."""
    return _filled(kind, itertools.count(1))


def _filled(hint: Any, count: "itertools.count[int]") -> Any:
    number, origin, args = next(count), get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _filled(args[0], count)
    if origin is tuple:
        return (_filled(args[0], count), _filled(args[0], count))
    if origin in (dict, Mapping):
        return {f"key {number} ü": _filled(args[1], count)}
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{each.name: _filled_field(each, hints, count) for each in _fields(hint)})
    return _scalar(hint, number)


def _fields(hint: Any) -> tuple["dataclasses.Field[Any]", ...]:
    return dataclasses.fields(hint)


def _filled_field(
    each: "dataclasses.Field[Any]", hints: dict[str, Any], count: "itertools.count[int]"
) -> Any:
    if isinstance(each.default, bool):
        return not each.default
    return _filled(hints[each.name], count)


def _scalar(hint: Any, number: int) -> Any:
    made: dict[Any, Any] = {
        str: f"text {number} ü\n",
        int: number,
        bool: True,
        float: number + 0.25,
        bytes: bytes([number, 0, 255]),
        Secret: Secret(f"secret {number}"),
        datetime: T0 + timedelta(days=number, microseconds=number),
        timedelta: timedelta(days=number, microseconds=number),
    }
    return list(hint)[-1] if issubclass(hint, StrEnum) else made[hint]
