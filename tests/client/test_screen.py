"""What of a recording reaches the viewer's terminal, and what does not."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.client.escapes import MAX_STRING, Parser
from teleport_lite.client.screen import ScreenFilter

# What may come out, as a grammar of its own: nothing here is shared with the filter.
TEXT = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]"
NUMBER = r"[0-9]{0,4}"
SAFE = re.compile(
    rf"""(?:
      {TEXT} | [\b\t\n\v\f\r]
    | \x1b[78DEM]
    | \x1b\[ {NUMBER} [@ABCDEFGILMPSTXZ`abde]
    | \x1b\[ {NUMBER} (?:;{NUMBER})? [Hfr]
    | \x1b\[ [012]? [JK]
    | \x1b\[ [su]
    | \x1b\[ 4 [hl]
    | \x1b\[ [0-6]? \x20 q
    | \x1b\[ {NUMBER} (?:[;:]{NUMBER})* m
    | \x1b\[ \? (?:5|6|7|25|47|1047|1048|1049)(?:;(?:5|6|7|25|47|1047|1048|1049))* [hl]
    )*""",
    re.VERBOSE,
)


def shown(*pieces: str) -> str:
    screen = ScreenFilter()
    return "".join(screen.feed(piece) for piece in pieces)


# What passes


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "grüße 日本 😀 e\u0301",
        "a\tb\r\nc\b\v\f",
        "\x1b[1;31mred\x1b[0m\x1b[m",
        "\x1b[38;5;208m\x1b[48;2;1;2;3m\x1b[38:2::1:2:3m\x1b[4:3m",
        "\x1b[A\x1b[2B\x1b[10C\x1b[D\x1b[5;10H\x1b[H\x1b[;7f\x1b[3G\x1b[2d",
        "\x1b[J\x1b[2J\x1b[1K\x1b[K\x1b[3X\x1b[2P\x1b[4@\x1b[L\x1b[M",
        "\x1b[2;10r\x1b[3S\x1b[T\x1b[5b",
        "\x1b7\x1b8\x1bD\x1bE\x1bM\x1b[s\x1b[u",
        "\x1b[?25l\x1b[?25h\x1b[?7l\x1b[?1049h\x1b[?1049l\x1b[?47h",
        "\x1b[4h\x1b[4l\x1b[5 q",
    ],
)
def test_text_colours_cursor_and_screen_pass(text: str) -> None:
    assert shown(text) == text
    assert SAFE.fullmatch(text)


def test_line_graphics_become_characters_of_their_own() -> None:
    assert shown("\x1b(0lqqk\x1b(Bq") == "┌──┐q"
    assert shown("\x1b)0\x0exx\x0fx") == "││x"
    assert shown("\x1b(0", "a") == "▒"


def test_a_reset_is_one_of_the_recording_alone() -> None:
    found = shown("\x1b[?1049h\x1b(0\x1bcq")
    assert "\x1bc" not in found
    assert found.endswith("\x1b[H\x1b[2Jq")
    assert "\x1b[?1049l" in found


# What does not


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("title", "\x1b]0;owned\x07"),
        ("title, ended by ST", "\x1b]2;owned\x1b\\"),
        ("icon", "\x1b]1;x\x07"),
        ("clipboard", "\x1b]52;c;cm0gLXJmIC8=\x07"),
        ("clipboard, asked for", "\x1b]52;c;?\x1b\\"),
        ("link", "\x1b]8;;http://evil.example\x1b\\"),
        ("colours, asked for", "\x1b]10;?\x07\x1b]4;1;?\x07"),
        ("palette", "\x1b]4;1;rgb:ff/00/00\x07"),
        ("working directory", "\x1b]7;file://x/\x07"),
        ("iTerm", "\x1b]1337;File=inline=1:AAAA\x07"),
        ("notification", "\x1b]9;hello\x07\x1b]777;notify;a;b\x07"),
        ("DECRQSS", "\x1bP$qm\x1b\\"),
        ("XTGETTCAP", "\x1bP+q544e\x1b\\"),
        ("sixel", "\x1bPq#0;2;0;0;0~~\r\n~~\x1b\\"),
        ("macros and keys", "\x1bP0;1|17/6c73\x1b\\\x1bP1;0;0!z6c73\x1b\\"),
        ("tmux", "\x1bPtmux;\x1b\x1b]52;c;AAAA\x07\x1b\\"),
        ("APC", "\x1b_Ga=T;AAAA\x1b\\"),
        ("PM", "\x1b^x\x1b\\"),
        ("SOS", "\x1bXx\x1b\\"),
        ("title of screen", "\x1bkowned\x1b\\"),
        ("palette of Linux", "\x1b]P1ff0000\x1b]R"),
        ("DA1", "\x1b[c\x1b[0c"),
        ("DA2, DA3", "\x1b[>c\x1b[=c"),
        ("DECID", "\x1bZ"),
        ("ENQ", "\x05"),
        ("DSR", "\x1b[5n\x1b[6n\x1b[?6n\x1b[?15n"),
        ("DECRQM", "\x1b[?2004$p\x1b[4$p"),
        ("DECREQTPARM", "\x1b[x"),
        ("DECRQCRA", "\x1b[1;1;1;1;1;1*y"),
        ("XTVERSION", "\x1b[>q"),
        ("window operations", "\x1b[21t\x1b[18t\x1b[8;50;50t\x1b[2t\x1b[22;0t\x1b[>2t"),
        ("media copy", "\x1b[i\x1b[5i\x1b[4i\x1b[?5i"),
        ("132 columns", "\x1b[?40h\x1b[?3h\x1b[80$|\x1b[132$|"),
        ("application keys", "\x1b[?1h\x1b=\x1b>\x1b[?66h\x1b[?1l"),
        ("keyboard of kitty", "\x1b[>1u\x1b[=5u\x1b[<u\x1b[?u"),
        ("modifyOtherKeys", "\x1b[>4;2m\x1b[?4m\x1b[>4n"),
        ("keyboard locked", "\x1b[2h\x1b[12h\x1b[20h"),
        ("autorepeat", "\x1b[?8l"),
        ("bracketed paste", "\x1b[?2004h"),
        ("mouse", "\x1b[?9h\x1b[?1000h\x1b[?1002h\x1b[?1003h\x1b[?1006h\x1b[?1015h\x1b[?1016h"),
        ("mouse, highlighted", "\x1b[1;2;3;4;5T"),
        ("focus", "\x1b[?1004h"),
        ("frozen screen", "\x1b[?2026h"),
        ("saved modes", "\x1b[?2004s\x1b[?2004r"),
        ("left and right margins", "\x1b[?69h"),
        ("character sets", "\x1b(A\x1b)U\x1b*0\x1b+0\x1b-A\x1b%G\x1b%@\x1b(%5"),
        ("locking shifts", "\x1bn\x1bo\x1b|\x1b}\x1b~\x1bN\x1bO"),
        ("tab stops", "\x1bH\x1b[g\x1b[3g"),
        ("scrollback", "\x1b[3J\x1b[2;3J\x1b[?3J"),
        ("double height", "\x1b#3\x1b#6\x1b#8"),
        ("7 and 8 bits", "\x1b F\x1b G"),
        ("memory lock", "\x1bl\x1bm"),
        ("soft reset", "\x1b[!p"),
        ("rectangles", '\x1b[1;1;5;5;1;1;1$v\x1b[65;1;1;9;9$x\x1b["q'),
        ("LEDs", "\x1b[1q\x1b[0q"),
        ("bell", "\x07"),
        ("zeroes, DEL and flow control", "\x00\x7f\x11\x13\x10\x16"),
        ("C1", "\x84\x85\x88\x8d\x8e\x8f\x9c"),
        ("cancelled", "\x1b[31\x18\x1b[3\x1a"),
    ],
    ids=lambda value: value if value.isprintable() else "",
)
def test_nothing_that_is_not_listed_passes(name: str, attack: str) -> None:
    assert shown(f"a{attack}b") == "ab", name
    assert shown(*f"a{attack}b") == "ab", name


def test_controls_of_eight_bits_begin_nothing() -> None:
    assert shown("\x9b31m\x9d0;x\x07\x90q\x9c") == "31m0;xq"


def test_of_a_list_of_modes_the_good_ones_are_left() -> None:
    assert shown("\x1b[?1049;2004;25;1000h") == "\x1b[?1049;25h"
    assert shown("\x1b[4;20h") == "\x1b[4h"


def test_numbers_are_bounded() -> None:
    assert shown("\x1b[99999999999999999999b\x1b[00000000000007C") == "\x1b[9999b\x1b[7C"
    assert shown("\x1b[38;5;4294967297m") == "\x1b[38;5;9999m"
    assert shown("\x1b[" + "1;" * 200 + "m" + "x") == "x"
    assert shown("\x1b[1;2;3H\x1b[1:2H\x1b[1;2A") == ""


def test_controls_in_the_middle_of_a_sequence_are_obeyed_first() -> None:
    assert shown("\x1b[3\n1m") == "\n\x1b[31m"
    assert shown("\x1b[3\x1b[1m") == "\x1b[1m"
    assert shown("\x1b[31日") == "日"


def test_who_does_not_end_a_string_hides_one_line_at_most() -> None:
    assert shown("\x1b]0;never ended", "still\r\nrm -rf /") == "\r\nrm -rf /"
    assert shown("\x1bPnever ended\r\n", "x" * MAX_STRING, "rm -rf /").endswith("rm -rf /")
    assert shown("\x1b]P12345 is seen") == " is seen"


def test_halves_of_characters_can_be_written() -> None:
    assert shown("a\ud800b\udc00") == "a\ufffdb\ufffd"
    shown("\ud800").encode()


# The end


def test_in_the_end_the_terminal_is_as_it_was() -> None:
    screen = ScreenFilter()
    screen.feed("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?6h\x1b[?5h\x1b[2;5r\x1b[4h\x1b[3 q\x1b(0\x1b[7m")
    end = screen.end()
    assert end.startswith("\x18")
    for back in ("?1049l", "?25h", "?7h", "?6l", "?5l", "r", "4l", "0 q", "0m"):
        assert f"\x1b[{back}" in end
    assert end.index("\x1b[?7h") < end.index("\x1b[?1049l")
    assert screen.feed("q") == "q"
    assert screen.end() == "\x18\x1b[0m\x1b[?25h"


def test_what_was_put_back_already_is_left_alone() -> None:
    screen = ScreenFilter()
    screen.feed("\x1b[?1049h\x1b[?1049l\x1b[?1048h\x1b[?7l\x1b[?7h")
    assert screen.end() == "\x18\x1b[0m\x1b[?25h"


def test_a_half_sequence_does_not_survive_the_end() -> None:
    screen = ScreenFilter()
    screen.feed("\x1b]0;half")
    screen.end()
    assert screen.feed("x") == "x"


# Anything at all

_PIECES = [
    *("\x1b", "[", "]", "?", ">", "=", "!", "$", "P", "_", "^", "X", "k", "c", "n", "t", "i", "\\"),
    *("\x07", "\x9c", "\x9b", "\x18", "0", "4", "6", "52", "1049", "2004", ";", ":", "m", "h", "l"),
    *("\r", "\n", " ", "q", "(", "J", "3", "b", "R", "日", "\ud800", "\x0e", "#", "%", "x"),
]
NOISE = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(_PIECES), max_size=80).map("".join),
    st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")),
)


@settings(max_examples=500)
@given(NOISE)
def test_only_what_is_safe_comes_out_whatever_goes_in(text: str) -> None:
    screen = ScreenFilter()
    found = screen.feed(text)
    assert SAFE.fullmatch(found), repr(found)
    assert SAFE.fullmatch(screen.end()[1:])
    found.encode()


@given(NOISE, st.lists(st.integers(0, 200), max_size=5))
def test_where_it_is_cut_does_not_matter(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert shown(*pieces) == shown(text)


@given(NOISE)
def test_what_has_passed_passes_again(text: str) -> None:
    once = shown(text)
    assert shown(once) == once


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200))
def test_text_is_never_lost(text: str) -> None:
    assert shown(text) == text


@given(st.lists(NOISE, max_size=20))
def test_what_is_held_is_bounded(pieces: list[str]) -> None:
    parser = Parser()
    for piece in pieces:
        list(parser.feed(piece * 50))
        held = (parser._prefix, parser._parameters, parser._intermediates)
        assert len("".join(held)) <= 300
