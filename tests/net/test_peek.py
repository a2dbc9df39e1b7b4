"""What a stranger wants, from the first bytes."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.net.peek import MAX_HEAD, MAX_RECORDS, Kind, Opening, look, read
from tests.net.hellos import HandMade, alpn_of, extension, real_hello, records, sized, sni_of

HELLO = HandMade()
SEEN = Opening(Kind.TLS, ("h2", "http/1.1"), "auth.example")


def stepwise(wire: bytes) -> Opening:
    """As a port reads it: never before there are as many bytes as were asked for."""
    wanted, steps = 1, 0
    while True:
        assert wanted <= len(wire), "it wants more than there is"
        found = read(wire[:wanted])
        if isinstance(found, Opening):
            return found
        assert found > wanted, "it would wait for ever"
        wanted, steps = found, steps + 1


@pytest.mark.parametrize("alpn", [(), ("teleport-auth@test.example",), ("h2", "http/1.1")])
@pytest.mark.parametrize("sni", [None, "proxy.teleport-lite.internal"])
def test_a_real_hello_says_what_it_wants(alpn: tuple[str, ...], sni: str | None) -> None:
    wire = real_hello(alpn=alpn, sni=sni)
    wanted = Opening(Kind.TLS, alpn, sni or "")
    assert look(wire) == look(wire, final=True) == stepwise(wire) == wanted
    assert look(wire + b"\x14\x03\x03\0\x01\x01 and more") == wanted


@pytest.mark.parametrize("record", [1 << 14, 100, 37, 4])
def test_a_hello_in_several_records_is_one_hello(record: int) -> None:
    wire = HELLO.wire(record=record)
    assert stepwise(wire) == SEEN
    for size in range(len(wire)):
        assert look(wire[:size]) is None
        with pytest.raises(Malformed, match="ended before it said"):
            look(wire[:size], final=True)
    assert look(wire) == SEEN


def test_a_hello_may_be_spread_over_so_many_records_and_no_more() -> None:
    message = HELLO.message()
    size = -(-len(message) // MAX_RECORDS)
    assert look(records(message, size)) == SEEN
    with pytest.raises(Malformed, match=f"more than {MAX_RECORDS} records"):
        look(records(message, 1))


@pytest.mark.parametrize("head", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"SSH-1.5-old\n", b"SSH-"])
def test_ssh_is_known_by_four_letters(head: bytes) -> None:
    assert look(head) == stepwise(head) == Opening(Kind.SSH)


@pytest.mark.parametrize(
    "verb", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"]
)
def test_http_is_known_by_its_verb(verb: str) -> None:
    head = f"{verb} / HTTP/1.1\r\n\r\n".encode()
    assert look(head) == stepwise(head) == Opening(Kind.HTTP)
    for size in range(len(verb) + 1):
        assert look(head[:size]) is None


# The first byte that is impossible: all before it could still have become something.
GARBAGE = [
    (b"", b"\0"),
    (b"", b"\x80"),  # a hello of SSL 2
    (b"", b"\xff" * 100),
    (b"", b" GET / HTTP/1.1"),
    (b"S", b"MTP"),
    (b"SSH", b" 2.0"),
    (b"G", b"OT"),
    (b"GET", b"\t/"),
    (b"P", b"ROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"),
    (b"", b"get / HTTP/1.1"),
    (b"", b"\r\n\r\n\0\r\nQUIT\n"),
    (b"\x16", b"\x02\0\0\x20"),
    (b"\x16\x03\x01\x00", b"\x00"),  # RFC 8446 §5.1: no empty handshake records
    (b"\x16\x03\x01\x40", b"\x01"),
    (b"\x16\x03\x01\x01\x00", b"\x02"),  # a ServerHello
    (b"\x16\x03\x01\x00\x01\x01", b"\x17"),  # then application data
    (b"\x16\x03\x01\x00\x01\x01\x16", b"\x04"),
]


@pytest.mark.parametrize(("fine", "bad"), GARBAGE, ids=lambda b: b[:12].hex() or "start")
def test_garbage_is_refused_at_the_first_byte_that_does_not_fit(fine: bytes, bad: bytes) -> None:
    for size in range(len(fine) + 1):
        assert look(fine[:size]) is None
    with pytest.raises(Malformed):
        look(fine + bad[:1])
    with pytest.raises(Malformed):
        look(fine + bad)


@pytest.mark.parametrize("length", [MAX_HEAD, 1 << 16, (1 << 24) - 1])
def test_a_hello_that_is_too_long_is_refused_when_it_says_so(length: int) -> None:
    start = b"\x16\x03\x01\x20\x00\x01" + length.to_bytes(3, "big")
    assert look(start[:-1]) is None
    with pytest.raises(Malformed, match=f"too long, the most we read is {MAX_HEAD} bytes"):
        look(start)


def test_the_longest_hello_just_fits() -> None:
    def of(total: int) -> bytes:
        room = total - len(HELLO.but(extensions=sized(2, extension(21, b""))).wire())
        return HELLO.but(extensions=sized(2, extension(21, bytes(room)))).wire()

    assert len(of(MAX_HEAD)) == MAX_HEAD
    assert stepwise(of(MAX_HEAD)) == Opening(Kind.TLS)
    with pytest.raises(Malformed, match="too long"):
        look(of(MAX_HEAD + 1))


def test_many_records_can_not_make_it_longer_either() -> None:
    record = b"\x16\x03\x01" + sized(2, bytes(500))
    first = b"\x16\x03\x01" + sized(2, b"\x01\x00\x3f\x00" + bytes(500))
    with pytest.raises(Malformed, match="too long"):
        look(first + record * 40)


WRONG = {
    "of no version of TLS": HELLO.but(version=b"\x02\x00"),
    "a session id that is too long": HELLO.but(session=sized(1, bytes(33))),
    "no cipher suite": HELLO.but(suites=sized(2, b"")),
    "half a cipher suite": HELLO.but(suites=sized(2, bytes(3))),
    "no compression method": HELLO.but(compression=sized(1, b"")),
    "extensions cut off": HELLO.but(extensions=HELLO.extensions[:-1]),
    "extensions with more behind": HELLO.but(extensions=HELLO.extensions + b"\0"),
    "half an extension": HELLO.but(extensions=sized(2, b"\0")),
    "an extension twice": HELLO.but(extensions=sized(2, sni_of(b"a") + sni_of(b"b"))),
    "an unknown extension twice": HELLO.but(extensions=sized(2, extension(9999, b"") * 2)),
    "a server name of another type": HELLO.but(
        extensions=sized(2, extension(0, sized(2, b"\1" + sized(2, b"a"))))
    ),
    "two server names": HELLO.but(
        extensions=sized(2, extension(0, sized(2, (b"\0" + sized(2, b"a")) * 2)))
    ),
    "no server name": HELLO.but(extensions=sized(2, extension(0, b""))),
    "an empty server name": HELLO.but(extensions=sized(2, sni_of(b""))),
    "a server name that is too long": HELLO.but(extensions=sized(2, sni_of(b"a" * 256))),
    "a server name with a line break": HELLO.but(extensions=sized(2, sni_of(b"a\nb"))),
    "a server name that is not ASCII": HELLO.but(extensions=sized(2, sni_of("ä".encode()))),
    "a server name with more behind": HELLO.but(
        extensions=sized(2, extension(0, sized(2, b"\0" + sized(2, b"a")) + b"x"))
    ),
    "no protocol": HELLO.but(extensions=sized(2, alpn_of())),
    "an empty protocol": HELLO.but(extensions=sized(2, alpn_of(b"", b"h2"))),
    "protocols with more behind": HELLO.but(
        extensions=sized(2, extension(16, sized(2, sized(1, b"h2")) + b"x"))
    ),
}


@pytest.mark.parametrize("which", WRONG)
def test_a_hello_that_is_wrong_in_one_place_is_refused(which: str) -> None:
    with pytest.raises(Malformed, match="ClientHello can not be read"):
        look(WRONG[which].wire())


def test_something_behind_the_hello_in_its_record_is_refused() -> None:
    with pytest.raises(Malformed, match="something follows it"):
        look(records(HELLO.message() + b"\x01\0\0\0", 1 << 14))


def test_a_hello_without_extensions_wants_nothing_special() -> None:
    assert look(HELLO.but(extensions=b"").wire()) == Opening(Kind.TLS)


def test_protocols_nobody_knows_are_left_out() -> None:
    """RFC 8701: browsers put in some, of any bytes, so that readers stay patient."""
    hello = HELLO.but(extensions=sized(2, alpn_of(b"\x0a\x0a", b"\xea\xea", b"h2", b"a b")))
    assert look(hello.wire()) == Opening(Kind.TLS, ("h2",))


def test_it_asks_for_what_it_can_judge_next_and_no_more() -> None:
    wire = HELLO.wire()
    asked = [read(wire[:size]) for size in (0, 1, 4, 5, 8, 9, len(wire) - 1)]
    assert asked == [1, 5, 5, 9, 9, len(wire), len(wire)]
    assert [read(head) for head in (b"S", b"SSH", b"P", b"CONNECT")] == [2, 4, 2, 8]
    in_two = HELLO.wire(record=3)  # the length of the hello is in the second record
    assert [read(in_two[:size]) for size in (5, 8, 13)] == [8, 13, 16]


FEW = {
    "no session id": HELLO.but(session=sized(1, b"")),
    "one cipher suite": HELLO.but(suites=sized(2, b"\x13\x01")),
    "so many compression methods": HELLO.but(compression=sized(1, bytes(255))),
}


@pytest.mark.parametrize("which", FEW)
def test_as_little_or_much_as_may_be_is_fine(which: str) -> None:
    assert look(FEW[which].wire()) == SEEN


def test_no_extension_at_all_is_fine() -> None:
    assert look(HELLO.but(extensions=sized(2, b"")).wire()) == Opening(Kind.TLS)


@pytest.mark.parametrize("name", [b"a", b"!~", b"a" * 255])
def test_names_may_be_of_any_printable_letters(name: bytes) -> None:
    hello = HELLO.but(extensions=sized(2, sni_of(name) + alpn_of(name)))
    assert look(hello.wire()) == Opening(Kind.TLS, (name.decode(),), name.decode())


@pytest.mark.parametrize("letter", [b" ", b"\x7f", b"\0", b"\x80"])
def test_letters_beyond_those_are_no_name(letter: bytes) -> None:
    with pytest.raises(Malformed, match="server name is not printable"):
        look(HELLO.but(extensions=sized(2, sni_of(b"a" + letter))).wire())
    unknown = HELLO.but(extensions=sized(2, alpn_of(b"a" + letter, b"h2")))
    assert look(unknown.wire()) == Opening(Kind.TLS, ("h2",))


def test_reading_byte_by_byte_costs_little() -> None:
    """Whoever dribbles must not make us work: a port asks only for what it needs."""
    wire = HELLO.but(extensions=sized(2, extension(21, bytes(15_000)))).wire(record=300)
    began, reads, wanted = time.process_time(), 0, 1
    for size in range(1, len(wire) + 1):
        if size >= wanted:
            found = read(wire[:size])
            reads += 1
            wanted = found if isinstance(found, int) else wanted
    assert found == Opening(Kind.TLS)
    assert reads < 3 * MAX_RECORDS
    assert time.process_time() - began < 5


def outcome(head: bytes) -> None:
    """A value, None or Malformed, and nothing else; and the three readings agree."""
    try:
        found = look(head)
    except Malformed:
        for final in (False, True):
            with pytest.raises(Malformed) as why:
                look(head, final=final)
            assert why.value.message.isprintable()
        return
    step = read(head)
    if found is None:
        assert isinstance(step, int)
        assert len(head) < step <= MAX_HEAD
        with pytest.raises(Malformed):
            look(head, final=True)
    else:
        assert found == step == look(head, final=True)
        assert found.sni.isprintable()
        assert all(name.isprintable() for name in found.alpn)


beginnings = st.sampled_from([b"", b"S", b"SSH", b"GE", b"\x16\x03", b"\x16\x03\x01\x00\x40\x01"])


@settings(max_examples=400, deadline=None)
@given(start=beginnings, rest=st.binary(max_size=200))
def test_any_bytes_are_a_value_or_malformed(start: bytes, rest: bytes) -> None:
    outcome(start + rest)


@settings(max_examples=400, deadline=None)
@given(
    at=st.integers(0, 4000),
    new=st.binary(min_size=0, max_size=4),
    cut=st.integers(0, 4),
    record=st.sampled_from([1 << 14, 64, 20]),
    end=st.integers(0, 4000),
)
def test_a_hello_with_a_flaw_is_a_value_or_malformed(
    at: int, new: bytes, cut: int, record: int, end: int
) -> None:
    wire = HELLO.wire(record=record)
    at %= len(wire)
    wire = wire[:at] + new + wire[at + cut :]
    outcome(wire)
    outcome(wire[: end % (len(wire) + 1)])
