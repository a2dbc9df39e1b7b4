"""A plugin that keeps the key of the keyring: a service of the machine, here a file, encrypts it.

A real one asks a KMS: AWS `Encrypt` and `Decrypt`, Vault's transit engine, a TPM.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path

from teleport_lite.plugin.api import Denied, Section, Unavailable, hookimpl


@hookimpl
def teleport_lite_wrap_key(key: bytes, settings: Mapping[str, object]) -> bytes | None:
    master, nonce = _master(settings), secrets.token_bytes(16)
    hidden = _mixed(key, master, nonce)
    return nonce + hidden + hmac.digest(master, nonce + hidden, "sha256")


@hookimpl
def teleport_lite_unwrap_key(wrapped: bytes, settings: Mapping[str, object]) -> bytes | None:
    master, nonce, hidden, tag = _master(settings), wrapped[:16], wrapped[16:48], wrapped[48:]
    if not hmac.compare_digest(tag, hmac.digest(master, nonce + hidden, "sha256")):
        raise Denied("the keeper does not know this key")
    return _mixed(hidden, master, nonce)


def _master(settings: Mapping[str, object]) -> bytes:
    path = Path(Section(settings, "plugins.settings.keeper").text("master"))
    try:
        return path.read_bytes()
    except OSError as why:
        raise Unavailable("the keeper can not be asked") from why


def _mixed(key: bytes, master: bytes, nonce: bytes) -> bytes:
    mask = hashlib.sha256(b"mask" + master + nonce).digest()
    return bytes(a ^ b for a, b in zip(key, mask, strict=True))
