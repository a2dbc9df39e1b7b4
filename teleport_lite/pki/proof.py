"""Who wishes to go on to a node of another cluster, signed by themselves.

The proxy of the root passes the wish on; the proxy of the leaf believes the signature and not
the proxy. It is good for one cluster and a few minutes, can be repeated in that time by who sees
it pass, and gives no more than a connection to a node, which asks for a certificate again.

base64 of:  0x01 | seconds since 1970, 8 bytes | length, 2 bytes | certificate, DER |
            length, 2 bytes | signature, DER (ECDSA over SHA-256)
"""

import base64
from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from teleport_lite.errors import Denied, Malformed
from teleport_lite.pki.foreign import Root, foreign_peer
from teleport_lite.pki.keys import UNREADABLE, plain
from teleport_lite.pki.verify import Peer
from teleport_lite.pki.wire import Reader, text
from teleport_lite.secret import Secret

# What clocks of two clusters and a laptop may be off.
LIFE = timedelta(minutes=5)
# Characters; a certificate with all the roles there may be takes 16 KiB.
MAX_PROOF = 24 * 1024
_VERSION = 1
# So that this signature can never be taken for one over anything else, nor the other way round.
_DOMAIN = b"teleport-lite: a way to a node of another cluster, version 1"
_REFUSED = "the wish is not signed by somebody of a trusted cluster"
_SCHEME = ec.ECDSA(hashes.SHA256())


def prove(cert_pem: str, key: Secret, *, leaf: str, words: tuple[str, ...], now: datetime) -> str:
    """`words` are the wish, for cluster `leaf`. Raises Malformed."""
    try:
        cert = x509.load_pem_x509_certificate(cert_pem.encode())
        private = serialization.load_pem_private_key(key.reveal().encode(), None)
    except UNREADABLE as why:
        raise Malformed(
            f"your certificate can not be read: {plain(why)}", hint="tsh login"
        ) from why
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise Malformed("your TLS key is not an ECDSA key", hint="tsh login")
    der, seconds = cert.public_bytes(Encoding.DER), int(now.timestamp())
    signature = private.sign(_signed(der, seconds, leaf, words), _SCHEME)
    raw = bytes([_VERSION]) + seconds.to_bytes(8, "big")
    raw += b"".join(len(each).to_bytes(2, "big") + each for each in (der, signature))
    return base64.b64encode(raw).decode()


def proved(
    proof: str, *, roots: Iterable[Root], leaf: str, words: tuple[str, ...], now: datetime
) -> Peer:
    """Who wishes it: somebody of one of `roots`. Raises Denied; `log` has the reason."""
    try:
        if len(proof) > MAX_PROOF:
            raise ValueError(f"a proof of {len(proof)} characters")
        reader = Reader(base64.b64decode(proof, validate=True))
        if reader.number(1) != _VERSION:
            raise ValueError("of another version")
        seconds = reader.number(8)
        der = reader.take(reader.number(2))
        signature = reader.take(reader.number(2))
        reader.end()
        peer = foreign_peer(der, roots=roots, now=now)
        public = x509.load_der_x509_certificate(der).public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise ValueError("not signed with ECDSA")
        public.verify(signature, _signed(der, seconds, leaf, words), _SCHEME)
    except InvalidSignature as why:
        raise Denied(_REFUSED, log="the signature does not fit") from why
    except Denied as why:
        raise Denied(_REFUSED, log=why.log or why.message) from why
    except UNREADABLE as why:
        raise Denied(_REFUSED, log=plain(why)) from why
    off = now.timestamp() - seconds
    if abs(off) > LIFE.total_seconds():
        raise Denied(
            f"the clock of your computer is {abs(off):.0f} s off that of cluster {leaf}",
            hint="set the clock, for example: timedatectl set-ntp true",
        )
    return peer


def _signed(der: bytes, seconds: int, leaf: str, words: tuple[str, ...]) -> bytes:
    fields = (_DOMAIN, der, seconds.to_bytes(8, "big"), leaf.lower().encode())
    said = tuple(each.encode() for each in words)
    return b"".join(text(each) for each in (*fields, *said))
