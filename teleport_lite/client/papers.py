"""What an SSH certificate of one's own says, in words for its holder.

It is our own, so nothing is decided by it: the servers decide. Only what cannot be read is
refused. `pki/verify.py` would bring cryptography along, 50 ms of every `tsh status`.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from teleport_lite.errors import Malformed
from teleport_lite.pki.ssh_cert import SUFFIX, SshCert, read_ssh_cert
from teleport_lite.pki.wire import Reader, text

_ROLES, _TRAITS = b"teleport-roles", b"teleport-traits"
# A name nobody has, in the certificate of somebody without logins (pki/plan.py).
_NOBODY = "no-login-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    user: str
    logins: tuple[str, ...]
    roles: tuple[str, ...]
    expires: datetime
    traits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()  # what OpenSSH calls so, without our own facts

    def expired(self, now: datetime) -> bool:
        return now >= self.expires


def read_papers(line: str, source: str) -> Papers:
    """Of a certificate line. Raises Malformed naming `source`."""
    try:
        cert = read_ssh_cert(_blob(line))
        facts = dict(cert.extensions)
        return Papers(
            user=cert.key_id.decode(),
            logins=_logins(cert),
            roles=_texts(_fact(facts, _ROLES).get("roles", [])),
            traits={name: _texts(values) for name, values in _fact(facts, _TRAITS).items()},
            expires=datetime.fromtimestamp(cert.valid_before, UTC),
            extensions=tuple(
                name.decode() for name, _ in cert.extensions if not name.startswith(b"teleport-")
            ),
        )
    except (ValueError, OverflowError, OSError, RecursionError) as why:
        raise Malformed(
            f"{source} holds no SSH certificate of ours", hint="tsh login", log=repr(why)
        ) from why


def public_line(line: str) -> str:
    """The public key that a certificate line is for. Raises ValueError."""
    reader = Reader(_blob(line))
    kind = reader.text().decode("ascii").removesuffix(SUFFIX)
    reader.text()  # nonce
    fields = [reader.text() for _ in range(1 if kind == "ssh-ed25519" else 2)]
    blob = b"".join(map(text, (kind.encode(), *fields)))
    return f"{kind} {base64.b64encode(blob).decode()}"


def _blob(line: str) -> bytes:
    words = line.split()
    if len(words) < 2 or not words[0].endswith(SUFFIX):
        raise ValueError("not a certificate line")
    try:
        return base64.b64decode(words[1], validate=True)
    except binascii.Error as why:
        raise ValueError("not base64") from why


def _logins(cert: SshCert) -> tuple[str, ...]:
    logins = (each.decode() for each in cert.principals)
    return tuple(login for login in logins if not login.startswith(_NOBODY))


def _fact(extensions: dict[bytes, bytes], name: bytes) -> dict[str, object]:
    data = extensions.get(name)
    said = json.loads(Reader(data).text()) if data else {}
    if not isinstance(said, dict):
        raise ValueError("not an object")
    return said


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError("not a list of text")
    return tuple(values)
