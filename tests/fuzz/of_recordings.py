"""Readers of recordings when they are shown, and of what those say who look on."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from teleport_lite.client.play import Player
from teleport_lite.client.screen import ScreenFilter
from teleport_lite.client.tape import from_file, from_pieces
from teleport_lite.client.terminal import keys
from teleport_lite.errors import Error, Malformed
from teleport_lite.net.ssh_channel import Channel
from teleport_lite.net.ssh_tap import (
    COUNT,
    GAP,
    INPUT,
    OUTPUT,
    RESIZE,
    SIZE,
    Arrival,
    RecordTap,
    ToTap,
)
from teleport_lite.net.ssh_visit import Seat, Visit
from teleport_lite.proto.codec import write
from tests.fuzz.of_files import temporary
from tests.fuzz.of_messages import CAST
from tests.fuzz.target import Finding, Pieces, any_of, framed, target

# Everything that a terminal may be sent, said a second time and in other words than in `screen`.
_TEXT = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]"
_HARMLESS = re.compile(
    rf"(?:{_TEXT}|[\b\t\n\v\f\r]"
    r"|\x1b[78DEM]"
    r"|\x1b\[[0-9]{0,4}[@A-GILMPSTXZ`abde]"
    r"|\x1b\[[0-9]{0,4}(?:;[0-9]{0,4})?[Hfr]"
    r"|\x1b\[\??[0-2]?[JK]"
    r"|\x1b\[[su]"
    r"|\x1b\[4[hl]"
    r"|\x1b\[\?(?:5|6|7|25|47|1047|1048|1049)(?:;(?:5|6|7|25|47|1047|1048|1049))*[hl]"
    r"|\x1b\[[0-9:]{0,999}(?:;[0-9:]{0,999}){0,31}m"
    r"|\x1b\[[0-6]? q)*"
)
_SCREEN = [
    b"\x1b[1;31mred\x1b[0m",
    b"\x1b[2J\x1b[H",
    b"\x1b[?1049h",
    b"\x1b[?1;25;2004l",
    b"\x1b]0;title\x07",
    b"\x1b]52;c;AAAA\x1b\\",
    b"\x1bP$q q\x1b\\",
    b"\x1b[6n",
    b"\x1b[c",
    b"\x1b(0lqqk\x1b(B",
    b"\x0e\x0f",
    b"\x1bc",
    b"\x1b[3;20r",
    b"\x1b[4h",
    b"\x1b[2 q",
    b"\x1b]P0ffffff",
    b"\x1b[38:2::1:2:3m",
    b"\xc2\x9b6n",
    b"\x18\x1a",
    b"\xed\xa0\x80",
]


@target(raises=(), seeds=lambda: _SCREEN, parts=lambda: any_of(_SCREEN))
def screen_of_a_recording(data: bytes) -> None:
    """Only what is on the list reaches the terminal, however it is cut."""
    text = data.decode("utf-8", "surrogateescape")
    whole, cut = ScreenFilter(), ScreenFilter()
    shown = whole.feed(text)
    for each in (shown, whole.end().removeprefix("\x18")):
        if not _HARMLESS.fullmatch(each):
            raise Finding(f"reaches a terminal: {each!r}")
    if "".join(map(cut.feed, text)) != shown:
        raise Finding("cut into characters it shows something else")


@target(raises=(Malformed,), seeds=lambda: [CAST], parts=lambda: any_of(CAST.splitlines(True)))
def tapes(data: bytes) -> None:
    with from_pieces([data], "x") as tape:
        player = Player(tape, skip_idle=True)
        for now in (0.0, 0.1, 2.0):
            list(player.tick(now))
        shown = "".join(player.skip(-1.0)) + "".join(player.everything())
        if not player.over or not _HARMLESS.fullmatch(shown.replace("\x18", "")):
            raise Finding(f"{shown!r}")


@target(raises=(Error,), seeds=lambda: [_packed(CAST), CAST], most=2048)
def tapes_in_files(data: bytes) -> None:
    """As auth keeps them."""
    with temporary(data) as path, from_file(path) as tape:
        list(tape.events())


def _packed(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, mtime=0)


@target(raises=(), seeds=lambda: [b" \x1b[D+q\x1b", b"\x1b[1;5C\x1bOD\x03"], most=256)
def keys_of_a_viewer(data: bytes) -> None:
    if len(list(keys(data))) > len(data):
        raise Finding("more keys than bytes")


@contextmanager
def _pairs(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    kind = socket.SOCK_SEQPACKET
    found = [socket.socketpair(socket.AF_UNIX, kind) for _ in range(count)]
    try:
        yield found
    finally:
        for pair in found:
            for each in pair:
                each.close()


@target(
    raises=(Malformed,),
    seeds=lambda: [
        framed(b"\0" + INPUT + b"ls\n", b"\1" + write(ToTap(say="hello")), b"\2out"),
        framed(b"\1" + write(ToTap(leave=1)), b"\1" + write(ToTap(broken=True)), b"\0x"),
    ],
    parts=lambda: any_of([b"\0" + INPUT + b"x", b"\1" + write(ToTap(leave=1)), b"\2out"]).map(
        framed
    ),
)
def parties(data: bytes) -> None:
    """What somebody types who has joined, and what a monitor says meanwhile."""
    pieces = Pieces(data)
    with _pairs(3) as ((control, monitor), (reel, _scribe), (party, joiner)):
        tap = RecordTap(control=control, scribe=reel, strict=False, size=(80, 24))
        said: list[str] = []
        tap.bind(said.append, lambda _seconds: None)
        word = write(ToTap(party=Arrival(number=1, types=bool(len(data) % 2))))
        socket.send_fds(monitor, [word], [party.fileno()])
        try:
            tap.ready(control.fileno())
            joiner.setblocking(False)
            monitor.setblocking(False)
            while pieces:
                piece = pieces.text()
                end = (joiner, monitor)[piece[0] % 3] if piece and piece[0] % 3 < 2 else None
                if end is None:
                    tap.output(piece)
                elif len(piece) > 1:
                    end.send(piece[1:])
                for fd, _ in list(tap.wants()):
                    tap.ready(fd)
                if len(tap.typed()) > 64 * 1024:
                    raise Finding("more than anybody may type")
        except (BlockingIOError, BrokenPipeError):
            pass  # it has been turned out, or is told too much
        finally:
            tap.close()


class _Line:
    def __init__(self) -> None:
        self.sent = 0

    def __getattr__(self, name: str) -> object:
        return lambda *args, **more: None


@target(
    raises=(),
    seeds=lambda: [
        framed(OUTPUT + b"hello", RESIZE + SIZE.pack(80, 24), GAP + COUNT.pack(7)),
        framed(RESIZE + b"\0", b"", b"x"),
    ],
)
def visits(data: bytes) -> None:
    """What the worker of a session sends to one that has joined it."""
    pieces = Pieces(data)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(0, "session", _Line())
    channel.opened(0, 1 << 20, 32768)
    visit = Visit(channel, Seat(words="you watch", fd=theirs.detach(), types=True))
    try:
        ours.setblocking(False)
        while pieces and not visit.closed and not channel.closed:
            piece = pieces.text()
            if piece:
                ours.send(piece)
            for fd, _ in list(visit.wants(may_send=True)):
                visit.ready(fd)
    except (BlockingIOError, BrokenPipeError):
        pass
    finally:
        visit.close()
        ours.close()
