"""tsh play."""

import sys
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

import typer

from teleport_lite.cli.exit import INTERRUPTED, warn
from teleport_lite.cli.show import as_json, as_yaml, out, put, safe
from teleport_lite.cli.tsh.desk import Desk, desk_of
from teleport_lite.errors import NotFound
from teleport_lite.model.names import UUID
from teleport_lite.proto.resource import moment

if TYPE_CHECKING:
    from teleport_lite.client.play import Player
    from teleport_lite.client.tape import Tape
    from teleport_lite.client.terminal import Key, Terminal

_KINDS = {"o": "output", "i": "input", "r": "resize", "m": "mark"}
_KEYS = "Keys: space stops and goes on, arrows skip 5 s, + and - change the speed, q ends."
# Text is put out in pieces of about so many characters.
_PIECE = 16 * 1024


class Shape(StrEnum):
    PTY = "pty"
    JSON = "json"
    YAML = "yaml"
    TEXT = "text"


def play(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="SID|FILE", help="Id of a session, or a file: x.cast.")
    ],
    format: Annotated[
        Shape, typer.Option("--format", "-f", help="On the terminal, or as something to read.")
    ] = Shape.PTY,
    speed: Annotated[str, typer.Option(help="0.5x, 1x, 2x, 4x or 8x.")] = "1x",
    skip_idle_time: Annotated[
        bool, typer.Option("--skip-idle-time/--no-skip-idle-time", help="No pause over a second.")
    ] = False,
) -> int | None:
    """Play a recorded session. Nothing in it reaches your terminal but text, colours and the
    cursor."""
    from teleport_lite.client.play import Player, parse_speed

    pace = parse_speed(speed)
    with _tape(desk_of(ctx), what) as tape:
        if tape.unread:
            warn(f"{tape.unread} lines of {tape.name} can not be read and are left out")
        player = Player(tape, speed=pace, skip_idle=skip_idle_time)
        if format is Shape.TEXT:
            _plain(tape)
        elif format is not Shape.PTY:
            _listed(tape, format)
        elif sys.stdin.isatty() and sys.stdout.isatty():
            return _at_terminal(desk_of(ctx), tape, player)
        else:
            _at_once(player)
    return None


def _tape(desk: Desk, what: str) -> "Tape":
    """Raises NotFound for what is neither."""
    from teleport_lite.client.tape import from_file, from_pieces

    path = Path(what)
    if UUID.fullmatch(what.lower()) and not path.is_file():
        sid = what.lower()
        return from_pieces(_pieces(desk, sid), f"recording {sid}")
    if not path.is_file():
        raise NotFound(
            f"{what[:80]!a} is neither the id of a session nor a file", hint="tsh recordings ls"
        )
    return from_file(path)


def _pieces(desk: Desk, sid: str) -> Iterator[bytes]:
    for number, (known, piece) in enumerate(desk.recordings(desk.person()).pieces(sid)):
        if not number and not known.flag("complete"):
            warn("this recording is incomplete: its end or a part is missing")
        yield piece


def _plain(tape: "Tape") -> None:
    from teleport_lite.client.plain_text import PlainText

    text, ready = PlainText(), ""
    for event in tape.events():
        if event.kind == "o":
            ready += text.feed(event.data)
        elif event.kind == "m":
            ready += f"{text.end()}[{event.data}]\n"
        if len(ready) >= _PIECE:
            put(safe(ready))
            ready = ""
    put(safe(ready + text.end()))


def _listed(tape: "Tape", format: Shape) -> None:
    """One list of events, the first of which says what the recording is."""
    separator = "[\n"
    for event in _events(tape):
        if format is Shape.YAML:
            put(as_yaml([event]))
        else:
            put(separator + as_json(event))
            separator = ",\n"
    if format is Shape.JSON:
        out("\n]")


def _events(tape: "Tape") -> Iterator[dict[str, Any]]:
    header = tape.header
    yield {
        "type": "start",
        "time": 0.0,
        "at": moment(datetime.fromtimestamp(header.timestamp, UTC)),
        "width": header.width,
        "height": header.height,
        "session": tape.facts,
    }
    for event in tape.events():
        yield {"type": _KINDS[event.kind], "time": event.at, "data": event.data}
    yield {"type": "end", "time": tape.seconds, "data": ""}


def _at_once(player: "Player") -> None:
    """Nobody watches: no pauses, no keys."""
    ready = ""
    try:
        for text in player.everything():
            ready += text
            if len(ready) >= _PIECE:
                put(ready)
                ready = ""
        put(ready)
    finally:  # after ^C too
        put(player.end() + "\n")


def _at_terminal(desk: Desk, tape: "Tape", player: "Player") -> int:
    from teleport_lite.client.terminal import Killed, Terminal

    size = get_terminal_size()
    if tape.header.width > size.columns or tape.header.height > size.lines:
        warn(
            f"recorded on a terminal of {tape.header.width} x {tape.header.height}, "
            f"yours has {size.columns} x {size.lines}"
        )
    sys.stderr.write(f"{_KEYS}\n")
    sys.stderr.flush()
    sys.stdout.flush()
    try:
        with Terminal(sys.stdin.fileno(), sys.stdout.fileno()) as terminal:
            try:
                code = _watch(desk, player, terminal)
            finally:
                terminal.show(player.end() + "\r\n")
    except Killed as killed:
        return 128 + killed.number
    except (OSError, EOFError):  # the terminal is gone
        return 1
    return code


def _watch(desk: Desk, player: "Player", terminal: "Terminal") -> int:
    """Until the recording is over, or somebody has seen enough."""
    from teleport_lite.client.terminal import Key

    pressed: deque[Key] = deque()
    while True:
        pressed += _show(terminal, player.tick(desk.clock.monotonic()))
        if not pressed:
            if player.over and not player.paused:
                return 0
            pressed += terminal.wait(player.wait())
            continue
        for key in pressed:
            if key in (Key.QUIT, Key.INTERRUPT):
                return INTERRUPTED if key is Key.INTERRUPT else 0
        pressed += _show(terminal, _pressed(player, pressed.popleft()))


def _show(terminal: "Terminal", texts: Iterator[str]) -> "list[Key]":
    """All of them, or as many as until a key is pressed: a gigabyte for one moment of a recording
    must not keep anybody from leaving."""
    size = 0
    for text in texts:
        terminal.show(text)
        size += len(text)
        if size >= _PIECE:
            size = 0
            if found := list(terminal.wait(0)):
                return found
    return []


def _pressed(player: "Player", key: "Key") -> Iterator[str]:
    from teleport_lite.client.play import SKIP
    from teleport_lite.client.terminal import Key

    if key is Key.BACK:
        yield from player.skip(-SKIP)
    elif key is Key.FORTH:
        yield from player.skip(SKIP)
    elif key is Key.PAUSE:
        player.pause()
    elif key is Key.FASTER:
        player.faster()
    elif key is Key.SLOWER:
        player.slower()
