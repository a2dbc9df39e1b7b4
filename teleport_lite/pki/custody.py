"""What guards the keyring file: its mode alone, a passphrase, or a key that a plugin's service has.

    plain       the text of the keyring
    sealed      "teleport-lite sealed keyring v1"
                "passphrase scrypt 16 8 2 <salt>"   or   "plugin <name> <wrapped key>"
                base64 of nonce (12) and AES-256-GCM ciphertext and tag

The first two lines are authenticated with the rest. A plugin never sees the keyring, only the
32 bytes that it is sealed under: services that keep keys take no more than a few kilobytes.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from teleport_lite.ambient import SystemChance
from teleport_lite.errors import Denied, Malformed
from teleport_lite.secret import Secret

PLAIN, PASSPHRASE = "plain", "passphrase"
PAGE = "docs/backup.md"
# 64 MiB and two passes, a third of a second: what OWASP's password storage cheat sheet has as
# equal to N=2^17, on a host that may have 512 MiB in all.
COST = 16
_BLOCK, _PASSES = 8, 2
# Who made the file chose these numbers: 128 MiB and a few seconds are the most we spend on it.
_MAX_COST, _MAX_BLOCK, _MAX_PASSES = 17, 8, 4
# Guessed offline, so longer than a password that a server slows down.
MIN_PASSPHRASE = 12
_TITLE = "teleport-lite sealed keyring v1"
_NONCE, _KEY, _SALT = 12, 32, 16
# A wrapped key is some hundred bytes (AWS: 184); PEM envelopes of others are longer.
MAX_WRAPPED = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapper:
    """A plugin that has a key elsewhere. Both raise Unavailable or Denied, naming the plugin."""

    plugin: str
    wrap: Callable[[bytes], bytes]
    unwrap: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """Opens what it has the means for. Seals by the wrapper if there is one, else under the
    passphrase if there is one, else not at all."""

    passphrase: Callable[[], Secret] | None = None
    wrapper: Wrapper | None = None
    cost: int = COST  # log2 of scrypt's N

    @property
    def way(self) -> str:
        """How it seals, as `sealed_by` says of a file."""
        if self.wrapper is not None:
            return f"plugin {self.wrapper.plugin}"
        return PLAIN if self.passphrase is None else PASSPHRASE

    def close(self, plain: bytes) -> bytes:
        """What to write into the file. Raises Malformed for a passphrase that is too short, and
        what the wrapper raises."""
        if self.wrapper is not None:
            key = SystemChance().bytes(_KEY)
            words = f"plugin {self.wrapper.plugin} {_text(self.wrapper.wrap(key))}"
        elif self.passphrase is not None:
            secret, salt = checked_passphrase(self.passphrase()), SystemChance().bytes(_SALT)
            key = _stretched(secret, salt, self.cost, _BLOCK, _PASSES)
            words = f"passphrase scrypt {self.cost} {_BLOCK} {_PASSES} {_text(salt)}"
        else:
            return plain
        head, nonce = f"{_TITLE}\n{words}\n", SystemChance().bytes(_NONCE)
        sealed = AESGCM(key).encrypt(nonce, plain, head.encode())
        return f"{head}{_text(nonce + sealed)}\n".encode()

    def open(self, raw: bytes, where: str) -> bytes:
        """The text of the keyring. `where` names the file in messages.

        Raises Denied if it is sealed with what we do not have, or by another passphrase; Malformed
        if it is damaged; what the wrapper raises.
        """
        if sealed_by(raw) == PLAIN:
            return raw
        try:
            head, words, sealed = _parts(raw)
            key = self._key(words, where)
            return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], head)
        except InvalidTag:
            cause = "the passphrase is another one" if words[0] == PASSPHRASE else "a wrong key"
            raise Denied(
                f"{where} can not be opened: {cause}, or the file was changed", hint=PAGE
            ) from None
        except ValueError as why:
            raise Malformed(f"{where} is damaged") from why

    def _key(self, words: list[str], where: str) -> bytes:
        if words[0] == PASSPHRASE:
            if self.passphrase is None:
                raise Denied(
                    f"{where} is sealed under a passphrase, and none is given",
                    hint="set teleport.storage.keyring_passphrase",
                )
            cost, block, passes = _numbers(words)
            return _stretched(self.passphrase(), _bytes(words[5]), cost, block, passes)
        plugin = words[1]
        if self.wrapper is None or self.wrapper.plugin != plugin:
            raise Denied(
                f"{where} is sealed by plugin {plugin}, which is not the one that is configured",
                hint=f"set teleport.storage.keyring_plugin to {plugin}, and invite it in plugins",
            )
        key = self.wrapper.unwrap(_bytes(words[2]))
        if len(key) != _KEY:
            raise ValueError("not a key")
        return key


NO_CUSTODY = Custody()


def sealed_by(raw: bytes) -> str:
    """`plain`, `passphrase`, or `plugin NAME`; of a damaged file, what it claims."""
    title, _, rest = raw.partition(b"\n")
    if title != _TITLE.encode():
        return PLAIN
    words = rest.partition(b"\n")[0].decode("ascii", "replace").split()
    return " ".join(words[:2]) if words[:1] == ["plugin"] else PASSPHRASE


def checked_passphrase(secret: Secret) -> Secret:
    """Raises Malformed for one that is soon guessed."""
    if len(secret.reveal()) < MIN_PASSPHRASE:
        raise Malformed(
            f"a passphrase that seals a keyring has at least {MIN_PASSPHRASE} characters",
            hint=PAGE,
        )
    return secret


def _parts(raw: bytes) -> tuple[bytes, list[str], bytes]:
    """What is authenticated, the words of the second line, and what is sealed."""
    lines = raw.decode("ascii").split("\n")
    if len(lines) != 4 or lines[3]:
        raise ValueError("lines")
    words = lines[1].split(" ")
    if [len(words), words[0]] not in ([6, PASSPHRASE], [3, "plugin"]):
        raise ValueError("words")
    return f"{lines[0]}\n{lines[1]}\n".encode(), words, _bytes(lines[2])


def _numbers(words: list[str]) -> tuple[int, int, int]:
    if words[1] != "scrypt" or not all(word.isdecimal() for word in words[2:5]):
        raise ValueError("unknown way to stretch a passphrase")
    cost, block, passes = (int(word[:4]) for word in words[2:5])
    if not (1 <= cost <= _MAX_COST and 1 <= block <= _MAX_BLOCK and 1 <= passes <= _MAX_PASSES):
        raise ValueError("more work than anybody would ask for")
    return cost, block, passes


def _stretched(secret: Secret, salt: bytes, cost: int, block: int, passes: int) -> bytes:
    size = 128 * block * ((1 << cost) + passes + 2)
    return hashlib.scrypt(
        secret.reveal().encode(),
        salt=salt,
        n=1 << cost,
        r=block,
        p=passes,
        dklen=_KEY,
        maxmem=size + (1 << 20),
    )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
