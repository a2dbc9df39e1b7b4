"""What a stranger wants, from the first bytes of the connection. Pure: bytes in, a value out.

    SSH-...            SSH (RFC 4253 §4.2)
    0x16 0x03 ...      TLS; the ClientHello (RFC 8446 §4.1.2) names server and protocols
    GET, POST, ...     HTTP

The ClientHello is read strictly. It may come in several TLS records. Bytes that can become none
of these are refused at the first one that does not fit.
"""

from dataclasses import dataclass
from enum import StrEnum

from teleport_lite.errors import Malformed

# Browsers send 2 kB, with post-quantum key shares; a bundle of tickets may double that.
MAX_HEAD = 16 * 1024
# A hello of 16 KiB in records of one byte would have to be put together 16,000 times.
MAX_RECORDS = 64
_BANNER = b"SSH-"
_VERBS = tuple(
    f"{verb} ".encode()
    for verb in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT")
)
# RFC 8446 §5.1, §4 and RFC 6066 §3, RFC 7301 §3.1
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _HOST_NAME = 0, 16, 0


class Kind(StrEnum):
    SSH = "ssh"
    TLS = "tls"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first bytes say. `alpn` and `sni` are a stranger's words, printable and no more."""

    kind: Kind
    alpn: tuple[str, ...] = ()  # in the order of preference
    sni: str = ""  # lower case


def look(head: bytes, *, final: bool = False) -> Opening | None:
    """None: more bytes are needed, and with `final` none will come. Raises Malformed."""
    found = read(head)
    if isinstance(found, Opening):
        return found
    if final:
        raise Malformed("the connection ended before it said what it is for")
    return None


def read(head: bytes) -> Opening | int:
    """Like `look`; a number is how long `head` has to be before there is more to say."""
    if not head:
        return 1
    if head[0] == _HANDSHAKE:
        return _read_tls(head)
    if head.startswith(_BANNER):
        return Opening(Kind.SSH)
    if head.startswith(_VERBS):
        return Opening(Kind.HTTP)
    if any(each.startswith(head) for each in (_BANNER, *_VERBS)):
        return len(head) + 1
    raise Malformed("the connection begins neither with SSH nor with TLS nor with HTTP")


def _read_tls(head: bytes) -> Opening | int:
    """Puts the handshake message together (RFC 8446 §5.1)."""
    message, at = b"", 0
    for _ in range(MAX_RECORDS):
        header = head[at : at + 5]
        # The minor number is "legacy" and to be ignored; the major one was always 3.
        if header[0:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise Malformed("the TLS connection does not begin with a handshake")
        if len(header) < 5:
            return at + 5
        size = int.from_bytes(header[3:5], "big")
        if not size:  # too long a one is too long a hello, below
            raise Malformed("a TLS record of 0 bytes is not allowed")
        message += head[at + 5 : at + 5 + size]
        at += 5 + size
        left = _missing(message)
        if max(at, min(at, len(head)) + left) > MAX_HEAD:
            raise Malformed(f"the ClientHello is too long, the most we read is {MAX_HEAD} bytes")
        if len(head) < at:
            # No earlier than the next thing to judge: the first four bytes, then the record.
            return at if len(message) >= 4 else min(at, at - size + 4)
        if left <= 0:
            return _read_hello(message, left)
    raise Malformed(f"the ClientHello comes in more than {MAX_RECORDS} records")


def _missing(message: bytes) -> int:
    """How many bytes of the ClientHello are not there yet; below zero: too many are there."""
    if message[:1] not in (b"", bytes([_CLIENT_HELLO])):
        raise Malformed("the TLS connection does not begin with a ClientHello")
    if len(message) < 4:
        return 4 - len(message)
    return 4 + int.from_bytes(message[1:4], "big") - len(message)


def _read_hello(message: bytes, left: int) -> Opening:
    try:
        if left:
            raise ValueError("something follows it in the same record")
        return _hello(_Fields(message[4:]))
    except ValueError as why:
        raise Malformed(f"the ClientHello can not be read: {why}") from why


class _Fields:
    """Takes fields off the front; ValueError when there is not enough."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError("it is cut off")
        self._at += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int, low: int, high: int) -> "_Fields":
        """A length in `size` bytes, within these limits, then so many bytes (RFC 8446 §3.4)."""
        length = self.number(size)
        if not low <= length <= high:
            raise ValueError(f"a field has {length} bytes")
        return _Fields(self.take(length))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def more(self) -> bool:
        return self._at < len(self._data)

    def end(self) -> None:
        if self.more():
            raise ValueError("a field is longer than what is in it")


def _hello(fields: _Fields) -> Opening:
    if fields.number(2) >> 8 != 3:
        raise ValueError("it is of no version of TLS")
    fields.take(32)  # random
    fields.vector(1, 0, 32)  # legacy_session_id
    if len(fields.vector(2, 2, 0xFFFE).rest()) % 2:
        raise ValueError("half a cipher suite")
    fields.vector(1, 1, 0xFF)  # legacy_compression_methods
    if not fields.more():  # before TLS 1.2 that was fine; the handshake will tell
        return Opening(Kind.TLS)
    extensions = _extensions(fields.vector(2, 0, 0xFFFF))
    fields.end()
    return Opening(
        Kind.TLS,
        _alpn(extensions[_ALPN]) if _ALPN in extensions else (),
        _sni(extensions[_SERVER_NAME]) if _SERVER_NAME in extensions else "",
    )


def _extensions(fields: _Fields) -> dict[int, _Fields]:
    found: dict[int, _Fields] = {}
    while fields.more():
        number = fields.number(2)
        if number in found:  # RFC 8446 §4.2; two answers to one question are how readers disagree
            raise ValueError(f"extension {number} comes twice")
        found[number] = fields.vector(2, 0, 0xFFFF)
    return found


def _sni(fields: _Fields) -> str:
    names = fields.vector(2, 1, 0xFFFF)
    fields.end()
    if names.number(1) != _HOST_NAME:
        raise ValueError("the server name is of an unknown type")
    name = names.vector(2, 1, 255).rest()
    names.end()  # RFC 6066 §3: one name of each type, and there is one type
    if not all(0x21 <= byte <= 0x7E for byte in name):
        raise ValueError("the server name is not printable")
    return name.decode("ascii").lower()


def _alpn(fields: _Fields) -> tuple[str, ...]:
    """The names we could know. Browsers put in some that nobody knows, of any bytes (RFC 8701)."""
    names = fields.vector(2, 2, 0xFFFF)
    fields.end()
    found = []
    while names.more():
        name = names.vector(1, 1, 0xFF).rest()
        if all(0x21 <= byte <= 0x7E for byte in name):
            found.append(name.decode("ascii"))
    return tuple(found)
