"""First packets: of real TLS clients, and put together by hand to be wrong in one place."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace


def real_hello(*, alpn: Sequence[str] = (), sni: str | None = None) -> bytes:
    """What OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    sent = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=sni)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("a handshake without an answer")


def sized(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(number: int, data: bytes) -> bytes:
    return number.to_bytes(2, "big") + sized(2, data)


def sni_of(name: bytes) -> bytes:
    return extension(0, sized(2, b"\0" + sized(2, name)))


def alpn_of(*names: bytes) -> bytes:
    return extension(16, sized(2, b"".join(sized(1, name) for name in names)))


@dataclass(frozen=True)
class HandMade:
    """A ClientHello in its parts (RFC 8446 §4.1.2)."""

    version: bytes = b"\x03\x03"
    random: bytes = bytes(32)
    session: bytes = sized(1, bytes(32))
    suites: bytes = sized(2, b"\x13\x01\x13\x02")
    compression: bytes = sized(1, b"\0")
    extensions: bytes = field(
        default_factory=lambda: sized(2, sni_of(b"Auth.Example") + alpn_of(b"h2", b"http/1.1"))
    )

    def message(self) -> bytes:
        parts = self.version, self.random, self.session, self.suites, self.compression
        body = b"".join(parts) + self.extensions
        return b"\x01" + sized(3, body)

    def wire(self, *, record: int = 1 << 14) -> bytes:
        return records(self.message(), record)

    def but(self, **changes: bytes) -> "HandMade":
        return replace(self, **changes)


def records(message: bytes, size: int) -> bytes:
    """In TLS records of at most `size` bytes."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + sized(2, part) for part in parts)
