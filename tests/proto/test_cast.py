"""asciicast v2, read from strangers and written."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.proto.cast import (
    MAX_LINE,
    MAX_SECONDS,
    MAX_WRITTEN_LINE,
    CastEvent,
    Header,
    read_event,
    read_facts,
    read_header,
    write_event,
    write_header,
)
from teleport_lite.proto.cast_check import CastCheck

HEADER = b'{"version": 2, "width": 80, "height": 24, "timestamp": 7}'


def test_a_header_comes_back() -> None:
    line = write_header(Header(100, 30, 5.9), {"sid": "x"})
    assert line.endswith(b"\n")
    assert read_header(line) == Header(100, 30, 5.0)
    assert read_facts(line) == {"sid": "x"}
    assert read_facts(HEADER) == read_facts(b"[]") == read_facts(b'{"teleport_lite": 7}') == {}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{",
        b"7",
        HEADER.replace(b"2,", b"1,"),
        HEADER.replace(b"2,", b'"2",'),
        HEADER.replace(b"80", b"0"),
        HEADER.replace(b"80", b"10001"),
        HEADER.replace(b"80", b"true"),
        HEADER.replace(b"24", b"1.5"),
        HEADER.replace(b"7}", b"-1}"),
        HEADER.replace(b"7}", b"1e12}"),
        HEADER.replace(b"7}", b"NaN}"),
        HEADER.replace(b"7}", b'"x"}'),
        b"\xff" + HEADER,
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:60]),
)
def test_what_is_no_header_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        read_header(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b"[1, 2, 3]",
        b'[1, "o"]',
        b'[1, "o", "x", 1]',
        b'["1", "o", "x"]',
        b'[true, "o", "x"]',
        b'[-1, "o", "x"]',
        b'[1e300, "o", "x"]',
        b'[1e999, "o", "x"]',
        b'[NaN, "o", "x"]',
        b'[1, "z", "x"]',
        b'[1, "", "x"]',
        b'[1, "r", "80"]',
        b'[1, "r", "0x24"]',
        b'[1, "r", "80x99999"]',
        b'[1, "o", "a\x1bb"]',
        b'[1, "o", "\xff"]',
        b'[1, "o", "x"',
        b"[" + b"9" * 5000 + b', "o", "x"]',
        b"[" * 100_000,
        b'[1, "o", "' + b"x" * MAX_WRITTEN_LINE + b'"]',
    ],
    ids=lambda line: repr(line[:40]),
)
def test_what_is_no_event_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        read_event(line)


def test_events_are_written_as_ascii() -> None:
    line = write_event(CastEvent(1.23456789, "o", "ü\x1b\x9b\u202e😀\n"))
    assert line.isascii()
    assert not any(byte < 0x20 and byte != 0x0A for byte in line)
    assert read_event(line) == CastEvent(1.234568, "o", "ü\x1b\x9b\u202e😀\n")


def test_half_a_surrogate_pair_is_read_as_a_character_that_is_none() -> None:
    assert read_event(b'[1, "o", "a\\ud800b"]').data == "a\ufffdb"


@given(st.floats(0, MAX_SECONDS), st.sampled_from("oim"), st.text())
def test_every_event_comes_back(at: float, kind: str, data: str) -> None:
    found = read_event(write_event(CastEvent(at, kind, data)))
    assert (found.kind, found.data) == (kind, data)
    assert abs(found.at - at) < 1e-5


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_malformed(line: bytes) -> None:
    for read in (read_event, read_header):
        with contextlib.suppress(Malformed):
            read(line)


# What is kept of what hosts send


def checked(*parts: bytes) -> tuple[CastCheck, bytes]:
    check = CastCheck({"sid": "x"})
    return check, b"".join(check.feed(part) for part in parts)


def test_good_lines_pass_in_the_order_of_time() -> None:
    check, kept = checked(HEADER + b'\n[2, "o", "a"]\n', b'[1, "o", "b"]\n[3, "r", "90x30"]\n')
    header, *events = map(json.loads, kept.splitlines())
    assert header["teleport_lite"] == {"sid": "x"}
    assert events == [[2.0, "o", "a"], [2.0, "o", "b"], [3.0, "r", "90x30"]]
    assert (check.events, check.dropped, check.seconds) == (3, 0, 3.0)


def test_without_a_header_the_rest_is_kept() -> None:
    check, kept = checked(b'[2, "o", "a"]\nbroken\n')
    assert check.header == Header()
    assert (check.events, check.dropped) == (1, 1)
    assert len(kept.splitlines()) == 2


def test_a_line_that_is_too_short_for_an_event_is_left_out() -> None:
    check = CastCheck({})
    header = b'{"version": 2, "width": 80, "height": 24}\n'
    kept = check.feed(header + b'\n[]\n[0,1]\n0\n[0,"o",""]\n')
    assert (check.dropped, check.events) == (4, 1)
    assert kept.endswith(b'[0.0, "o", ""]\n')


def test_a_line_that_is_too_long_is_left_out() -> None:
    check, kept = checked(HEADER + b'\n[1, "o", "' + b"x" * MAX_LINE + b'"]\n')
    assert (check.events, check.dropped) == (0, 1)
    assert len(kept) < 1000


@pytest.mark.parametrize("part", [b"", b"x", HEADER, HEADER + b"\n["])
def test_parts_end_lines(part: bytes) -> None:
    with pytest.raises(Malformed, match="in the middle of a line"):
        CastCheck({}).feed(part)


@given(st.lists(st.binary(max_size=60).map(lambda raw: raw + b"\n"), max_size=10))
def test_whatever_comes_what_is_kept_is_an_asciicast(parts: list[bytes]) -> None:
    check, kept = checked(*parts)
    assert kept.isascii()
    lines = kept.splitlines()
    if parts:
        read_header(lines[0])
    assert len(lines[1:]) == check.events
    times = [read_event(line).at for line in lines[1:]]
    assert times == sorted(times)
