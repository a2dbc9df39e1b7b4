"""Lengths of time, as people write and read them."""

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.model.duration import parse_duration, show_duration


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("7d", timedelta(days=7)),
        ("250ms", timedelta(milliseconds=250)),
        ("1m1m", timedelta(minutes=2)),
        ("0s", timedelta()),
    ],
)
def test_what_people_write_is_read(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "5", "5m5", "-5m", "+5m", "1e9h", "5m; id", "5 m", " 5m", "5m\n", "m", "5M",
        "1.5h", "5min", "\u0665m", "1_0m", "1234567890s", "$(id)", "5m\x00",
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_named(text: str) -> None:
    with pytest.raises(Malformed, match=r"ttl .* is not a length of time") as refused:
        parse_duration(text, "ttl")
    assert refused.value.message.isprintable()


def test_more_than_a_calendar_holds_is_refused() -> None:
    with pytest.raises(Malformed, match="too long"):
        parse_duration("999999999d" * 3)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=128), "2m8s"),
        (timedelta(hours=1), "1h0m0s"),
        (timedelta(seconds=36), "36s"),
        (timedelta(hours=30), "30h0m0s"),
        (timedelta(seconds=-3), "0s"),
    ],
)
def test_they_are_shown_as_go_does(span: timedelta, text: str) -> None:
    assert show_duration(span) == text


@given(st.integers(0, 10**9))
def test_whole_seconds_survive_showing_and_reading(seconds: int) -> None:
    span = timedelta(seconds=seconds)
    assert parse_duration(show_duration(span)) == span


@given(st.text())
def test_no_text_makes_it_do_anything_but_refuse(text: str) -> None:
    with suppress(Malformed):
        assert parse_duration(text) >= timedelta()
