"""The identity of a host: its keys, its certificates and whom it trusts, in one file.

One file because a rename replaces it whole: after a crash there is the old identity or the
new one, never a key that does not fit its certificate.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from teleport_lite.errors import Malformed, NotFound
from teleport_lite.pki.keyfile import make_private_dir, read_secret, write_secret
from teleport_lite.proto.codec import Statement, read, write
from teleport_lite.proto.stream import Knowledge
from teleport_lite.secret import Secret

FILE = "identity.json"
# Two keys, two certificates and a bundle of CAs in the middle of a rotation come to 12 KiB.
MAX_SIZE = 256 * 1024


class _Stored(Statement, frozen=True):
    """A later version may add what has a default: ours may be the one to read it next."""

    cluster: str
    host_id: str
    roles: list[str]
    ssh_private: str
    ssh_public: str
    tls_private: str
    ssh_cert: str
    tls_cert: str
    host_cas: list[str]
    ssh_host_cas: list[str]
    ssh_user_cas: list[str]
    user_cas: list[str]
    serving_ssh_cert: str = ""
    serving_tls_cert: str = ""
    rotation: str = ""
    auths: list[str] = []
    proxies: list[str] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    cluster: str
    host_id: str
    roles: tuple[str, ...]
    ssh_private: Secret
    ssh_public: str
    tls_private: Secret
    ssh_cert: str
    tls_cert: str
    host_cas: tuple[str, ...]  # PEM; who may be auth or another host
    ssh_host_cas: tuple[str, ...]  # OpenSSH lines
    ssh_user_cas: tuple[str, ...]
    user_cas: tuple[str, ...]
    # What to serve with while that is not what to go out with; "" when it is the same.
    serving_ssh_cert: str = ""
    serving_tls_cert: str = ""
    rotation: str = ""  # mark of the host CA (model/rotation.py) the certificates were made at
    # Of a bot: host:port of auth servers, and of proxies, that were alive then.
    auths: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()

    @property
    def serve_ssh(self) -> str:
        """The SSH certificate for those who come to us."""
        return self.serving_ssh_cert or self.ssh_cert

    @property
    def serve_tls(self) -> str:
        """The X.509 certificate for those who come to us."""
        return self.serving_tls_cert or self.tls_cert


def trusting(identity: Identity, known: Knowledge) -> Identity:
    """The same identity with the CAs of now. None of a kind is no answer: the old ones stay."""
    return replace(
        identity,
        host_cas=tuple(known.host_cas) or identity.host_cas,
        ssh_host_cas=tuple(known.ssh_host_cas) or identity.ssh_host_cas,
        ssh_user_cas=tuple(known.ssh_user_cas) or identity.ssh_user_cas,
        user_cas=tuple(known.user_cas) or identity.user_cas,
    )


def load(data_dir: Path) -> Identity | None:
    """None if this host has not joined. Raises Malformed or Denied for a file we should not use."""
    path = data_dir / FILE
    try:
        raw = read_secret(path, limit=MAX_SIZE)
    except NotFound:
        return None
    return loads(raw, str(path))


def loads(raw: bytes, where: str) -> Identity:
    try:
        kept = read(_Stored, raw, limit=MAX_SIZE)
    except Malformed as why:
        raise Malformed(
            f"{where} is damaged: {why.message}",
            hint=f"move {where} aside and start with a new token",
        ) from why
    return Identity(
        cluster=kept.cluster,
        host_id=kept.host_id,
        roles=tuple(kept.roles),
        ssh_private=Secret(kept.ssh_private),
        ssh_public=kept.ssh_public,
        tls_private=Secret(kept.tls_private),
        ssh_cert=kept.ssh_cert,
        tls_cert=kept.tls_cert,
        host_cas=tuple(kept.host_cas),
        ssh_host_cas=tuple(kept.ssh_host_cas),
        ssh_user_cas=tuple(kept.ssh_user_cas),
        user_cas=tuple(kept.user_cas),
        serving_ssh_cert=kept.serving_ssh_cert,
        serving_tls_cert=kept.serving_tls_cert,
        rotation=kept.rotation,
        auths=tuple(kept.auths),
        proxies=tuple(kept.proxies),
    )


def save(data_dir: Path, identity: Identity) -> None:
    make_private_dir(data_dir)
    stored = _Stored(
        cluster=identity.cluster,
        host_id=identity.host_id,
        roles=list(identity.roles),
        ssh_private=identity.ssh_private.reveal(),
        ssh_public=identity.ssh_public,
        tls_private=identity.tls_private.reveal(),
        ssh_cert=identity.ssh_cert,
        tls_cert=identity.tls_cert,
        host_cas=list(identity.host_cas),
        ssh_host_cas=list(identity.ssh_host_cas),
        ssh_user_cas=list(identity.ssh_user_cas),
        user_cas=list(identity.user_cas),
        serving_ssh_cert=identity.serving_ssh_cert,
        serving_tls_cert=identity.serving_tls_cert,
        rotation=identity.rotation,
        auths=list(identity.auths),
        proxies=list(identity.proxies),
    )
    write_secret(data_dir / FILE, write(stored))


def written_at(data_dir: Path) -> datetime:
    """When the identity was last saved: at the join, or at a renewal."""
    return datetime.fromtimestamp((data_dir / FILE).stat().st_mtime, UTC)


def set_aside(data_dir: Path) -> Path:
    """Keep the old identity as identity.json.old-N, the first N that is free. Returns where."""
    for number in range(1, 10_000):
        kept = data_dir / f"{FILE}.old-{number}"
        if not kept.exists():
            (data_dir / FILE).rename(kept)
            return kept
    raise Malformed(f"{data_dir} holds 10000 old identities, remove some")
