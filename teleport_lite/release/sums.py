"""SHA256SUMS: which files a release is made of, by digest, and who signed that list.

The names in it carry the version, so the list of an old release, signed as it is, can not pass
for that of a new one. The standard library alone here: packaging/build.py imports it too.
"""

import re
from collections.abc import Sequence

from teleport_lite.errors import Malformed

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
# What a release is signed for: `ssh-keygen -Y sign -n teleport-lite-release` (PROTOCOL.sshsig).
NAMESPACE = "teleport-lite-release"
MAX_SUMS = 64 * 1024  # a release has two files, 200 bytes
_LINE = re.compile(r"([0-9a-f]{64})  ([0-9A-Za-z][0-9A-Za-z._+-]{0,127})")


def program_name(version: str) -> str:
    return f"teleport-lite-{version}.pyz"


def sbom_name(version: str) -> str:
    return f"teleport-lite-{version}.cdx.json"


def read_sums(text: bytes, limit: int = MAX_SUMS) -> dict[str, str]:
    """Hexadecimal SHA-256 of each file by its name, as `sha256sum` writes them.

    Raises Malformed for anything else: a path for a name, a name twice, a last line cut short,
    more than `limit` bytes.
    """
    if len(text) > limit:
        raise Malformed(f"{SUMS} has {len(text)} bytes, the most is {limit}")
    if not text.endswith(b"\n"):
        raise Malformed(f"{SUMS} is cut off or empty")
    found: dict[str, str] = {}
    for number, line in enumerate(text[:-1].decode("ascii", "replace").split("\n"), 1):
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise Malformed(f"{SUMS} line {number} is not a digest and the name of a file")
        if parts[2] in found:
            raise Malformed(f"{SUMS} names {parts[2]} twice")
        found[parts[2]] = parts[1]
    return found


def signed_sums(text: bytes, signature: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The list, after checking that one of `keys` signed it. Raises Malformed or Denied."""
    from teleport_lite.pki.sshsig import verify  # cryptography: not when only digests are wanted

    if len(text) > MAX_SUMS:
        raise Malformed(f"{SUMS} has {len(text)} bytes, the most is {MAX_SUMS}")
    try:
        armour = signature.decode("ascii")
    except UnicodeDecodeError as why:
        raise Malformed(f"{SIGNATURE} is not text") from why
    verify(text, armour, keys=keys, namespace=NAMESPACE)
    return read_sums(text)
