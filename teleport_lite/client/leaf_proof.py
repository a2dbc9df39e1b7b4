"""A wish for a node of a leaf cluster, signed: its proxy believes nobody else about who asks."""

from pathlib import Path
from typing import Any

from teleport_lite.ambient import SystemClock
from teleport_lite.client.identity_file import blocks
from teleport_lite.errors import Malformed
from teleport_lite.pki.keyfile import read_secret
from teleport_lite.pki.proof import prove
from teleport_lite.secret import Secret

_MAX_FILE = 64 * 1024


def proof_of(asked: dict[str, Any], cert: str, key: Secret) -> str:
    """Of a `ReachRequest` (proto/reach.py) for the leaf that it names."""
    words = (str(asked["host"]), str(asked["port"]), str(asked["login"]))
    return prove(cert, key, leaf=str(asked["cluster"]), words=words, now=SystemClock().now())


def proof_by_file(asked: dict[str, Any], path: str) -> str:
    """With the certificate and key in a file of a profile. Raises NotFound, Denied, Malformed."""
    found = blocks(read_secret(Path(path), limit=_MAX_FILE).decode("ascii", "replace"))
    if [label for label, _ in found] != ["CERTIFICATE", "PRIVATE KEY"]:
        raise Malformed(f"{path} is not a certificate and its key", hint="tsh login")
    return proof_of(asked, found[0][1], Secret(found[1][1]))
