"""Recordings of terminals as they are written, and read again: asciicast v2 (`proto/cast.py`).

Only output is recorded. What somebody types shows where the terminal echoes it; passwords are not
echoed, and so they are in no recording.
"""

import codecs
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from teleport_lite.errors import Malformed
from teleport_lite.proto import cast
from teleport_lite.proto.cast import CastEvent, Header

# Characters of one event. Escaped as two halves, the longest is twelve bytes, so that a line stays
# within `cast.MAX_LINE`.
_MOST_TEXT = 32 * 1024
# Of what comes from a client, or from the account: they have no use for more.
_MOST_WORD = 256
_MOST_TITLE = 4096


class CastWriter:
    """Turns what a terminal shows into lines of a recording; the caller keeps them.

    A character of UTF-8 may come in two pieces: its beginning waits for the rest. Bytes that are
    no UTF-8 become U+FFFD, since JSON has no way to say them (RFC 8259 §8.1): which byte it was
    is lost, that there was one is not. Times are seconds since the beginning; they never go back.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._last = 0.0

    def header(
        self,
        *,
        columns: int,
        rows: int,
        started: float,
        facts: Mapping[str, Any],
        title: str = "",
        env: Mapping[str, str] | None = None,
    ) -> bytes:
        """The first line. `started` is in Unix seconds; `env` has TERM and SHELL."""
        found: dict[str, Any] = {
            "version": cast.VERSION,
            "width": _side(columns, 80),
            "height": _side(rows, 24),
            "timestamp": int(started),
        }
        if title:
            found["title"] = title[:_MOST_TITLE]
        if env:
            found["env"] = {name: value[:_MOST_WORD] for name, value in env.items()}
        return json.dumps({**found, "teleport_lite": dict(facts)}).encode() + b"\n"

    def output(self, at: float, data: bytes) -> bytes:
        """b"" while no character is whole."""
        return self._lines(at, cast.OUTPUT, self._decoder.decode(data))

    def resized(self, at: float, columns: int, rows: int) -> bytes:
        size = f"{_side(columns, 80)}x{_side(rows, 24)}"
        return self._lines(at, cast.RESIZE, size)

    def gap(self, at: float, missing: int) -> bytes:
        """`missing` bytes of output could not be kept. What comes next begins anew."""
        self._decoder.reset()
        return self._lines(at, cast.MARK, f"{missing} bytes of output are missing")

    def end(self, at: float) -> bytes:
        """Whatever still waits for its other half."""
        return self._lines(at, cast.OUTPUT, self._decoder.decode(b"", True))

    def _lines(self, at: float, kind: str, text: str) -> bytes:
        self._last = max(self._last, at)
        parts = (text[i : i + _MOST_TEXT] for i in range(0, len(text), _MOST_TEXT))
        return b"".join(cast.write_event(CastEvent(self._last, kind, part)) for part in parts)


def read_header(file: IO[bytes]) -> tuple[Header, dict[str, Any]]:
    """The first line: what a player needs, and our own facts. Raises Malformed."""
    line = _line(file)
    if line is None:
        raise Malformed("a recording without a beginning")
    return cast.read_header(line), cast.read_facts(line)


def read_events(file: IO[bytes]) -> Iterator[CastEvent]:
    """What comes after the header, in order, a line at a time.

    A last line without its end is left out: whoever wrote it was killed. Raises Malformed for
    anything else that is no event, or goes back in time.
    """
    last = 0.0
    while (line := _line(file)) is not None:
        event = cast.read_event(line)
        if event.at < last:
            raise Malformed("an asciicast goes back in time")
        last = event.at
        yield event


def _line(file: IO[bytes]) -> bytes | None:
    line = file.readline(cast.MAX_WRITTEN_LINE + 1)
    if len(line) > cast.MAX_WRITTEN_LINE:
        raise Malformed("a line of an asciicast is too long")
    return line if line.endswith(b"\n") else None


def _side(value: int, otherwise: int) -> int:
    """Clients without a window say 0 (RFC 4254 §6.2)."""
    return min(value, cast.MAX_SIDE) if value > 0 else otherwise
