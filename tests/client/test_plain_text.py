"""Recordings as plain text."""

import re

import pytest
from hypothesis import given

from teleport_lite.client.plain_text import MAX_COLUMNS, PlainText
from tests.client.test_screen import NOISE


def plain(*pieces: str) -> str:
    text = PlainText()
    return "".join(text.feed(piece) for piece in pieces) + text.end()


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("$ ls\r\na  b\r\n$ ", "$ ls\na  b\n$\n"),
        ("\x1b[1;32mgreen\x1b[0m\r\n", "green\n"),
        ("\x1b]0;title\x07$ \r\n", "$\n"),
        ("sl\b\b\x1b[Kls\r\n", "ls\n"),
        ("ab\x1b[DX\r\n", "aX\n"),
        ("abc\rX\r\n", "Xbc\n"),
        ("abc\b\b\x1b[1PZ\r\n", "aZ\n"),
        ("ac\b\x1b[1@b\r\n", "abc\n"),
        ("abc\x1b[2D\x1b[1X\r\n", "a c\n"),
        ("abc\x1b[1K\r\n", "\n"),
        ("abc\x1b[2K\rd\r\n", "d\n"),
        ("a\tb\r\n", "a       b\n"),
        ("10%\r20%\r30%\r\n", "30%\n"),
        ("a\x1b[5Cb\r\n", "a     b\n"),
        ("one\x1b[2;1Htwo\x1b[5;5H\x1b[5;6H", "one\ntwo\n"),
        ("one\x1b[?1049htwo", "onetwo\n"),
        ("a\x1bMb", "a\nb\n"),
        ("\r\n\r\n", "\n\n"),
        ("日本\r\n", "日本\n"),
        ("", ""),
    ],
)
def test_what_stood_on_the_lines(said: str, read: str) -> None:
    assert plain(said) == read
    assert plain(*said) == read


def test_a_line_is_bounded() -> None:
    found = plain("x" * (3 * MAX_COLUMNS), "\x1b[9999C" * 3, "y\x1b[9999@\x1b[9999D\x1b[9999@")
    assert max(map(len, found.splitlines())) <= MAX_COLUMNS + 1


@given(NOISE)
def test_whatever_goes_in_lines_without_controls_come_out(text: str) -> None:
    found = plain(text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", found)
    assert found == "" or found.endswith("\n")
    found.encode()


@given(NOISE)
def test_where_it_is_cut_does_not_matter(text: str) -> None:
    assert plain(*text) == plain(text)
