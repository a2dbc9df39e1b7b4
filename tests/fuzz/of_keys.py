"""Readers of keys, certificates and signatures: `pki`, and what tools show of certificates.

A certificate that is changed in one place has a wrong signature, and what comes after that check
would never be reached. So besides spoilt ones there are targets that choose every field, and have
the CA sign whatever comes out.
"""

from dataclasses import replace
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ed25519

from teleport_lite.client import identity_file
from teleport_lite.client.identity_file import IdentityFile
from teleport_lite.client.papers import public_line, read_papers
from teleport_lite.errors import Denied, Malformed
from teleport_lite.model.authority import CaType
from teleport_lite.pki import attest, keys, pin, seal, source_address, verify, wire
from teleport_lite.pki.ssh_cert import read_ssh_cert
from teleport_lite.testing import certs
from teleport_lite.testing.certs import packed, ssh_signature
from tests.fuzz.ssh_rig import CLUSTER, HOST
from tests.fuzz.target import Finding, Pieces, any_of, framed, target

ALGORITHMS = [
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "ssh-rsa-cert-v01@openssh.com",
]
ALICE = CLUSTER.user("alice")
CERT = keys.ssh_blob(ALICE.ssh_cert)
_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
FORGERY = replace(CLUSTER.forgery(_KEY), nonce=bytes(32))
_HERE, _THERE = ("192.0.2.7", 4000), ("192.0.2.1", 3080)


def _verified(blob: bytes, algorithm: str, login: str | None) -> verify.Visitor:
    return verify.verify_user_certificate(
        blob,
        algorithm=algorithm,
        login=login,
        trusted_cas=CLUSTER.ssh_user_cas,
        peer_ip="192.0.2.7",
        now=CLUSTER.now,
    )


@target(
    raises=(Denied,),
    seeds=lambda: [b"\0" + CERT, b"\0" + FORGERY.blob(), b"\4" + CERT],
    most=8192,
)
def ssh_certificate(data: bytes) -> None:
    """Spoilt anywhere. Only a certificate that is whole may pass."""
    pieces = Pieces(data)
    algorithm, blob = ALGORITHMS[pieces.number() % len(ALGORITHMS)], pieces.rest()
    try:
        cert = read_ssh_cert(blob)
        if not {cert.key_type} <= {each.replace("rsa-sha2-512", "ssh-rsa") for each in ALGORITHMS}:
            raise Finding(f"key type {cert.key_type}")
    except ValueError:
        cert = None
    visitor = _verified(blob, algorithm, "root")
    if blob not in (CERT, FORGERY.blob()) or cert is None:
        raise Finding(f"{visitor.user} was let in by a certificate that the CA has not signed")


@target(
    raises=(Denied,),
    seeds=lambda: [
        framed(b"alice", b"root,alice", certs.options((b"permit-pty", None)), b""),
        framed(
            b"alice",
            b"root",
            certs.options(
                (b"teleport-id", b"0" * 32),
                (b"teleport-roles", b'{"version":"v1","roles":["access"]}'),
                (b"teleport-traits", b'{"logins":["root"]}'),
            ),
            certs.options((b"force-command", b"ls"), (b"source-address", b"192.0.2.0/24,::1")),
        ),
    ],
)
def signed_ssh_certificate(data: bytes) -> None:
    """Fields from outside, properly signed: what the CA vouches for is read strictly, too."""
    pieces = Pieces(data)
    forged = replace(
        FORGERY,
        key_id=pieces.text(),
        principals=pieces.text().split(b","),
        extensions=pieces.text(),
        critical=pieces.text(),
        reserved=pieces.text(),
        tail=pieces.text(),
    )
    visitor = _verified(forged.blob(), ALGORITHMS[0], "root")
    if b"root" not in forged.principals or forged.tail:
        raise Finding(f"{visitor} was let in")


@target(
    raises=(),
    seeds=lambda: [
        b"\0" + ssh_signature(_KEY, b"signed"),
        b"\1" + packed(b"ecdsa-sha2-nistp256") + packed(certs.mpint(1) + certs.mpint(2)),
        b"\4" + packed(b"rsa-sha2-256") + packed(bytes(256)),
    ],
)
def login_signature(data: bytes) -> None:
    pieces = Pieces(data)
    which = pieces.number()
    algorithm, signature = ALGORITHMS[which % len(ALGORITHMS)], pieces.rest()
    blob = _certificates()[which % len(_certificates())]
    ok = verify.verify_login_signature(
        blob, algorithm=algorithm, signed=b"signed", signature=signature
    )
    if ok and signature != ssh_signature(_KEY, b"signed"):
        raise Finding("a signature that nobody has made")


@cache
def _certificates() -> list[bytes]:
    """Of each kind of key, so that every way to verify is gone."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    curves = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]
    more = [replace(FORGERY, key=ec.generate_private_key(curve)) for curve in curves]
    strong = replace(FORGERY, key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
    return [each.blob() for each in (FORGERY, *more, strong, strong, strong)]


def _peer(der: bytes) -> verify.Peer:
    return verify.peer_identity(
        der, host_cas=CLUSTER.host_cas, user_cas=CLUSTER.user_cas, now=CLUSTER.now
    )


@target(raises=(Denied,), seeds=lambda: [HOST.tls_der, ALICE.tls_der], most=4096)
def tls_certificate(data: bytes) -> None:
    peer = _peer(data)
    if data not in (HOST.tls_der, ALICE.tls_der):
        raise Finding(f"{peer} has no certificate of ours")


@target(
    raises=(Denied,),
    seeds=lambda: [
        framed(b"\0", b"alice", b"access", b"spiffe://test.example/user/alice", b""),
        framed(
            b"\1",
            f"{HOST.id}.test.example".encode(),
            b"Node",
            f"spiffe://test.example/host/{HOST.id}".encode(),
        ),
    ],
    most=1024,
)
def signed_tls_certificate(data: bytes) -> None:
    """Names and URIs from outside, properly signed."""
    pieces = Pieces(data)
    by = CaType.HOST if pieces.text()[:1] == b"\1" else CaType.USER
    common, role, uri, more = (pieces.text().decode("utf-8", "replace") for _ in range(4))
    try:
        der = CLUSTER.tls_forgery(
            by,
            public=_tls_key(),
            common_names=tuple(filter(None, [common])),
            roles=tuple(filter(None, [role])),
            uris=tuple(filter(None, [uri, more])),
        ).der()
    except (ValueError, TypeError):
        return  # not even a forger can write it
    peer = _peer(der)
    if peer.kind != ("host" if by is CaType.HOST else "user"):
        raise Finding(f"{peer} by the CA of others")


@cache
def _tls_key() -> object:
    return certs.tls_private(CLUSTER.host_ca)


@target(
    raises=(Denied,),
    seeds=lambda: [_attested()],
)
def attested_address(data: bytes) -> None:
    """What a proxy says about who it relays for."""
    name = attest.attested(
        data,
        source=_HERE,
        target=_THERE,
        host_cas=CLUSTER.host_cas,
        cluster=CLUSTER.name,
        now=CLUSTER.now,
    )
    if data != _attested():
        raise Finding(f"believed {name}, who has not said that")


@cache
def _attested() -> bytes:
    proxy = CLUSTER.host("proxy", roles=("Proxy",))
    return attest.attest(
        proxy.tls_cert, proxy.tls_private, source=_HERE, target=_THERE, now=CLUSTER.now
    )


@target(
    raises=(ValueError,),
    seeds=lambda: [b"192.0.2.0/24,2001:db8::/32", b"::ffff:192.0.2.1", b"10.0.0.1"],
    most=1024,
)
def source_addresses(data: bytes) -> None:
    text = data.decode("latin-1")
    networks = source_address.read_networks(text)
    source_address.matches(networks, source_address.read_address("192.0.2.1"))
    source_address.read_address(text)


@target(
    raises=(Malformed, ValueError),
    seeds=lambda: [
        b"\0" + HOST.ssh_public.encode(),
        b"\1" + HOST.tls_cert.encode(),
        b"\2" + CLUSTER.host_ca.public.tls_cert.encode(),
        b"\3" + keys.csr(HOST.tls_private, "x").encode(),
        b"\4sha256:" + b"0" * 64,
    ],
)
def public_keys(data: bytes) -> None:
    """Lines and PEM blocks that hosts and people send to have them signed, or trusted."""
    pieces = Pieces(data)
    readers = [
        keys.check_ssh_public,
        verify.ends_at,
        pin.pin_of,
        keys.public_of_csr,
        lambda text: pin.parse_pins([text.lstrip("/")]),
        keys.ssh_fingerprint,
        keys.check_tls_public,
    ]
    readers[pieces.number() % len(readers)](pieces.rest().decode("utf-8", "replace"))


@target(
    raises=(ValueError,),
    seeds=lambda: [packed(b"one") + packed(b"two"), certs.mpint(1 << 90) + bytes(12)],
    most=512,
)
def wire_fields(data: bytes) -> None:
    """The reader itself: what was written comes back, and the end is the end."""
    for whole in (wire.texts, wire.pairs):
        try:
            found = whole(data)
        except ValueError:
            continue
        flat = [part for each in found for part in ([each] if isinstance(each, bytes) else each)]
        if b"".join(map(wire.text, flat)) != data:
            raise Finding("read something that is not there")
    reader = wire.Reader(data)
    while reader.more():
        reader.mpint()
        reader.number(8)
    reader.end()


@target(raises=(ValueError,), seeds=lambda: [_ring().seal(b"plain", "test")], most=512)
def sealed(data: bytes) -> None:
    """Columns of the database that a stolen copy of it must not show."""
    if _ring().unseal(data, "test") != b"plain":
        raise Finding("unsealed what was not sealed")


@cache
def _ring() -> seal.Keyring:
    return seal.Keyring([bytes(32)])


@target(
    seeds=lambda: [ALICE.ssh_cert.encode(), ALICE.ssh_cert.encode()[:300]],
)
def papers(data: bytes) -> None:
    """What `tsh status` shows of a certificate."""
    line = data.decode("utf-8", "replace")
    read_papers(line, "file")
    try:
        public_line(line)
    except ValueError as why:
        raise Malformed("line") from why


@target(
    seeds=lambda: [_identity()],
    parts=lambda: any_of(_identity().splitlines(keepends=True)),
    most=16384,
)
def identity_files(data: bytes) -> None:
    identity_file.read(data, "file")


@cache
def _identity() -> bytes:
    return identity_file.write(
        IdentityFile(
            cluster=CLUSTER.name,
            ssh_private=ALICE.tls_private,
            ssh_cert=ALICE.ssh_cert,
            tls_private=ALICE.tls_private,
            tls_cert=ALICE.tls_cert,
            ssh_host_cas=(CLUSTER.host_ca.public.ssh_key,),
            host_cas=tuple(CLUSTER.host_cas),
        )
    )
