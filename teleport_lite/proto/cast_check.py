"""A recording from a host, line by line: what is an asciicast passes, written anew.

Hosts are not believed. What comes out is ASCII, in order of time and of bounded lines, whatever
went in; a line that is none is left out and counted.
"""

from teleport_lite.errors import Malformed
from teleport_lite.proto.cast import (
    MAX_LINE,
    CastEvent,
    Header,
    read_event,
    read_header,
    write_event,
    write_header,
)

# [0,"o",""], an event without anything in it. What is shorter is none, and is not read to find out:
# a host that sends nothing but line feeds must not keep auth busy for seconds.
_SHORTEST = 10


class CastCheck:
    """Fed with parts of whole lines, the first of which begins with the header."""

    def __init__(self, facts: dict[str, object]) -> None:
        """`facts` go into the header, in place of what the host wrote there."""
        self._facts = facts
        self.header: Header | None = None
        self.events = self.dropped = 0
        self.seconds = 0.0  # from the beginning to the last event

    def feed(self, part: bytes) -> bytes:
        """The lines of `part` as they may be kept. Raises Malformed if it does not end a line."""
        if not part.endswith(b"\n"):
            raise Malformed("a part of a recording ends in the middle of a line")
        kept: list[bytes] = []
        lines = part.split(b"\n")[:-1]
        if self.header is None:
            self.header = _header(lines[0])
            kept.append(write_header(self.header or Header(), self._facts))
            lines = lines[1:] if self.header else lines
            self.header = self.header or Header()
        kept.extend(self._line(line) for line in lines)
        return b"".join(kept)

    def _line(self, line: bytes) -> bytes:
        may_be_one = _SHORTEST <= len(line) <= MAX_LINE and line.startswith(b"[")
        try:
            event = read_event(line) if may_be_one else None
        except Malformed:
            event = None
        if event is None:
            self.dropped += 1
            return b""
        self.events += 1
        self.seconds = max(self.seconds, event.at)  # time does not go back
        return write_event(CastEvent(self.seconds, event.kind, event.data))


def _header(line: bytes) -> Header | None:
    """None without one: the rest is kept all the same."""
    try:
        return read_header(line) if len(line) <= MAX_LINE else None
    except Malformed:
        return None
