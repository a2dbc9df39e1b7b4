"""Release keys: which there are, and a signature by one of them. ssh-keygen does the work."""

import base64
import os
import re
import subprocess
import tempfile
from pathlib import Path

from teleport_lite.release.sums import NAMESPACE

PATIENCE = 120  # seconds for a signature; a person may have to touch or unlock something
_LINE = re.compile(r"ssh-ed25519 (AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43})(?: .*)?")
_PRIVATE = re.compile(
    r"-----BEGIN OPENSSH PRIVATE KEY-----\n([A-Za-z0-9+/=\n]+)-----END OPENSSH PRIVATE KEY-----\s*"
)


class Failed(Exception):
    """No such key, or no signature. The hint is what a person can do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def public_key(path: Path) -> str:
    """ "ssh-ed25519 AAAA..." of a public key, or of a private one even if it has a passphrase.

    Raises Failed: for other types too.
    """
    text = read(path)
    if private := _PRIVATE.fullmatch(text):
        text = public_half(private[1], path)
    elif "PRIVATE KEY" in text:
        beside = path.with_name(path.name + ".pub")
        if not beside.exists():
            raise Failed(f"{path} does not say its public key", f"ssh-keygen -y -f {path}")
        text = read(beside)
    found = _LINE.fullmatch(text.strip())
    if found is None:
        kind = re.match(r"[a-z0-9@.-]{1,60}(?= )", text)
        what = f"is a key of type {kind[0]}" if kind else "is no key that OpenSSH wrote"
        raise Failed(f"{path} {what}; releases are signed by ssh-ed25519", "ssh-keygen -t ed25519")
    return f"ssh-ed25519 {found[1]}"


def read(path: Path) -> str:
    try:
        return path.read_bytes()[:16384].decode("ascii", "replace")
    except OSError as why:
        raise Failed(f"{path} can not be read: {why.strerror}", f"ls -l {path}") from why


def public_half(private: str, path: Path) -> str:
    """Stands in clear before what a passphrase hides (OpenSSH's PROTOCOL.key)."""
    try:
        rest = base64.b64decode(private)
        if not rest.startswith(b"openssh-key-v1\0"):
            raise ValueError
        rest = rest[15:]
        for _ in range(3):  # cipher, key derivation, its options
            _, rest = split(rest)
        blob, _ = split(rest[4:])  # after the number of keys
        kind, _ = split(blob)
        return f"{kind.decode('ascii')} {base64.b64encode(blob).decode()}"
    except ValueError as why:
        raise Failed(f"{path} is a damaged private key", f"ssh-keygen -y -f {path}") from why


def split(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ValueError
    return data[4 : 4 + size], data[4 + size :]


def sign(message: bytes, key: Path, public: str) -> bytes:
    """An armoured signature over `message` by `key`, which OpenSSH has checked. Raises Failed.

    `key` may be a private key, or a public one whose private half ssh-agent has. ssh-keygen asks
    for a passphrase where there is a terminal; where there is none it fails at once.
    """
    with tempfile.TemporaryDirectory() as place:
        signers = Path(place, "signers")
        signers.write_text(f'release namespaces="{NAMESPACE}" {public}\n')
        signature = Path(place, "signature")
        hint = f"ssh-add {key}, or a key without a passphrase"
        written = run(["-Y", "sign", "-f", str(key), "-n", NAMESPACE], message, key, hint)
        signature.write_bytes(written)
        check = ["-Y", "verify", "-f", str(signers), "-I", "release", "-n", NAMESPACE]
        hint = f"rm {key}.pub, if it belongs to another key"
        run([*check, "-s", str(signature)], message, key, hint)
    return written


def run(words: list[str], message: bytes, key: Path, hint: str) -> bytes:
    alone = not has_terminal()
    env = dict(os.environ) | ({"SSH_ASKPASS_REQUIRE": "never"} if alone else {})
    try:
        done = subprocess.run(
            ["ssh-keygen", *words],
            input=message,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if alone else None,
            env=env,
            start_new_session=alone,  # else a passphrase could be asked for where nobody sees it
            timeout=PATIENCE,
        )
    except FileNotFoundError as why:
        raise Failed("there is no ssh-keygen", "apt-get install openssh-client") from why
    except subprocess.TimeoutExpired as why:
        raise Failed(f"no signature by {key} within {PATIENCE} seconds", hint) from why
    if done.returncode:
        said = (done.stderr or b"").decode("utf-8", "replace").strip().splitlines()
        detail = f": {said[-1]}" if said else ""
        raise Failed(f"ssh-keygen {words[1]} failed with {key}{detail}", hint)
    return done.stdout


def has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
