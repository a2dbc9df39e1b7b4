"""Keys and certificates of ACME (RFC 8555) with the tls-alpn-01 challenge (RFC 8737)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from teleport_lite.errors import Malformed
from teleport_lite.pki.keys import UNREADABLE, new_tls_key, plain
from teleport_lite.secret import Secret

# RFC 8737 §6.1: id-pe-acmeIdentifier
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
# DER of an OCTET STRING with 32 bytes, a SHA-256 digest (RFC 8737 §3)
_OCTETS_32 = b"\x04\x20"
# Looked at once, within seconds, by somebody whose clock may be off.
CHALLENGE_LIFE = timedelta(hours=1)

EcKey = ec.EllipticCurvePrivateKey


def ec_key(pem: Secret) -> EcKey:
    """Raises Malformed."""
    try:
        key = serialization.load_pem_private_key(pem.reveal().encode(), None)
    except UNREADABLE as why:
        raise Malformed(f"the key can not be read: {plain(why)}") from why
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Malformed("the key is not an ECDSA key")
    return key


def order_request(key: Secret, names: Sequence[str]) -> bytes:
    """PKCS#10, PEM, for a certificate of all these names."""
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    found = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    request = builder.add_extension(found, critical=False).sign(ec_key(key), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def challenge_cert(name: str, digest: bytes, now: datetime) -> tuple[str, Secret]:
    """The self-signed certificate that proves to an authority that this host is `name`, its key.

    `digest` is SHA-256 of the key authorization. PEM.
    """
    pem = new_tls_key()
    key = ec_key(pem)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CHALLENGE_LIFE)
        .not_valid_after(now + CHALLENGE_LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(
            x509.UnrecognizedExtension(ACME_IDENTIFIER, _OCTETS_32 + digest), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    return cert.public_bytes(serialization.Encoding.PEM).decode(), pem
