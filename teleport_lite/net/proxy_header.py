"""The PROXY protocol: who a relayed connection really comes from. Pure: bytes in, a value out.

Version 1 is a line of text, version 2 is binary and may carry extra fields (TLVs); both as in
haproxy's doc/proxy-protocol.txt. Whether a header is believed is not decided here.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from teleport_lite.errors import Malformed
from teleport_lite.net.peek import MAX_HEAD

Address = tuple[str, int]

# §2.1: "a 108-byte buffer is always enough for all the line and a trailing zero".
MAX_LINE = 107
# Ours carries a certificate. It has to fit into what is looked at of a connection.
MAX_HEADER = MAX_HEAD
_WORD = b"PROXY "
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_LOCAL, _PROXY = 0x20, 0x21  # version 2 and the command
_TCP4, _TCP6 = 0x11, 0x21
# Family or transport not said, and unix sockets: no address we could show (§2.2).
_NAMELESS = frozenset({0x00, 0x31, 0x32})


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """`source` is None for the relay's own connections (LOCAL, UNKNOWN), like health checks."""

    length: int  # bytes it takes on the wire
    source: Address | None = None
    target: Address | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()

    def tlv(self, kind: int) -> bytes | None:
        """The first of that kind."""
        return next((value for number, value in self.tlvs if number == kind), None)


def read_header(head: bytes) -> ProxyHeader | int | None:
    """A number: how long `head` has to be before there is more to say. None: it is no header.

    Raises Malformed for what begins like one and is none.
    """
    for mark, read in ((_WORD, _read_line), (_SIGNATURE, _read_binary)):
        if head.startswith(mark):
            return read(head)
        if mark.startswith(head):
            return len(head) + 1
    return None


def write_header(source: Address, target: Address, tlvs: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """Version 2. Raises Malformed if it gets longer than a reader of ours would take."""
    ends = [ipaddress.ip_address(plain_address(host)) for host, _ in (source, target)]
    if len({each.version for each in ends}) == 2:  # the header has room for one family only
        ends = [_as_ipv6(each) for each in ends]
    body = b"".join(each.packed for each in ends)
    body += b"".join(port.to_bytes(2, "big") for _, port in (source, target))
    family = _TCP4 if ends[0].version == 4 else _TCP6
    for kind, value in tlvs:
        body += bytes([kind]) + len(value).to_bytes(2, "big") + value
    if len(_SIGNATURE) + 4 + len(body) > MAX_HEADER:
        raise Malformed(f"a PROXY header can not have more than {MAX_HEADER} bytes")
    return _SIGNATURE + bytes([_PROXY, family]) + len(body).to_bytes(2, "big") + body


def plain_address(host: str) -> str:
    """One way to write each address: no IPv4 in IPv6's clothes, no scope. Raises ValueError."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def _as_ipv6(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv6Address:
    return ip if isinstance(ip, ipaddress.IPv6Address) else ipaddress.IPv6Address(f"::ffff:{ip}")


def _read_line(head: bytes) -> ProxyHeader | int:
    end = head.find(b"\r\n", 0, MAX_LINE)
    if end < 0:
        if len(head) >= MAX_LINE:
            raise Malformed(f"the PROXY line is longer than {MAX_LINE} bytes")
        return len(head) + 1
    try:
        words = head[:end].decode("ascii").split(" ")
        if words[1] == "UNKNOWN":  # §2.1: whatever follows it is ignored
            return ProxyHeader(end + 2)
        _, family, source, target, from_port, to_port = words
        read_ip = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}[family]
        return ProxyHeader(
            end + 2,
            (plain_address(str(read_ip(source))), _port(from_port)),
            (plain_address(str(read_ip(target))), _port(to_port)),
        )
    except (ValueError, KeyError) as why:
        raise Malformed("the PROXY line can not be read", log=repr(why)) from why


def _port(word: str) -> int:
    if not _PORT.fullmatch(word) or int(word) > 0xFFFF:
        raise ValueError("not a port")
    return int(word)


def _read_binary(head: bytes) -> ProxyHeader | int:
    if len(head) < 16:
        return 16
    command, family, size = head[12], head[13], int.from_bytes(head[14:16], "big")
    length = 16 + size
    if command not in (_LOCAL, _PROXY):
        raise Malformed("the PROXY header has a version or command we do not know")
    if length > MAX_HEADER:
        raise Malformed(f"the PROXY header has {length} bytes, the most we read is {MAX_HEADER}")
    if len(head) < length:
        return length
    if command == _LOCAL:  # §2.2: "the receiver must accept this connection as valid"
        return ProxyHeader(length)
    body = head[16:length]
    if family in _NAMELESS:
        return ProxyHeader(length)
    try:
        wide = {_TCP4: 4, _TCP6: 16}[family]
        if len(body) < 2 * wide + 4:
            raise ValueError("addresses are cut off")
        kind = socket.AF_INET if wide == 4 else socket.AF_INET6
        hosts = [socket.inet_ntop(kind, body[at : at + wide]) for at in (0, wide)]
        ports = [int.from_bytes(body[at : at + 2], "big") for at in (2 * wide, 2 * wide + 2)]
        source, target = ((plain_address(h), p) for h, p in zip(hosts, ports, strict=True))
        return ProxyHeader(length, source, target, _tlvs(body[2 * wide + 4 :]))
    except (ValueError, KeyError) as why:
        raise Malformed("the PROXY header can not be read", log=repr(why)) from why


def _tlvs(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """§2.2: type, length in two bytes, value; nothing may be left over."""
    found, at = [], 0
    while at < len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        if at + 3 > len(data) or end > len(data):
            raise ValueError("an extra field is cut off")
        found.append((data[at], data[at + 3 : end]))
        at = end
    return tuple(found)
