"""Who a relayed connection comes from, as a header in front of it says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.net.proxy_header import (
    MAX_HEADER,
    MAX_LINE,
    ProxyHeader,
    plain_address,
    read_header,
    write_header,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR, SIX = ("203.0.113.7", 40000), ("2001:db8::7", 40000)
HERE, HERE6 = ("192.0.2.1", 443), ("2001:db8::1", 443)


def stepwise(wire: bytes) -> ProxyHeader | None:
    wanted = 1
    while True:
        assert wanted <= len(wire), "it wants more than there is"
        found = read_header(wire[:wanted])
        if not isinstance(found, int):
            return found
        assert found > wanted, "it would wait for ever"
        wanted = found


def binary(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


LINES = {
    b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n": (FOUR, HERE),
    b"PROXY TCP6 2001:db8::7 2001:DB8:0::1 40000 443\r\n": (SIX, HERE6),
    b"PROXY TCP4 203.0.113.7 192.0.2.1 0 65535\r\n": (("203.0.113.7", 0), ("192.0.2.1", 65535)),
    b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 40000 443\r\n": (FOUR, HERE),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN ffff:f...f ::1 whatever 0\r\n": (None, None),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("behind", [b"", b"\x16\x03\x01", b"\r\n"])
def test_a_line_names_both_ends(line: bytes, behind: bytes) -> None:
    assert read_header(line + behind) == stepwise(line) == ProxyHeader(len(line), *LINES[line])


# haproxy's own example of the longest line there can be (§2.1).
LONGEST = b"PROXY UNKNOWN " + b"f" * (MAX_LINE - 16) + b"\r\n"


def test_the_longest_line_just_fits() -> None:
    assert stepwise(LONGEST) == ProxyHeader(MAX_LINE)
    with pytest.raises(Malformed, match="longer than 107 bytes"):
        read_header(b"PROXY UNKNOWN " + b"f" * MAX_LINE)
    with pytest.raises(Malformed, match="longer than 107 bytes"):
        read_header(LONGEST[:-2] + b"f\r\n")


@pytest.mark.parametrize(
    "words",
    [
        "TCP4 203.0.113.7 192.0.2.1 40000",
        "TCP4 203.0.113.7 192.0.2.1 40000 443 x",
        "TCP4 203.0.113.7  192.0.2.1 40000 443",
        " TCP4 203.0.113.7 192.0.2.1 40000 443",
        "TCP4 2001:db8::7 2001:db8::1 40000 443",
        "TCP6 203.0.113.7 192.0.2.1 40000 443",
        "TCP4 203.0.113 192.0.2.1 40000 443",
        "TCP4 0203.0.113.7 192.0.2.1 40000 443",
        "TCP4 web1.example 192.0.2.1 40000 443",
        "TCP4 203.0.113.7 192.0.2.1 65536 443",
        "TCP4 203.0.113.7 192.0.2.1 -1 443",
        "TCP4 203.0.113.7 192.0.2.1 +1 443",
        "TCP4 203.0.113.7 192.0.2.1 007 443",
        "TCP4 203.0.113.7 192.0.2.1 40000 4 4 3",
        "UDP4 203.0.113.7 192.0.2.1 40000 443",
        "tcp4 203.0.113.7 192.0.2.1 40000 443",
        "",
    ],
)
def test_a_line_that_is_wrong_in_one_place_is_refused(words: str) -> None:
    with pytest.raises(Malformed, match="PROXY line can not be read"):
        read_header(f"PROXY {words}\r\n".encode())


@pytest.mark.parametrize(
    ("source", "target"), [(FOUR, HERE), (SIX, HERE6), (FOUR, HERE6), (SIX, HERE)]
)
def test_what_we_write_we_read(source: tuple[str, int], target: tuple[str, int]) -> None:
    tlvs = ((0xE4, b"signed"), (0x05, b""), (0xE4, b"again"))
    wire = write_header(source, target, tlvs)
    header = read_header(wire + b"\x16 and more")
    assert header == stepwise(wire) == ProxyHeader(len(wire), source, target, tlvs)
    assert isinstance(header, ProxyHeader)
    assert header.tlv(0xE4) == b"signed"
    assert header.tlv(0x01) is None


def test_the_bytes_are_those_of_the_specification() -> None:
    assert write_header(FOUR, HERE) == SIGNATURE + bytes.fromhex(
        "21 11 000c cb007107 c0000201 9c40 01bb"
    )
    assert write_header(SIX, HERE6)[12:16] == bytes.fromhex("21 21 0024")


@pytest.mark.parametrize(
    "wire",
    [
        binary(0x20, 0x00, b""),
        binary(0x20, 0x11, bytes(12)),  # LOCAL: whatever the addresses
        binary(0x20, 0xFF, b"anything"),
        binary(0x21, 0x00, b"unspecified"),
        binary(0x21, 0x31, bytes(216)),  # a unix socket
        binary(0x21, 0x32, bytes(216)),  # and one of datagrams
    ],
)
def test_connections_of_the_relay_itself_have_no_source(wire: bytes) -> None:
    assert read_header(wire) == stepwise(wire) == ProxyHeader(len(wire))


@pytest.mark.parametrize(
    "wire",
    [
        binary(0x11, 0x11, bytes(12)),  # version 1 in a binary header
        binary(0x22, 0x11, bytes(12)),  # a command nobody has defined
        binary(0x21, 0x12, bytes(12)),  # datagrams
        binary(0x21, 0x22, bytes(36)),
        binary(0x21, 0x33, bytes(216)),
        binary(0x21, 0x41, bytes(36)),
        binary(0x21, 0x11, bytes(11)),
        binary(0x21, 0x21, bytes(35)),
        binary(0x21, 0x21, bytes(12)),
        binary(0x21, 0x11, bytes(12) + b"\xe4"),
        binary(0x21, 0x11, bytes(12) + b"\xe4\0"),
        binary(0x21, 0x11, bytes(12) + b"\xe4\0\x05four"),
    ],
)
def test_a_binary_header_that_is_wrong_in_one_place_is_refused(wire: bytes) -> None:
    with pytest.raises(Malformed, match="PROXY header"):
        read_header(wire)


def test_a_length_that_is_a_lie_is_refused_at_once_or_eats_only_the_header() -> None:
    with pytest.raises(Malformed, match=f"65551 bytes, the most we read is {MAX_HEADER}"):
        read_header(SIGNATURE + b"\x21\x11\xff\xff")
    wire = SIGNATURE + b"\x21\x11\x00\x20" + bytes(12)
    assert read_header(wire) == 16 + 32


def test_one_of_ours_is_never_longer_than_we_read() -> None:
    room = MAX_HEADER - 28 - 3
    assert read_header(write_header(FOUR, HERE, [(0xE4, bytes(room))])) is not None
    with pytest.raises(Malformed, match=f"more than {MAX_HEADER} bytes"):
        write_header(FOUR, HERE, [(0xE4, bytes(room + 1))])


@pytest.mark.parametrize(
    "head", [b"\x16\x03\x01", b"SSH-2.0-x", b"GET / ", b"POST / ", b"PUT", b"\n", b"\r\n\r\r"]
)
def test_other_beginnings_are_no_header(head: bytes) -> None:
    assert read_header(head) is None
    assert stepwise(head) is None


@pytest.mark.parametrize("start", [b"PROXY TCP4 1", SIGNATURE + b"\x21\x11\x00\x0c1234"])
def test_what_could_become_a_header_is_waited_for(start: bytes) -> None:
    for size in range(len(start) + 1):
        found = read_header(start[:size])
        assert isinstance(found, int)
        assert found > size


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_each_address_is_written_in_one_way(written: str, plain: str) -> None:
    assert plain_address(written) == plain


@settings(max_examples=500, deadline=None)
@given(
    start=st.sampled_from(
        [b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::1 ", SIGNATURE, SIGNATURE + b"\x21\x11\0"]
    ),
    rest=st.binary(max_size=150),
    end=st.sampled_from([b"", b"\r\n"]),
)
def test_any_bytes_are_a_header_or_none_or_malformed(start: bytes, rest: bytes, end: bytes) -> None:
    wire = start + rest + end
    try:
        found = read_header(wire)
    except Malformed:
        return
    if isinstance(found, int):
        assert len(wire) < found <= MAX_HEADER
    elif found is not None:
        assert found.length <= len(wire)
        for address in (found.source, found.target):
            if address is not None:
                assert plain_address(address[0]) == address[0]
                assert 0 <= address[1] <= 0xFFFF


@pytest.mark.parametrize(("source", "target"), [(FOUR, HERE), (SIX, HERE6)])
def test_a_header_of_addresses_alone_is_whole(
    source: tuple[str, int], target: tuple[str, int]
) -> None:
    wire = write_header(source, target)
    assert read_header(wire) == stepwise(wire) == ProxyHeader(len(wire), source, target)


def test_the_longest_line_has_107_bytes_with_its_end() -> None:
    line = b"PROXY UNKNOWN ".ljust(105, b"x")
    assert read_header(line + b"\r\n") == ProxyHeader(107)
    assert read_header(line + b"\r") == 107
    for longer in (line + b"xx", line + b"x\r", line + b"x\r\n"):
        with pytest.raises(Malformed, match="longer than 107 bytes"):
            read_header(longer)
