"""People of another cluster that we trust: whose certificate is it, and may its CAs be trusted?

A root is known by its user CAs alone. What they sign says a name and roles of that cluster, and
never of ours: the CA that has signed decides which cluster somebody is from, not the words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teleport_lite.errors import Conflict, Denied, Malformed
from teleport_lite.pki.keys import (
    UNREADABLE,
    check_ssh_public,
    check_strength,
    one_pem,
    plain,
    ssh_blob,
)
from teleport_lite.pki.pin import load_ca, pin_of
from teleport_lite.pki.verify import Peer, check_leaf, peer_identity
from teleport_lite.secret import Secret

# Of one type: the two of a rotation, and one more that another program may add.
MAX_CAS = 4
# Characters, of all CAs of a cluster: they stand in everybody's Knowledge.
MAX_CA_TEXT = 32 * 1024


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

    def names(self) -> frozenset[str]:
        """Subjects, as OpenSSL compares them: it looks for the issuer of a certificate by name,
        takes the first one and tries no other. Raises Malformed."""
        return frozenset(_folded(load_ca(pem).subject) for pem in (*self.host_cas, *self.user_cas))


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


def tidied(shown: CaSet, cluster: str) -> CaSet:
    """The CAs that `cluster` shows, written anew: nothing comes along with them, and what we can
    read OpenSSL can read too. Raises Malformed for what is no CA, or more than there may be."""
    kinds = (shown.host_cas, shown.ssh_host_cas, shown.user_cas, shown.ssh_user_cas)
    if any(len(each) > MAX_CAS for each in kinds):
        raise Malformed(f"cluster {cluster} has more than {MAX_CAS} CAs of a type")
    if sum(len(text) for each in kinds for text in each) > MAX_CA_TEXT:
        raise Malformed(f"the CAs of cluster {cluster} have more than {MAX_CA_TEXT} characters")
    return CaSet(
        host_cas=tuple(map(_tidy_ca, shown.host_cas)),
        ssh_host_cas=tuple(map(check_ssh_public, shown.ssh_host_cas)),
        user_cas=tuple(map(_tidy_ca, shown.user_cas)),
        ssh_user_cas=tuple(map(check_ssh_public, shown.ssh_user_cas)),
    )


def check_cas(shown: CaSet, cluster: str, *, known: Iterable[tuple[str, CaSet]]) -> CaSet:
    """May these be believed to be the CAs of `cluster`? `known` are ours and those of others.
    They come back `tidied`.

    Raises Malformed for what is no CA, Conflict for one that belongs to another cluster: whom it
    signs for would be of two clusters at once. One that is only called like that of another
    cluster is refused as well: TLS would try it on certificates of that one, and fail.
    """
    shown = tidied(shown, cluster)
    theirs, names = shown.keys(), shown.names()
    for other, cas in known:
        if theirs & cas.keys():
            raise Conflict(f"cluster {cluster} shows a CA that belongs to cluster {other}")
        if names & cas.names():
            raise Conflict(f"cluster {cluster} shows a CA that is called like one of {other}")
    return shown


def own_certificate(cert_pem: str, key: Secret, ca_pems: Sequence[str], now: datetime) -> str:
    """A certificate that another cluster has made for `key` of ours, written anew. Raises Denied
    if it is not signed by one of its CAs, has expired, or is for another key."""
    check_leaf(cert_pem, ca_pems, now)
    cert = x509.load_pem_x509_certificate(one_pem(cert_pem, "CERTIFICATE"))
    private = serialization.load_pem_private_key(key.reveal().encode(), None)
    if _spki(cert) != private.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ):
        raise Denied("certificate can not be used: it is not for the key it was asked for")
    return cert.public_bytes(Encoding.PEM).decode()


def _tidy_ca(pem: str) -> str:
    try:
        ca = load_ca(pem)
        check_strength(ca.public_key())
        _folded(ca.subject)
        return ca.public_bytes(Encoding.PEM).decode()
    except UNREADABLE as why:
        raise Malformed(f"CA certificate can not be used: {plain(why)}") from why


def _folded(name: x509.Name) -> str:
    """As X509_NAME_cmp(3) has it: letters in either case, and any number of spaces, are alike."""
    parts = (
        sorted(
            f"{each.oid.dotted_string}={' '.join(str(each.value).lower().split())}" for each in rdn
        )
        for rdn in name.rdns
    )
    return "\n".join("\t".join(each) for each in parts)


def _spki(cert: x509.Certificate) -> bytes:
    return cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
