"""An OpenSSH certificate taken apart, field by field (PROTOCOL.certkeys). No verdict here.

`cryptography` has a loader too, and `verify.py` asks it as well. It does not show the bytes of
the CA key, the algorithm of the signature, or whether an option had a value at all, and each
of the three decides something.
"""

from dataclasses import dataclass

from teleport_lite.pki.wire import Reader, pairs, texts

SUFFIX = "-cert-v01@openssh.com"
# How many fields the public key takes between the nonce and the serial.
_KEY_FIELDS = {
    "ssh-ed25519": 1,  # point
    "ssh-rsa": 2,  # exponent, modulus
    "ecdsa-sha2-nistp256": 2,  # curve, point
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
}
USER = 1  # SSH_CERT_TYPE_USER


@dataclass(frozen=True, slots=True, kw_only=True)
class SshCert:
    """What the bytes say. Nobody has vouched for it yet."""

    key_type: str  # with the suffix
    serial: int
    type: int
    key_id: bytes
    principals: tuple[bytes, ...]
    valid_after: int
    valid_before: int
    critical: tuple[tuple[bytes, bytes], ...]
    extensions: tuple[tuple[bytes, bytes], ...]
    ca_blob: bytes
    signature_algorithm: bytes


def read_ssh_cert(blob: bytes) -> SshCert:
    """Raises ValueError for anything that is not exactly one certificate."""
    reader = Reader(blob)
    key_type = reader.text().decode("ascii", "replace")
    fields = _KEY_FIELDS.get(key_type.removesuffix(SUFFIX))
    if fields is None or not key_type.endswith(SUFFIX):
        raise ValueError("not a certificate of a key type we take")
    reader.text()  # nonce
    for _ in range(fields):
        reader.text()
    cert = SshCert(
        key_type=key_type,
        serial=reader.number(8),
        type=reader.number(4),
        key_id=reader.text(),
        principals=tuple(texts(reader.text())),
        valid_after=reader.number(8),
        valid_before=reader.number(8),
        critical=tuple(pairs(reader.text())),
        extensions=tuple(pairs(reader.text())),
        ca_blob=_after_extensions(reader),
        signature_algorithm=_algorithm(reader.text()),
    )
    reader.end()
    return cert


def _after_extensions(reader: Reader) -> bytes:
    reader.text()  # reserved: ignored, as the format asks
    return reader.text()


def _algorithm(signature: bytes) -> bytes:
    reader = Reader(signature)
    algorithm = reader.text()
    reader.text()
    reader.end()
    return algorithm
