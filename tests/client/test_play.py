"""What a player shows when."""

import io
from collections.abc import Iterable

import pytest

from teleport_lite.client.play import IDLE, SPEEDS, Player, parse_speed
from teleport_lite.client.tape import Tape
from teleport_lite.errors import Malformed
from tests.cli.tsh.recordings_rig import timed

THREE = ((1, "one"), (3, "two"), (10, "three"))


def player(*events: tuple[float, str], **changes: object) -> Player:
    return Player(Tape(io.BytesIO(timed(*(events or THREE))), "x"), **changes)  # type: ignore[arg-type]


def text(pieces: Iterable[str]) -> str:
    return "".join(pieces)


def test_everything_comes_in_its_time() -> None:
    playing = player()
    assert text(playing.tick(100)) == ""
    assert playing.wait() == 1
    assert text(playing.tick(100.5)) == ""
    assert text(playing.tick(101)) == "one"
    assert playing.wait() == 2
    assert text(playing.tick(111)) == "twothree"
    assert playing.over
    assert playing.wait() is None


def test_speed_shortens_the_waits() -> None:
    playing = player(speed=2.0)
    playing.slower()
    playing.slower()
    playing.slower()
    assert playing.speed == SPEEDS[0]
    for _ in range(9):
        playing.faster()
    assert playing.speed == SPEEDS[-1]
    assert text(playing.tick(0)) == ""
    assert playing.wait() == 1 / 8
    assert text(playing.tick(3 / 8)) == "onetwo"


def test_nothing_passes_while_it_is_paused() -> None:
    playing = player()
    text(playing.tick(0))
    playing.pause()
    assert playing.wait() is None
    assert text(playing.tick(1000)) == ""
    playing.pause()
    assert text(playing.tick(1000.5)) == ""
    assert playing.wait() == 0.5


def test_long_pauses_can_be_left_out() -> None:
    playing = player((0, "a"), (3600, "b"), (3600.5, "c"), skip_idle=True)
    assert text(playing.tick(0)) == "a"
    assert playing.wait() == IDLE
    assert text(playing.tick(1)) == "b"
    assert playing.wait() == 0.5


def test_a_skip_forwards_shows_what_was_skipped() -> None:
    playing = player()
    text(playing.tick(0))
    assert text(playing.skip(5)) == "onetwo"
    assert playing.wait() == 5
    assert text(playing.skip(1000)) == "three"
    assert playing.position == 10
    assert playing.over


def test_a_skip_back_begins_anew_on_a_clear_screen() -> None:
    playing = player((1, "\x1b[?1049hone"), (3, "two"), (10, "three"))
    text(playing.skip(5))
    shown = text(playing.skip(-3))
    assert shown.startswith("\x18\x1b[?1049l")
    assert shown.endswith("\x1b[H\x1b[2J\x1b[?1049hone")
    assert playing.position == 2
    assert text(playing.skip(-100)).endswith("\x1b[2J")
    assert playing.wait() == 1


def test_what_was_typed_and_sizes_are_not_shown_and_gaps_are() -> None:
    raw = (
        timed((0, "a")) + b'[1, "i", "secret"]\n[2, "r", "100x50"]\n[3, "m", "7 lost\\u001b[2J"]\n'
    )
    playing = Player(Tape(io.BytesIO(raw), "x"))
    assert text(playing.everything()) == "a\r\n[7 lost[2J]\r\n"


def test_an_empty_recording_is_over_at_once() -> None:
    playing = Player(Tape(io.BytesIO(timed()), "x"))
    assert text(playing.tick(0)) == ""
    assert playing.over
    assert text(playing.skip(-5)) == text(playing.skip(5)) == ""


@pytest.mark.parametrize(("words", "speed"), [("1x", 1.0), ("0.5x", 0.5), ("8", 8.0)])
def test_speeds(words: str, speed: float) -> None:
    assert parse_speed(words) == speed
    for bad in ("3x", "", "x", "1xx", "inf", "nan"):
        with pytest.raises(Malformed, match=r"0\.5x, 1x, 2x, 4x, 8x"):
            parse_speed(bad)
