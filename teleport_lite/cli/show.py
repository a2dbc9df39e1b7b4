"""How answers look: tables, pairs, JSON, YAML, and when things expire.

Text that came from elsewhere passes `safe` or `line` before it reaches a terminal: a node's
label must not move the cursor, change the window's title or fake a row.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from select import PIPE_BUF
from shutil import get_terminal_size
from typing import Any
from unicodedata import east_asian_width

from teleport_lite.errors import Unavailable
from teleport_lite.model.duration import show_duration

GAP = "  "
NEVER = "never"
# Narrower than this a cut label says nothing.
MIN_CUT = 16


class Unread(Exception):
    """Nobody reads our output any more. Not an error of ours to explain: end quietly."""


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def emit(value: object, format: Format | None, text: Callable[[], str]) -> None:
    """The same facts in the form asked for; `text` is only called when it is wanted."""
    if format is Format.JSON:
        out(as_json(value))
    elif format is Format.YAML:
        out(as_yaml(value))
    else:
        out(text())


def out(text: str) -> None:
    """To stdout, ending in one newline. Raises Unread, or Unavailable if it cannot be written.

    In pieces, because of PYTHONUNBUFFERED: then a large write to a pipe whose reader leaves in
    the middle ends early without an error. A write of PIPE_BUF bytes is whole or fails.
    """
    text = text if not text or text.endswith("\n") else text + "\n"
    for at in range(0, len(text), PIPE_BUF):
        _written(partial(sys.stdout.write, text[at : at + PIPE_BUF]))


def put(text: str) -> None:
    """To stdout as it is, and at once. Raises as `out` does."""
    for at in range(0, len(text), PIPE_BUF):
        _written(partial(sys.stdout.write, text[at : at + PIPE_BUF]))
    flush()


def flush() -> None:
    """Raises as `out` does: a full disk may show itself only now."""
    _written(sys.stdout.flush)


def _written(write: Callable[[], object]) -> None:
    try:
        write()
    except BrokenPipeError as why:
        raise Unread from why
    except OSError as why:
        discard()
        reason = (why.strerror or str(why)).lower()
        raise Unavailable(f"standard output cannot be written: {reason}", hint="df -h") from why


def discard() -> None:
    """What could not be written is given up: Python would try again on exit, and complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def as_json(value: object) -> str:
    """Indented, and pure ASCII: an escape sequence cannot hide in it."""
    import json

    return json.dumps(value, indent=4)


def as_yaml(value: object) -> str:
    from teleport_lite.config.yaml import dump

    return safe(dump(value))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, cut: str = "") -> str:
    """Header, a dashed line per column, padded cells.

    `cut` names the column that gives way when a terminal is too narrow; pipes get all of it.
    """
    cells = [[line(cell) for cell in row] for row in rows]
    if cut and sys.stdout.isatty():
        _cut(headers, cells, list(headers).index(cut))
    widths = [
        max(_width(head), *(_width(row[at]) for row in cells)) if cells else _width(head)
        for at, head in enumerate(headers)
    ]
    lines = [headers, ["-" * width for width in widths], *cells]
    return "".join(_row(each, widths) for each in lines)


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns without a header, as `tctl status` has them."""
    cells = [(line(name), line(value)) for name, value in rows]
    width = max((_width(name) for name, _ in cells), default=0)
    return "".join(_row(each, [width, 0]) for each in cells)


def labels(found: Any) -> str:
    """`a=1,b=2`, sorted."""
    return ",".join(f"{key}={value}" for key, value in sorted(found.items()))


def where(address: str) -> str:
    """Of a node. One without an address keeps tunnels to the proxies instead."""
    if address:
        return address
    return "⟵ Tunnel" if "utf" in (sys.stdout.encoding or "").lower() else "<- Tunnel"


def expiry(when: datetime | None, now: datetime) -> str:
    """`30 Mar 23 18:15 UTC (2m8s)`; `never` for what does not expire."""
    return NEVER if when is None else f"{stamp(when)} ({show_duration(when - now)})"


def stamp(when: datetime) -> str:
    """RFC 822 with a named zone, to the minute, as the tables have it."""
    return when.astimezone(UTC).strftime("%d %b %y %H:%M UTC")


def minutes(count: int) -> str:
    if count < 1:
        return "less than a minute"
    return "1 minute" if count == 1 else f"{count} minutes"


def safe(text: str) -> str:
    """Control and invisible characters as escapes; newlines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(_plain(char) if char not in "\n\t" else char for char in text)


def line(text: str) -> str:
    """As `safe`, on one line: for cells, where a newline would fake a row."""
    return text if text.isprintable() else "".join(_plain(char) for char in text)


def _plain(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)
    )
    return GAP.join(padded).rstrip() + "\n"


def _cut(headers: Sequence[str], cells: list[list[str]], at: int) -> None:
    others = sum(
        max([_width(head), *(_width(row[index]) for row in cells)]) + len(GAP)
        for index, head in enumerate(headers)
        if index != at
    )
    room = max(MIN_CUT, get_terminal_size().columns - others)
    for row in cells:
        if _width(row[at]) > room:
            row[at] = row[at][: room - 3] + "..."


def _width(text: str) -> int:
    """Columns on a terminal: CJK characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)
