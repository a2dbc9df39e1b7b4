"""CA pins: how a host knows the cluster before it has ever met it.

A pin is the SHA-256 of the SubjectPublicKeyInfo (RFC 7469 §2.4 has the reasons) of a host CA
certificate. One match is enough, and only the CAs that match are trusted.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teleport_lite.errors import Denied, Malformed
from teleport_lite.pki.keys import UNREADABLE, one_pem, plain

_PIN = re.compile(r"sha256:[0-9a-fA-F]{64}")
# A pin a line; hundreds of rotations would fit.
_MAX_FILE = 64 * 1024
# A P-256 CA takes 700 characters; an RSA one with many extensions stays below this.
MAX_CA = 16 * 1024


def pin_of(ca_pem: str) -> str:
    """Raises Malformed if that is not one CA certificate."""
    return _pin(load_ca(ca_pem))


def issuer_pin(cert_pem: str, ca_pems: Iterable[str]) -> str:
    """The pin of the one of these CAs that has signed a certificate of our own, "" if none has.

    While a CA is rotated two have the same name; the signature tells them apart.
    """
    try:
        leaf = x509.load_pem_x509_certificate(one_pem(cert_pem, "CERTIFICATE"))
    except UNREADABLE as why:
        raise Malformed(f"certificate can not be read: {plain(why)}") from why
    for ca in map(load_ca, ca_pems):
        with suppress(ValueError, TypeError, InvalidSignature):
            leaf.verify_directly_issued_by(ca)
            return _pin(ca)
    return ""


def parse_pins(values: Iterable[str]) -> tuple[str, ...]:
    """Each value is a pin or the absolute path of a file with a pin a line; "" is no pin.

    Lower case, without repetitions. Raises Malformed naming the one that is wrong.
    """
    pins = [pin for value in values if value for pin in _read(value)]
    return tuple(dict.fromkeys(pins))


def pinned(ca_pems: Sequence[str], pins: Sequence[str]) -> list[str]:
    """Those of `ca_pems` that have one of the pins, re-encoded: nothing comes along with them.

    Raises Denied, with the pins expected and seen, if there is none.
    """
    seen = [(_pin(ca), ca) for ca in map(load_ca, ca_pems)]
    matched = [ca for pin, ca in seen if any(_same(pin, each) for each in pins)]
    if not matched:
        expected, found = ", ".join(pins) or "none", ", ".join(pin for pin, _ in seen) or "none"
        raise Denied(
            f"the cluster does not have the pinned CA, expected {expected}, seen {found}",
            hint="tctl status",
        )
    return [ca.public_bytes(Encoding.PEM).decode() for ca in matched]


def load_ca(pem: str) -> x509.Certificate:
    """One self-signed CA certificate. Raises Malformed.

    One: what follows a pinned certificate in the same text would become trusted too.
    """
    try:
        if len(pem) > MAX_CA:
            raise ValueError(f"longer than {MAX_CA} characters")
        ca = x509.load_pem_x509_certificate(one_pem(pem, "CERTIFICATE"))
        if not ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise ValueError("it is not a CA")
        ca.verify_directly_issued_by(ca)
    except (*UNREADABLE, InvalidSignature) as why:
        raise Malformed(f"CA certificate can not be used: {plain(why)}") from why
    return ca


def _pin(ca: x509.Certificate) -> str:
    spki = ca.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(spki).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.lower().encode(), other.lower().encode())


def _read(value: str) -> list[str]:
    if value.startswith("/"):
        return [_one(line, f" in {value[:200]}") for line in _lines(value)]
    return [_one(value, "")]


def _one(pin: str, where: str) -> str:
    if not _PIN.fullmatch(pin):
        raise Malformed(
            f"CA pin {pin[:80]!a}{where} is not valid, expected sha256: and 64 hex digits",
            hint="tctl status",
        )
    return pin.lower()


def _lines(path: str) -> list[str]:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MAX_FILE + 1)
        if len(raw) > _MAX_FILE:
            raise ValueError(f"it is longer than {_MAX_FILE} bytes")
        lines = [line.strip() for line in raw.decode("ascii").splitlines()]
    except (OSError, ValueError) as why:
        reason = why.strerror if isinstance(why, OSError) else plain(why)
        raise Malformed(f"CA pin file {path[:200]!a} can not be read: {reason}") from why
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise Malformed(f"CA pin file {path[:200]!a} has no pin in it")
    return lines
