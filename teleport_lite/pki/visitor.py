"""What a user certificate says about its holder, once the CA is known to have signed it.

A name that would not be given today, or a list that is not one, is an error: nothing is
read half.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from teleport_lite.model import names
from teleport_lite.pki.plan import CERT_ID
from teleport_lite.pki.ssh_cert import SshCert
from teleport_lite.pki.wire import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody at the door of a node, as our user CA describes them."""

    user: str
    serial: int
    login: str
    roles: tuple[str, ...]
    traits: dict[str, tuple[str, ...]]
    principals: tuple[str, ...]
    not_after: datetime
    extensions: frozenset[str]
    force_command: str | None
    id: str  # of the login; for bots the instance, which locks name
    ca_blob: bytes
    # Of somebody from a cluster that is trusted: where they are from, and what the certificate
    # says. `user` is qualified then, and `roles` are ours (access/mapping.py).
    cluster: str = ""
    claimed_user: str = ""
    claimed_roles: tuple[str, ...] = ()


def visitor_of(cert: SshCert, login: str, force_command: str | None) -> Visitor:
    """Raises ValueError for what our user CA never signs."""
    user = cert.key_id.decode("ascii")
    if not names.USER_NAME.fullmatch(user):
        raise ValueError(f"key id {user!a} is not a user name")
    extensions = dict(cert.extensions)
    cert_id = _fact(extensions, b"teleport-id")
    if cert_id and not CERT_ID.fullmatch(cert_id):
        raise ValueError("teleport-id is not one")
    return Visitor(
        user=user,
        serial=cert.serial,
        login=login,
        roles=_roles(_fact(extensions, b"teleport-roles")),
        traits=_traits(_fact(extensions, b"teleport-traits")),
        principals=tuple(each.decode("utf-8", "backslashreplace") for each in cert.principals),
        not_after=_moment(cert.valid_before),
        extensions=frozenset(name.decode("utf-8", "backslashreplace") for name in extensions),
        force_command=force_command,
        id=cert_id,
        ca_blob=cert.ca_blob,
    )


def the_value(data: bytes) -> bytes:
    """The one string that an option's data is made of."""
    reader = Reader(data)
    value = reader.text()
    reader.end()
    return value


def _fact(extensions: dict[bytes, bytes], name: bytes) -> str:
    data = extensions.get(name)
    return the_value(data).decode() if data else ""


def _roles(fact: str) -> tuple[str, ...]:
    """{"version":"v1","roles":[...]}; nothing said is no role, and no role allows nothing."""
    said = _json(fact)
    if not said:
        return ()
    if set(said) != {"version", "roles"} or said["version"] != "v1":
        raise ValueError("teleport-roles is not of version v1")
    return _texts(said["roles"])


def _traits(fact: str) -> dict[str, tuple[str, ...]]:
    return {name: _texts(values) for name, values in _json(fact).items()}


def _json(fact: str) -> dict[str, object]:
    try:
        said = json.loads(fact or "{}")
    except RecursionError:
        raise ValueError("roles or traits are nested too deep") from None
    if not isinstance(said, dict):
        raise ValueError("roles or traits are not an object")
    return said


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError("roles or traits are not lists of text")
    return tuple(values)


def _moment(seconds: int) -> datetime:
    """The last moment there is for "forever" (2^64 - 1), which no datetime holds."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)
