"""Signatures over files as `ssh-keygen -Y sign` writes them (OpenSSH's PROTOCOL.sshsig), checked.

    -----BEGIN SSH SIGNATURE-----       base64 of
    U1NIU0lHAAAAAQAAADMAAAALc3NoLWVk      "SSHSIG", uint32 version 1, string public key,
    ...                                   string namespace, string reserved, string hash name,
    -----END SSH SIGNATURE-----           string signature

What is signed is "SSHSIG", namespace, reserved, hash name and the hash of the message. The
namespace keeps a signature made for one purpose from being used for another.

Stricter than OpenSSH where that costs nothing: Ed25519 only, nothing in the reserved field, one
spelling of the base64. So nothing in a signature can be changed without it being refused.
"""

import base64
import hashlib
import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from teleport_lite.errors import Denied, Malformed
from teleport_lite.pki.wire import Reader, text

MAGIC = b"SSHSIG"
VERSION = 1
TYPE = b"ssh-ed25519"
# PROTOCOL.sshsig names these two. ssh-keygen writes sha512 unless told otherwise.
HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
# One by Ed25519 takes about 300 characters, and more with a long namespace.
MAX_SIGNATURE = 4096
_ARMOUR = re.compile(
    r"-----BEGIN SSH SIGNATURE-----\n"
    r"((?:[A-Za-z0-9+/=]{1,76}\n)+)"
    r"-----END SSH SIGNATURE-----\n?"
)
_KEY = re.compile(r"ssh-ed25519 ([A-Za-z0-9+/]{68})(?: .*)?")


def verify(message: bytes, signature: str, *, keys: Sequence[str], namespace: str) -> str:
    """The one of `keys` that signed `message` for `namespace`, as "ssh-ed25519 AAAA...".

    `keys` are lines of OpenSSH public keys, with or without comment. Raises Malformed for a
    signature or a key that can not be read, Denied for a signature that is not by one of `keys`,
    not for this namespace, or not over these bytes.
    """
    trusted = {_blob(line): " ".join(line.split()[:2]) for line in keys}
    try:
        signer, used, hash_name, raw = _fields(signature)
    except ValueError as why:
        raise Malformed(f"signature can not be read: {why}") from why
    if signer not in trusted:
        raise Denied(f"signature is by a key that is not trusted ({_fingerprint(signer)})")
    if used != namespace.encode():
        raise Denied(f"signature is for {used.decode('ascii', 'replace')[:60]!a}, not {namespace}")
    digest = HASHES[hash_name](message).digest()
    signed = MAGIC + text(used) + text(b"") + text(hash_name) + text(digest)
    try:
        Ed25519PublicKey.from_public_bytes(_half(signer, 32)).verify(raw, signed)
    except (InvalidSignature, ValueError) as why:
        raise Denied("signature does not fit: the signed bytes were changed") from why
    return trusted[signer]


def _fields(signature: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Public key, namespace, name of the hash, and the 64 bytes. Raises ValueError."""
    if len(signature) > MAX_SIGNATURE:
        raise ValueError(f"it has {len(signature)} characters, the most is {MAX_SIGNATURE}")
    found = _ARMOUR.fullmatch(signature)
    if found is None:
        raise ValueError("it is not one block of type SSH SIGNATURE")
    reader = Reader(_decoded(found[1].replace("\n", "")))
    if reader.take(len(MAGIC)) != MAGIC:
        raise ValueError("it does not begin with SSHSIG")
    version = reader.number(4)
    if version != VERSION:
        raise ValueError(f"its version is {version}, not {VERSION}")
    signer, namespace, reserved, hash_name, raw = (reader.text() for _ in range(5))
    reader.end()
    _half(signer, 32)
    if not namespace:  # PROTOCOL.sshsig: "MUST NOT be the empty string"
        raise ValueError("its namespace is empty")
    if reserved:
        raise ValueError("its reserved field is not empty")
    if hash_name not in HASHES:
        raise ValueError(f"its hash is {hash_name[:20]!a}, not sha256 or sha512")
    return signer, namespace, hash_name, _half(raw, 64)


def _half(blob: bytes, size: int) -> bytes:
    """What follows the type name in a key (32 bytes) or signature (64). Raises ValueError."""
    reader = Reader(blob)
    kind = reader.text()
    if kind != TYPE:
        raise ValueError(f"{kind[:40].decode('ascii', 'replace')!a} is not allowed, ssh-ed25519 is")
    data = reader.text()
    reader.end()
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where Ed25519 has {size}")
    return data


def _blob(line: str) -> bytes:
    """Raises Malformed: a key that is trusted and not understood must not be passed over."""
    found = _KEY.fullmatch(line.strip())
    try:
        if found is None:
            raise ValueError("it is not a line like ssh-ed25519 AAAA...")
        blob = _decoded(found[1])
        _half(blob, 32)
    except ValueError as why:
        shown = ascii(line.strip()[:40])
        raise Malformed(f"release key {shown} can not be used: {why}") from why
    return blob


def _decoded(data: str) -> bytes:
    """Base64 in its one right spelling (RFC 4648 §3.5: no stray bits). Raises ValueError."""
    blob = base64.b64decode(data, validate=True)
    if base64.b64encode(blob).decode() != data:
        raise ValueError("its base64 is not in canonical form")
    return blob


def _fingerprint(blob: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return "SHA256:" + digest.rstrip("=")
