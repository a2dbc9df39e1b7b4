"""asciicast v2: a header and then events, one JSON value a line.

https://docs.asciinema.org/manual/asciicast/v2/

    {"version": 2, "width": 80, "height": 24, "timestamp": 1504467315, ...}
    [0.248848, "o", "text"]

What is written here is pure ASCII: a file that somebody prints can do no harm to a terminal.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from teleport_lite.errors import Malformed

VERSION = 2
# One read of a terminal, with every byte of it escaped, is far less.
MAX_LINE = 512 * 1024
# What a line may become when its characters are written as ASCII: two bytes become six.
MAX_WRITTEN_LINE = 3 * MAX_LINE + 1024
MAX_SIDE = 10_000  # columns or rows; larger than any screen
MAX_SECONDS = 366 * 86_400.0
OUTPUT, INPUT, RESIZE, MARK = "o", "i", "r", "m"
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_EVENT = msgspec.json.Decoder(tuple[float, str, str])


@dataclass(frozen=True, slots=True)
class Header:
    width: int = 80
    height: int = 24
    timestamp: float = 0.0  # Unix seconds


@dataclass(frozen=True, slots=True)
class CastEvent:
    at: float  # seconds since the beginning
    kind: str  # OUTPUT, INPUT, RESIZE or MARK
    data: str


def read_header(line: bytes) -> Header:
    """Raises Malformed for what is no header of version 2."""
    found = _json(line)
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise Malformed("not an asciicast of version 2")
    width, height = _side(found.get("width")), _side(found.get("height"))
    stamp = found.get("timestamp", 0)
    if not _number(stamp) or not 0 <= stamp < 1e11:
        raise Malformed("the timestamp of an asciicast is no time")
    return Header(width, height, float(stamp))


def read_facts(line: bytes) -> dict[str, Any]:
    """What our own recorder has put into the header: plain values, by name. {} if it is none of
    ours; what is no plain value is left out, or whoever prints it could stumble."""
    found = _json(line)
    facts = found.get("teleport_lite") if isinstance(found, dict) else None
    if not isinstance(facts, dict):
        return {}
    return {name: value for name, value in facts.items() if _is_plain(value)}


def read_event(line: bytes) -> CastEvent:
    """Raises Malformed."""
    if len(line) > MAX_WRITTEN_LINE:
        raise Malformed(f"a line of {len(line)} bytes in an asciicast")
    try:
        at, kind, data = _EVENT.decode(line)
    except (msgspec.DecodeError, RecursionError, ValueError):
        at, kind, data = _by_hand(line)
    if not 0 <= at <= MAX_SECONDS:
        raise Malformed("an event of an asciicast at no possible time")
    if kind == RESIZE:
        size = _SIZE.fullmatch(data)
        if size is None or not all(1 <= int(each) <= MAX_SIDE for each in size.groups()):
            raise Malformed("an asciicast changes to no possible size")
    elif kind not in (OUTPUT, INPUT, MARK):
        raise Malformed("an event of an asciicast of no known kind")
    return CastEvent(at, kind, data)


def write_header(header: Header, facts: dict[str, Any]) -> bytes:
    found = {
        "version": VERSION,
        "width": header.width,
        "height": header.height,
        "timestamp": int(header.timestamp),
        "teleport_lite": facts,
    }
    return json.dumps(found).encode() + b"\n"


def write_event(event: CastEvent) -> bytes:
    """With its line feed."""
    return json.dumps([round(event.at, 6), event.kind, event.data]).encode() + b"\n"


def _by_hand(line: bytes) -> tuple[float, str, str]:
    """Half a surrogate pair is no JSON to strict readers; recorders write it all the same."""
    found = _json(line)
    if not isinstance(found, list) or len(found) != 3:
        raise Malformed("not an event of an asciicast")
    at, kind, data = found
    if not _number(at) or not isinstance(kind, str) or not isinstance(data, str):
        raise Malformed("not an event of an asciicast")
    return float(at), kind, data.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json(line: bytes) -> Any:
    if len(line) > MAX_WRITTEN_LINE:
        raise Malformed(f"a line of {len(line)} bytes in an asciicast")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as why:
        raise Malformed("a line of an asciicast is not JSON") from why


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | bool) or _number(value)


def _number(value: object) -> bool:
    """A whole number that no float can hold is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e15 and math.isfinite(value)


def _side(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE:
        raise Malformed("an asciicast has no possible size")
    return value
