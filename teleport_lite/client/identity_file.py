"""The single-file identity: all that one person needs to be known by a cluster.

    ssh certificate line                   first, so that `ssh -i FILE` finds it
    -----BEGIN PRIVATE KEY-----            of the SSH certificate
    -----BEGIN PRIVATE KEY-----            of the TLS certificate
    -----BEGIN CERTIFICATE-----            TLS
    @cert-authority *.<cluster> <line>     host CAs as in known_hosts
    -----BEGIN CERTIFICATE-----            host CAs for TLS

The order is what OpenSSH can read: it takes the public half from the first line, and looks
for a PKCS#8 key anywhere in the file (but for one in its own format only at the very top).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.errors import Malformed
from teleport_lite.pki.keyfile import read_secret
from teleport_lite.secret import Secret

# Two keys, two certificates and the CAs in the middle of a rotation come to 12 KiB.
MAX_SIZE = 256 * 1024
MAKE_ONE = "tctl auth sign --user=NAME --out=FILE"
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n[A-Za-z0-9+/=\s]+-----END \1-----\n")
_MARK = "@cert-authority *."


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFile:
    cluster: str
    ssh_private: Secret  # PKCS#8 PEM in a single file; in a profile OpenSSH's own format
    ssh_cert: str
    tls_private: Secret  # PKCS#8 PEM
    tls_cert: str
    ssh_host_cas: tuple[str, ...]
    host_cas: tuple[str, ...]


def write(identity: IdentityFile) -> bytes:
    """The file. Whoever holds it is that person: write it with `pki.keyfile.write_secret`."""
    parts = [
        identity.ssh_cert,
        identity.ssh_private.reveal(),
        identity.tls_private.reveal(),
        identity.tls_cert,
        *(f"{_MARK}{identity.cluster} {line}" for line in identity.ssh_host_cas),
        *identity.host_cas,
    ]
    return "".join(part.strip() + "\n" for part in parts).encode()


def load(path: Path) -> IdentityFile:
    """Raises NotFound, Denied (others may read the file) or Malformed."""
    return read(read_secret(path, limit=MAX_SIZE), str(path))


def blocks(text: str) -> list[tuple[str, str]]:
    """The PEM blocks of a file (RFC 7468), each with its label, in their order."""
    return [(found[1], found[0]) for found in _BLOCK.finditer(text)]


def read(raw: bytes, source: str) -> IdentityFile:
    text = raw.decode("ascii", "replace").replace("\r\n", "\n")
    found = blocks(text)
    keys = [block for label, block in found if label == "PRIVATE KEY"]
    certs = [block for label, block in found if label == "CERTIFICATE"]
    lines = _BLOCK.sub("", text).splitlines()
    ssh_certs = [line for line in lines if "-cert-v01@openssh.com " in line.split("#")[0]]
    cas = [line.removeprefix(_MARK).partition(" ") for line in lines if line.startswith(_MARK)]
    clusters = {cluster for cluster, _, _ in cas}
    if len(keys) != 2 or len(certs) < 2 or len(ssh_certs) != 1 or len(clusters) != 1:
        raise Malformed(f"{source} is not an identity file", hint=MAKE_ONE)
    return IdentityFile(
        cluster=clusters.pop(),
        ssh_private=Secret(keys[0]),
        ssh_cert=ssh_certs[0].strip(),
        tls_private=Secret(keys[1]),
        tls_cert=certs[0],
        ssh_host_cas=tuple(line for _, _, line in cas),
        host_cas=tuple(certs[1:]),
    )
