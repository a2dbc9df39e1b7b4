"""Sealing what lies in the database, so that a stolen copy of it is worth nothing.

    sealed = 0x01 | key id (8) | nonce (12) | AES-256-GCM ciphertext and tag
    keyring = "teleport-lite keyring v1" and a line "<key id> <key, base64>" per key

The purpose ("ca/host/1", "token/...") is authenticated with it: a sealed token does not open
as a CA key. The keyring lies outside the data directory, or the thief takes both.
"""

import base64
import hashlib
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from teleport_lite.ambient import SystemChance
from teleport_lite.errors import Conflict, Malformed, NotFound
from teleport_lite.pki.keyfile import make_private_dir, read_secret, write_public

_TITLE = "teleport-lite keyring v1"
_VERSION = b"\x01"
_ID, _NONCE, _KEY = 8, 12, 32
_HEADER = len(_VERSION) + _ID
# A keyring of a hundred rotations.
_MAX_FILE = 16 * 1024


class Keyring:
    """Seals under its first key, unseals under any. Implements `store/protocols.py: Sealer`."""

    def __init__(self, keys: list[bytes]) -> None:
        if not keys or any(len(key) != _KEY for key in keys):
            raise ValueError(f"a keyring holds keys of {_KEY} bytes, at least one")
        self._first = _id(keys[0])
        self._keys = {_id(key): AESGCM(key) for key in keys}

    @classmethod
    def load_or_make(cls, path: Path) -> "Keyring":
        """Read the keyring, or make one with a new key if there is no file.

        Of several processes that start at once, one makes it and all use it. Raises what
        `keyfile.read_secret` raises, and Malformed if it is not a keyring.
        """
        try:
            return cls.load(path)
        except NotFound:
            if not path.parent.exists():
                make_private_dir(path.parent)
        with suppress(Conflict):  # somebody was faster; theirs counts
            write_public(path, _text(SystemChance().bytes(_KEY)), mode=0o600, replace=False)
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> "Keyring":
        """As `load_or_make`, but raises NotFound if there is none."""
        lines = read_secret(path, limit=_MAX_FILE).decode("ascii", "replace").splitlines()
        try:
            if lines[:1] != [_TITLE]:
                raise ValueError("no title")
            return cls([_key(line) for line in lines[1:]])
        except ValueError as why:
            # What stands in the file must not reach the message: it may be a key.
            raise Malformed(f"{path} is not a keyring of teleport-lite") from why

    def seal(self, plain: bytes, purpose: str) -> bytes:
        # 96 random bits are safe for 2^32 messages a key (NIST SP 800-38D §8.3); this seals
        # tokens and CA keys, some thousands a year.
        header, nonce = _VERSION + self._first, SystemChance().bytes(_NONCE)
        sealed = self._keys[self._first].encrypt(nonce, plain, header + purpose.encode())
        return header + nonce + sealed

    def unseal(self, sealed: bytes, purpose: str) -> bytes:
        """Raises ValueError if it was sealed under another key or purpose, or changed."""
        header, rest = sealed[:_HEADER], sealed[_HEADER:]
        key = self._keys.get(header[len(_VERSION) :])
        if header[: len(_VERSION)] != _VERSION or key is None:
            raise ValueError("sealed under a key that is not in the keyring")
        try:
            return key.decrypt(rest[:_NONCE], rest[_NONCE:], header + purpose.encode())
        except (InvalidTag, ValueError):
            raise ValueError("sealed for another purpose, or changed since") from None


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"teleport-lite key id\0" + key).digest()[:_ID]


def _text(key: bytes) -> bytes:
    return f"{_TITLE}\n{_id(key).hex()} {base64.b64encode(key).decode()}\n".encode()


def _key(line: str) -> bytes:
    name, _, encoded = line.partition(" ")
    key = base64.b64decode(encoded, validate=True)
    if _id(key).hex() != name:
        raise ValueError("key and id do not fit")
    return key
