"""Tables, pairs, expiries and what is safe to print."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.cli import show

NOW = datetime(2023, 3, 30, 18, 12, 52, tzinfo=UTC)


def test_a_table_is_header_dashes_and_padded_rows() -> None:
    assert show.table(("Name", "Of"), [("a", "bb"), ("cccccc", "")]) == (
        "Name    Of\n------  --\na       bb\ncccccc\n"
    )


def test_a_table_without_rows_still_has_its_header() -> None:
    assert show.table(("Host", "UUID"), []) == "Host  UUID\n----  ----\n"


def test_columns_line_up_under_wide_characters() -> None:
    rows = show.table(("A", "B"), [("日本", "x"), ("abcd", "y")]).splitlines()
    assert rows[2:] == ["日本  x", "abcd  y"]


def test_only_a_terminal_cuts_and_only_the_column_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("web-1", "k=" + "v" * 200, "1")]
    whole = show.table(("Host", "Labels", "Version"), rows, cut="Labels")
    assert "v" * 200 in whole
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    narrow = show.table(("Host", "Labels", "Version"), rows, cut="Labels").splitlines()
    assert all(len(line) <= 60 for line in narrow)
    assert narrow[2].startswith("web-1  k=vvv")
    assert "...  1" in narrow[2]
    assert show.table(("Host", "Labels", "Version"), rows) == whole


def test_expiry_is_told_as_in_the_guide() -> None:
    assert show.expiry(NOW + timedelta(minutes=2, seconds=8), NOW) == "30 Mar 23 18:15 UTC (2m8s)"
    assert show.expiry(NOW + timedelta(seconds=36), NOW).endswith("(36s)")
    assert show.expiry(None, NOW) == "never"


def test_times_of_other_zones_are_shown_in_utc() -> None:
    assert show.stamp(datetime.fromisoformat("2016-05-17T05:51:00+02:00")) == "17 May 16 03:51 UTC"


@given(st.text())
def test_nothing_printed_can_move_the_cursor(text: str) -> None:
    assert all(char.isprintable() or char in "\n\t" for char in show.safe(text))
    assert show.line(text).isprintable()
    assert show.as_json({"a": text}).isascii()
    printed = show.as_yaml({"a": text})
    assert all(char.isprintable() or char in "\n\t" for char in printed)


@given(st.text())
def test_plain_text_is_left_alone(text: str) -> None:
    if text.isprintable():
        assert show.safe(text) == show.line(text) == text


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text("ab:#-'\" 1"), st.lists))
def test_json_and_yaml_read_back_as_what_they_were(value: object) -> None:
    assert json.loads(show.as_json({"a": value})) == {"a": value}
    assert yaml.safe_load(show.as_yaml({"a": value})) == {"a": value}
