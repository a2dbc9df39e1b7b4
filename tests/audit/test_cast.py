"""What is written can be read, whatever the terminal has shown."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.audit.cast import CastWriter, read_events, read_header
from teleport_lite.errors import Malformed
from teleport_lite.proto import cast

FACTS = {"sid": "s", "user": "alice"}


def written(writer: CastWriter, *lines: bytes) -> io.BytesIO:
    head = writer.header(columns=80, rows=24, started=12.5, facts=FACTS)
    return io.BytesIO(head + b"".join(lines))


def shown(*lines: bytes) -> str:
    file = written(CastWriter(), *lines)
    read_header(file)
    return "".join(event.data for event in read_events(file) if event.kind == cast.OUTPUT)


@given(text=st.text(), cuts=st.lists(st.integers(0, 40)))
def test_characters_survive_wherever_they_are_cut(text: str, cuts: list[int]) -> None:
    raw, writer, lines, at = text.encode("utf-8", "replace"), CastWriter(), [], 0.0
    for cut in [*cuts, len(raw)]:
        piece, raw, at = raw[:cut], raw[cut:], at + 0.1
        lines.append(writer.output(at, piece))
    lines.append(writer.end(at))
    assert shown(*lines) == text.encode("utf-8", "replace").decode()


@given(pieces=st.lists(st.tuples(st.floats(0, 1e6), st.binary(max_size=64))))
def test_any_bytes_make_a_recording_that_can_be_read(pieces: list[tuple[float, bytes]]) -> None:
    writer = CastWriter()
    lines = [writer.output(at, data) for at, data in pieces]
    file = written(writer, *lines, writer.end(0.0))
    read_header(file)
    events = list(read_events(file))
    assert [each.at for each in events] == sorted(each.at for each in events)
    whole = b"".join(data for _, data in pieces).decode("utf-8", "replace")
    assert "".join(each.data for each in events) == whole
    assert file.getvalue().isascii()


@given(st.binary(max_size=300))
def test_a_reader_reads_or_refuses(raw: bytes) -> None:
    file = io.BytesIO(raw)
    try:
        read_header(file)
        for event in read_events(file):
            assert event.at >= 0
    except Malformed:
        pass


def test_the_header_has_what_players_need_and_our_facts() -> None:
    writer = CastWriter()
    line = writer.header(
        columns=0, rows=50_000, started=7.9, facts=FACTS, title="ls", env={"TERM": "xterm" * 100}
    )
    found = json.loads(line)
    assert (found["version"], found["width"], found["height"]) == (2, 80, cast.MAX_SIDE)
    assert (found["timestamp"], found["title"], found["teleport_lite"]) == (7, "ls", FACTS)
    assert len(found["env"]["TERM"]) <= 256
    assert read_header(io.BytesIO(line))[1] == FACTS


def test_a_size_is_what_it_was_changed_to() -> None:
    writer = CastWriter()
    file = written(writer, writer.resized(1, 132, 43), writer.resized(2, 0, 0))
    read_header(file)
    assert [(each.kind, each.data) for each in read_events(file)] == [
        ("r", "132x43"),
        ("r", "80x24"),
    ]


def test_a_gap_says_how_much_is_missing_and_forgets_half_a_character() -> None:
    writer = CastWriter()
    half = writer.output(1, "ü".encode()[:1])
    file = written(writer, half, writer.gap(2, 4711), writer.output(3, b"ok"))
    read_header(file)
    assert [(each.kind, each.data) for each in read_events(file)] == [
        ("m", "4711 bytes of output are missing"),
        ("o", "ok"),
    ]


def test_no_line_is_too_long_for_a_reader() -> None:
    lines = CastWriter().output(0, "\U0001f600".encode() * 70_000)
    assert max(map(len, lines.splitlines())) < cast.MAX_LINE
    assert shown(lines) == "\U0001f600" * 70_000


def test_a_torn_last_line_is_left_out() -> None:
    writer = CastWriter()
    whole, torn = writer.output(1, b"whole"), writer.output(2, b"torn")
    assert shown(whole, torn[:-1]) == "whole"


def test_time_that_goes_back_is_refused() -> None:
    late = cast.write_event(cast.CastEvent(5.0, "o", "x"))
    early = cast.write_event(cast.CastEvent(4.0, "o", "x"))
    with pytest.raises(Malformed, match="back in time"):
        shown(late, early)


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(Malformed, match="too long"):
        read_header(io.BytesIO(b" " * (cast.MAX_WRITTEN_LINE + 10)))
    with pytest.raises(Malformed, match="beginning"):
        read_header(io.BytesIO(b""))
