"""Whom a relayed connection comes from, signed by the proxy that relays it.

A PROXY header alone is a claim anybody can make. With this field in it, it is the word of a
host of this cluster with the role Proxy. It is readable and can be repeated for two minutes by
who sees it pass; it gives no access, only an address to blame, limit and pin.

value of the field:  0x01 | seconds since 1970, 8 bytes | length, 2 bytes | certificate, DER |
                     length, 2 bytes | signature, DER (ECDSA over SHA-256)
"""

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from teleport_lite.errors import Denied, Malformed
from teleport_lite.model.system_role import PROXY
from teleport_lite.pki.keys import UNREADABLE, plain
from teleport_lite.pki.verify import peer_identity
from teleport_lite.pki.wire import Reader, text
from teleport_lite.secret import Secret

# Of the range that proxy-protocol.txt §2.2.7 leaves for such things (PP2_TYPE_MIN_CUSTOM..).
TLV = 0xE4
# Beside it, where a connection has come down a tunnel to a root: the name of that cluster.
ROOT_TLV = 0xE5
# What a clock may be off, and what a connection may take.
LIFE = timedelta(minutes=2)
_VERSION = 1
# So that this signature can never be taken for one over anything else, nor the other way round.
_DOMAIN = b"teleport-lite: address of a relayed connection, version 1"
_REFUSED = "the address of a relayed connection is not signed by a proxy of this cluster"
_SCHEME = ec.ECDSA(hashes.SHA256())


def attest(
    identity_cert_pem: str,
    key: Secret,
    *,
    source: tuple[str, int],
    target: tuple[str, int],
    now: datetime,
) -> bytes:
    """The value of the field, for a header with these two addresses. Raises Malformed."""
    try:
        cert = x509.load_pem_x509_certificate(identity_cert_pem.encode())
        private = serialization.load_pem_private_key(key.reveal().encode(), None)
    except UNREADABLE as why:
        raise Malformed(f"the identity of this host can not be read: {plain(why)}") from why
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise Malformed("the TLS key of this host is not an ECDSA key")
    der = cert.public_bytes(Encoding.DER)
    seconds = int(now.timestamp())
    signature = private.sign(_signed(der, seconds, source, target), _SCHEME)
    head = bytes([_VERSION]) + seconds.to_bytes(8, "big")
    return head + b"".join(len(each).to_bytes(2, "big") + each for each in (der, signature))


def attested(
    tlv: bytes,
    *,
    source: tuple[str, int],
    target: tuple[str, int],
    host_cas: Sequence[str],
    cluster: str,
    now: datetime,
) -> str:
    """The UUID of the proxy that says so. Raises Denied, always with the same message."""
    try:
        reader = Reader(tlv)
        if reader.number(1) != _VERSION:
            raise ValueError("of another version")
        seconds = reader.number(8)
        if abs(now.timestamp() - seconds) > LIFE.total_seconds():
            raise ValueError(f"signed {now.timestamp() - seconds:.0f} s ago")
        der = reader.take(reader.number(2))
        signature = reader.take(reader.number(2))
        reader.end()
        proxy = peer_identity(der, host_cas=host_cas, user_cas=(), now=now)
        if proxy.kind != "host" or proxy.cluster != cluster or PROXY not in proxy.roles:
            raise ValueError("signed by no proxy of this cluster")
        public = x509.load_der_x509_certificate(der).public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise ValueError("not signed with ECDSA")
        public.verify(signature, _signed(der, seconds, source, target), _SCHEME)
    except InvalidSignature as why:
        raise Denied(_REFUSED, log="the signature does not fit") from why
    except Denied as why:
        raise Denied(_REFUSED, log=why.log) from why
    except UNREADABLE as why:
        raise Denied(_REFUSED, log=plain(why)) from why
    return proxy.name


def _signed(der: bytes, seconds: int, source: tuple[str, int], target: tuple[str, int]) -> bytes:
    fields = [_DOMAIN, der, seconds.to_bytes(8, "big")]
    for host, port in (source, target):
        fields += [ipaddress.ip_address(host).packed, port.to_bytes(2, "big")]
    return b"".join(text(each) for each in fields)
