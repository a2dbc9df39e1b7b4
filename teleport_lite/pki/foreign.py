"""People of another cluster that we trust: whose certificate is it, and may its CAs be trusted?

A root is known by its user CAs alone. What they sign says a name and roles of that cluster, and
never of ours: the CA that has signed decides which cluster somebody is from, not the words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

from teleport_lite.errors import Conflict, Denied, Malformed
from teleport_lite.pki.keys import UNREADABLE, check_ssh_public, one_pem, ssh_blob
from teleport_lite.pki.pin import pin_of
from teleport_lite.pki.verify import Peer, peer_identity

# Of one type: the two of a rotation, and one more that another program may add.
MAX_CAS = 4


class Root(Protocol):
    """proto/stream.RootWord, as much of it as is needed here."""

    @property
    def cluster(self) -> str: ...
    @property
    def user_cas(self) -> Sequence[str]: ...
    @property
    def ssh_user_cas(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CaSet:
    """The CAs of one cluster that another one is told of."""

    host_cas: tuple[str, ...] = ()  # PEM
    ssh_host_cas: tuple[str, ...] = ()  # OpenSSH lines
    user_cas: tuple[str, ...] = ()
    ssh_user_cas: tuple[str, ...] = ()

    def keys(self) -> frozenset[str]:
        """What tells each of them from all others. Raises Malformed for what is no CA."""
        tls = (pin_of(pem) for pem in (*self.host_cas, *self.user_cas))
        ssh = (ssh_blob(line).hex() for line in (*self.ssh_host_cas, *self.ssh_user_cas))
        return frozenset((*tls, *ssh))


def foreign_peer(cert_der: bytes, *, roots: Iterable[Root], now: datetime) -> Peer:
    """Somebody from one of `roots`, by an X.509 certificate. `Peer.cluster` says which.

    Raises Denied: also for a certificate of a root that says it is of another cluster.
    """
    why: Denied | None = None
    for root in roots:
        try:
            peer = peer_identity(cert_der, host_cas=(), user_cas=root.user_cas, now=now)
        except Denied as refused:
            why = why or refused
            continue
        if peer.kind != "user" or peer.cluster != root.cluster:
            raise Denied(
                "client certificate is not accepted",
                log=f"a CA of {root.cluster} has signed a {peer.kind} of {peer.cluster}",
            )
        return peer
    raise why or Denied("client certificate is not accepted", log="no cluster is trusted")


def root_of(ca_blob: bytes, roots: Iterable[Root]) -> str:
    """The cluster whose SSH user CA this is; "" if it is none of theirs."""
    for root in roots:
        if any(ssh_blob(line) == ca_blob for line in root.ssh_user_cas):
            return root.cluster
    return ""


def host_of(cert_pem: str) -> str:
    """The UUID in a host certificate that was given to us by another cluster, "" if there is
    none. Nothing is decided by it: the other cluster reads it for itself."""
    try:
        leaf = x509.load_pem_x509_certificate(one_pem(cert_pem, "CERTIFICATE"))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
    except UNREADABLE:
        return ""
    return uri.rpartition("/")[2]


def check_cas(shown: CaSet, cluster: str, *, known: Iterable[tuple[str, CaSet]]) -> None:
    """May these be believed to be the CAs of `cluster`? `known` are ours and those of others.

    Raises Malformed for what is no CA, Conflict for one that belongs to another cluster: whom it
    signs for would be of two clusters at once.
    """
    for each in (shown.host_cas, shown.ssh_host_cas, shown.user_cas, shown.ssh_user_cas):
        if len(each) > MAX_CAS:
            raise Malformed(f"cluster {cluster} has more than {MAX_CAS} CAs of a type")
    for line in (*shown.ssh_host_cas, *shown.ssh_user_cas):
        check_ssh_public(line)
    theirs = shown.keys()
    for other, cas in known:
        if theirs & cas.keys():
            raise Conflict(f"cluster {cluster} shows a CA that belongs to cluster {other}")
