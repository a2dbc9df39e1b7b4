"""Frames: what comes out is what went in, however it was cut; anything else is Malformed."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.net.mux_frames import (
    INITIAL_WINDOW,
    MAX_DATA,
    MAX_WINDOW,
    SMALL_DATA,
    Deframer,
    Kind,
    credit,
    frame,
)
from teleport_lite.proto.tunnel import MAX_CONTROL, MAX_OPEN, MAX_REASON

Frame = tuple[int, int, bytes]


def read(raw: bytes, cuts: list[int] | None = None) -> list[Frame]:
    """All frames, with DATA put together again."""
    found: list[Frame] = []

    def deliver(kind: int, stream: int, payload: memoryview) -> None:
        found.append((kind, stream, bytes(payload)))

    deframer = Deframer()
    at = 0
    for cut in [*sorted({each % (len(raw) + 1) for each in cuts or []}), len(raw)]:
        deframer.feed(memoryview(raw)[at:cut], deliver)
        at = cut
    return found


def joined(frames: list[Frame]) -> list[Frame]:
    """Neighbouring DATA of one stream as one."""
    out: list[Frame] = []
    for kind, stream, payload in frames:
        if kind == Kind.DATA and out and out[-1][:2] == (kind, stream):
            out[-1] = (kind, stream, out[-1][2] + payload)
        else:
            out.append((kind, stream, payload))
    return out


streams = st.integers(1, 0xFFFF_FFFF)
frames = st.one_of(
    st.tuples(st.just(Kind.DATA), streams, st.binary(min_size=1, max_size=300)),
    st.tuples(st.just(Kind.SYN), streams, st.binary(min_size=1, max_size=100)),
    st.tuples(st.just(Kind.WIN), streams, st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(Kind.FIN), streams, st.just(b"")),
    st.tuples(st.just(Kind.RST), streams, st.binary(max_size=MAX_REASON)),
    st.tuples(st.just(Kind.PING), st.integers(0, 0xFFFF_FFFF), st.just(b"")),
    st.tuples(st.just(Kind.PONG), st.integers(0, 0xFFFF_FFFF), st.just(b"")),
    st.tuples(st.just(Kind.CONTROL), st.just(0), st.binary(min_size=1, max_size=100)),
)


@given(st.lists(frames, max_size=12), st.lists(st.integers(0, 10_000), max_size=20))
def test_frames_survive_any_cut(sent: list[tuple[Kind, int, bytes]], cuts: list[int]) -> None:
    raw = b"".join(frame(*each) for each in sent)
    assert joined(read(raw, cuts)) == joined([(int(k), s, p) for k, s, p in sent])


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=10))
def test_any_bytes_are_frames_or_malformed(raw: bytes, cuts: list[int]) -> None:
    with suppress(Malformed):
        found = read(raw, cuts)
        assert sum(len(payload) for _, _, payload in found) <= len(raw)


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=64))
def test_how_bytes_are_cut_changes_nothing(head: bytes, tail: bytes) -> None:
    def outcome(cuts: list[int]) -> object:
        try:
            return joined(read(head + tail, cuts))
        except Malformed as why:
            return why.message

    # A refused header is refused when it is complete, so what came before it is the same too.
    assert outcome([]) == outcome(list(range(len(head + tail))))


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (Kind.DATA, 0),
        (Kind.DATA, MAX_DATA + 1),
        (Kind.SYN, 0),
        (Kind.SYN, MAX_OPEN + 1),
        (Kind.WIN, 3),
        (Kind.WIN, 5),
        (Kind.FIN, 1),
        (Kind.RST, MAX_REASON + 1),
        (Kind.PING, 1),
        (Kind.PONG, 1),
        (Kind.CONTROL, 0),
        (Kind.CONTROL, MAX_CONTROL + 1),
    ],
)
def test_a_wrong_size_is_malformed_before_its_bytes_come(kind: Kind, size: int) -> None:
    header = struct.pack(">II", kind << 24 | size, 0 if kind == Kind.CONTROL else 1)
    with pytest.raises(Malformed, match=f"{kind.name} frame of {size} bytes"):
        read(header)


@pytest.mark.parametrize("kind", range(8, 256, 31))
def test_an_unknown_type_is_malformed(kind: int) -> None:
    with pytest.raises(Malformed, match=f"type {kind}"):
        read(struct.pack(">II", kind << 24, 1))


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.SYN, Kind.WIN, Kind.FIN, Kind.RST])
def test_stream_zero_is_no_stream(kind: Kind) -> None:
    with pytest.raises(Malformed, match="stream id 0"):
        read(frame(kind, 0, {Kind.WIN: b"1234", Kind.DATA: b"x", Kind.SYN: b"x"}.get(kind, b"")))


def test_control_belongs_to_no_stream() -> None:
    with pytest.raises(Malformed, match="CONTROL frame with stream id 3"):
        read(frame(Kind.CONTROL, 3, b"{}"))


@pytest.mark.parametrize("granted", [0, MAX_WINDOW + 1, 0xFFFF_FFFF])
def test_a_window_has_bounds(granted: int) -> None:
    with pytest.raises(Malformed, match="window"):
        credit(granted.to_bytes(4, "big"))


def test_full_frames_fill_tls_records() -> None:
    """RFC 8446 §5.1: a record holds 2^14 bytes."""
    assert len(frame(Kind.DATA, 1, bytes(MAX_DATA))) == 4 * 2**14
    assert len(frame(Kind.DATA, 1, bytes(SMALL_DATA))) == 2**14
    assert INITIAL_WINDOW >= MAX_DATA
