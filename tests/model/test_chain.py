"""The form that is hashed. It may never change: trails out there depend on it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.model.chain import GENESIS, canonical, link, read_line
from teleport_lite.model.event import Event

AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)


def an_event(**facts: str) -> Event:
    return Event(kind="instance.join", code="TJ002I", at=AT, outcome="ok", facts=facts)


def test_the_canonical_form_is_this_and_stays_this() -> None:
    assert canonical(an_event(b="2", a="ü\n")) == (
        b'{"code":"TJ002I","event":"instance.join","facts":{"a":"\\u00fc\\n","b":"2"},'
        b'"outcome":"ok","time":"2026-03-01T12:00:00.000005Z"}'
    )


def test_the_hash_is_this_and_stays_this() -> None:
    """printf '%064d\\n1\\n%s' 0 '<the line>' | sha256sum"""
    assert link(GENESIS, an_event(a="1"), 1) == (
        "2b85aab3a5a7f8e6d65a88b8bdc4dd9e2a79a6cd589e06fbf4abc7aeeb7bfaec"
    )


def test_the_hash_depends_on_place_and_past() -> None:
    event = an_event()
    assert len({link(GENESIS, event, 1), link(GENESIS, event, 2), link("1" * 64, event, 1)}) == 3


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=900), max_size=5))
def test_an_event_is_one_line_of_printable_ascii_and_comes_back(facts: dict[str, str]) -> None:
    line = canonical(an_event(**{"x": "y"} | facts) if not facts else _with(facts))
    assert line.isascii()
    assert line.decode().isprintable()
    assert read_line(line) == (_with(facts) if facts else an_event(x="y"))


def _with(facts: dict[str, str]) -> Event:
    return Event(kind="k", code="c", at=AT, outcome="ok", facts=facts)


@pytest.mark.parametrize("text", ["x" * 4097, "ü" * 2049, "\U0001f512" * 1025, "\ud800" * 1400])
def test_a_field_over_four_kilobytes_is_cut_and_says_so(text: str) -> None:
    cut = read_line(canonical(an_event(**{text: text}))).facts
    [(name, value)] = cut.items()
    assert name == value
    assert len(value.encode("utf-8", "surrogatepass")) <= 4096
    assert value.endswith("[cut]")


@pytest.mark.parametrize("text", ["x" * 4096, "ü" * 2048, "\U0001f512" * 1024])
def test_a_field_of_four_kilobytes_is_whole(text: str) -> None:
    assert read_line(canonical(an_event(a=text))).facts == {"a": text}


def test_a_time_is_written_in_utc() -> None:
    east = Event(
        kind="k", code="c", at=AT.astimezone(timezone(timedelta(hours=9))), outcome="ok", facts={}
    )
    assert b'"time":"2026-03-01T12:00:00.000005Z"' in canonical(east)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError, match="zone"):
        canonical(Event(kind="k", code="c", at=datetime(2026, 1, 1), outcome="ok"))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"[]",
        b"7",
        b"{}",
        b"\xff",
        b'{"event":1}',
        b"[" * 100_000,
        canonical(an_event()).replace(b"2026-03", b"2026-33"),
        canonical(an_event()).replace(b"{}", b"7"),
    ],
)
def test_a_line_that_is_no_event_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        read_line(line)
