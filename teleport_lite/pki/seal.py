"""Sealing what lies in the database, so that a stolen copy of it is worth nothing.

    sealed = 0x01 | key id (8) | nonce (12) | AES-256-GCM ciphertext and tag
    keyring = "teleport-lite keyring v1" and a line "<key id> <key, base64>" per key

The purpose ("ca/host/1", "token/...") is authenticated with it: a sealed token does not open
as a CA key. The keyring lies outside the data directory, or the thief takes both. Its file may
be sealed itself (`custody.py`).
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from teleport_lite.ambient import SystemChance
from teleport_lite.errors import Conflict, Error, Malformed, NotFound, Unavailable
from teleport_lite.pki.custody import NO_CUSTODY, Custody, sealed_by
from teleport_lite.pki.keyfile import make_private_dir, read_secret, write_public, write_secret

_TITLE = "teleport-lite keyring v1"
_VERSION = b"\x01"
_ID, _NONCE, _KEY = 8, 12, 32
_HEADER = len(_VERSION) + _ID
# A keyring is written anew a few times in its life.
TRIES = 4
# A keyring of a hundred rotations.
_MAX_FILE = 16 * 1024


class Keyring:
    """Seals under its first key, unseals under any. Implements `store/protocols.py: Sealer`.

    Safe from several threads: what is there is replaced whole.
    """

    def __init__(
        self, keys: Sequence[bytes], reread: Callable[[], Sequence[bytes]] | None = None
    ) -> None:
        """`reread` asks its file again, for a key that was put there since."""
        self._reread = reread
        self._use(keys)

    def _use(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != _KEY for key in keys):
            raise ValueError(f"a keyring holds keys of {_KEY} bytes, at least one")
        self._raw = tuple(keys)
        self._open = _id(keys[0]), {_id(key): AESGCM(key) for key in keys}

    @classmethod
    def load_or_make(cls, path: Path, custody: Custody = NO_CUSTODY) -> "Keyring":
        """Read the keyring, or make one with a new key if there is no file.

        Of several processes that start at once, one makes it and all use it. Raises what
        `keyfile.read_secret` and `Custody` raise, and Malformed if it is not a keyring.
        """
        try:
            return cls.load(path, custody)
        except NotFound:
            if not path.parent.exists():
                make_private_dir(path.parent)
        with suppress(Conflict):  # somebody was faster; theirs counts
            cls.new().save(path, custody, replace=False)
        return cls.load(path, custody)

    @classmethod
    def load(cls, path: Path, custody: Custody = NO_CUSTODY) -> "Keyring":
        """As `load_or_make`, but raises NotFound if there is none."""

        last: tuple[bytes | None, list[bytes]] = None, []

        def read() -> list[bytes]:
            """To open it costs a third of a second, or a question to a service elsewhere: a row
            that no key opens may not cost that each time somebody looks at it."""
            nonlocal last
            raw, known = read_secret(path, limit=_MAX_FILE), last
            if raw != known[0]:
                known = last = raw, _keys(custody.open(raw, f"keyring {path}"), str(path))
            return known[1]

        return cls(read(), read)

    @classmethod
    def new(cls) -> "Keyring":
        return cls([SystemChance().bytes(_KEY)])

    @classmethod
    def parse(cls, text: bytes, where: str) -> "Keyring":
        """From what `text` gave. Raises Malformed naming `where`."""
        return cls(_keys(text, where))

    def text(self) -> bytes:
        """All of it, unsealed: a secret. Goes into a file of mode 0600, or to another auth
        server of the cluster."""
        return _text(self._raw)

    def save(self, path: Path, custody: Custody = NO_CUSTODY, *, replace: bool = True) -> None:
        """Raises what `keyfile.write_secret` raises; Conflict if it is there and may not be
        replaced; Unavailable where the custody does not open again what it has closed."""
        raw = custody.close(self.text())
        # Before the file is replaced: it may be the only one that opens the store.
        where = f"keyring {path}, as it would be written,"
        if len(raw) > _MAX_FILE or custody.open(raw, where) != self.text():
            raise Unavailable(f"keyring {path} was not written: it would not open again")
        if replace:
            write_secret(path, raw)
        else:
            write_public(path, raw, mode=0o600, replace=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of its keys, in hex; the first is the one that seals."""
        return tuple(_id(key).hex() for key in self._raw)

    def added(self, other: "Keyring") -> "Keyring":
        """With the keys of `other` behind its own: they open, and do not seal."""
        return Keyring([*self._raw, *(key for key in other._raw if key not in self._raw)])

    def preferring(self, id: str) -> "Keyring":
        """The key `id` seals from now on. Raises NotFound."""
        key = self._found(id)
        return Keyring([key, *(each for each in self._raw if each != key)])

    def without(self, id: str) -> "Keyring":
        """Raises NotFound, Conflict for the key that seals."""
        if self._found(id) == self._raw[0]:
            raise Conflict(f"key {id} is the one that seals", hint="tctl keyring use ANOTHER")
        return Keyring([each for each in self._raw if each != self._found(id)])

    def refresh(self) -> bool:
        """Look at the file again. False if it is as it was, or can not be read now."""
        before = self._raw
        with suppress(Error):
            for _ in range(TRIES if self._reread is not None else 0):
                assert self._reread is not None
                keys = self._reread()
                self._use(keys)
                # To open it takes time: another thread may have read, and used, a later one.
                if self._reread() == keys:
                    break
        return self._raw != before

    def seal(self, plain: bytes, purpose: str) -> bytes:
        # 96 random bits are safe for 2^32 messages a key (NIST SP 800-38D §8.3); this seals
        # tokens and CA keys, some thousands a year.
        first, keys = self._open
        header, nonce = _VERSION + first, SystemChance().bytes(_NONCE)
        return header + nonce + keys[first].encrypt(nonce, plain, header + purpose.encode())

    def unseal(self, sealed: bytes, purpose: str) -> bytes:
        """Raises ValueError if it was sealed under another key or purpose, or changed."""
        header, rest = sealed[:_HEADER], sealed[_HEADER:]
        key = self._key(header)
        try:
            return key.decrypt(rest[:_NONCE], rest[_NONCE:], header + purpose.encode())
        except (InvalidTag, ValueError):
            raise ValueError("sealed for another purpose, or changed since") from None

    def current(self, sealed: bytes) -> bool:
        """Is it sealed under the key that seals now?"""
        return sealed[:_HEADER] == _VERSION + self._open[0]

    def _key(self, header: bytes) -> AESGCM:
        ours = header[: len(_VERSION)] == _VERSION and len(header) == _HEADER
        id = header[len(_VERSION) :]
        key = self._open[1].get(id) if ours else None
        if key is None and ours and self.refresh():
            key = self._open[1].get(id)
        if key is None:
            raise ValueError("sealed under a key that is not in the keyring")
        return key

    def _found(self, id: str) -> bytes:
        found = [key for key in self._raw if id and _id(key).hex().startswith(id)]
        if len(found) != 1:
            raise NotFound(f"the keyring has no key {id[:40]!a}", hint="tctl keyring ls")
        return found[0]


def way_of(path: Path) -> str:
    """How the file of a keyring is sealed, as `custody.sealed_by` says it. Raises as
    `keyfile.read_secret`."""
    return sealed_by(read_secret(path, limit=_MAX_FILE))


def sealed_under(sealed: bytes) -> str:
    """The id of the key, in hex; nobody has proved it yet."""
    return sealed[len(_VERSION) : _HEADER].hex()


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"teleport-lite key id\0" + key).digest()[:_ID]


def _text(keys: Sequence[bytes]) -> bytes:
    lines = (f"{_id(key).hex()} {base64.b64encode(key).decode()}\n" for key in keys)
    return f"{_TITLE}\n{''.join(lines)}".encode()


def _keys(text: bytes, where: str) -> list[bytes]:
    lines = text.decode("ascii", "replace").splitlines()
    try:
        if lines[:1] != [_TITLE] or len(lines) < 2:
            raise ValueError("no title, or nothing else")
        return [_key(line) for line in lines[1:]]
    except ValueError as why:
        # What stands in the file must not reach the message: it may be a key.
        raise Malformed(f"{where} is not a keyring of teleport-lite") from why


def _key(line: str) -> bytes:
    name, _, encoded = line.partition(" ")
    key = base64.b64decode(encoded, validate=True)
    if _id(key).hex() != name or len(key) != _KEY:
        raise ValueError("key and id do not fit")
    return key
