"""Certificates of the web port: which names they are for and until when. They are not ours to
judge: whether they are trusted is between a browser and whoever issued them."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from teleport_lite.errors import Malformed
from teleport_lite.pki.keys import UNREADABLE, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class WebCert:
    """What the first certificate of a chain says. Names are in lower case."""

    names: tuple[str, ...]
    starts: datetime
    ends: datetime

    def covers(self, name: str) -> bool:
        """RFC 9525 §6.3: a wildcard stands for one whole label, the first one."""
        name = name.lower().rstrip(".")
        return any(
            each == name or (each.startswith("*.") and each[2:] == name.partition(".")[2])
            for each in self.names
        )


def web_cert(chain_pem: str) -> WebCert:
    """Raises Malformed."""
    try:
        leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
        names: list[str] = []
        try:
            found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = found.get_values_for_type(x509.DNSName)
        except x509.ExtensionNotFound:
            pass
        return WebCert(
            names=tuple(name.lower() for name in names),
            starts=leaf.not_valid_before_utc,
            ends=leaf.not_valid_after_utc,
        )
    except UNREADABLE as why:
        raise Malformed(f"the certificate can not be read: {plain(why)}") from why
