"""tsh recordings: ls, export."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.recordings import recordings_table, session_id, span
from teleport_lite.cli.show import Format, emit, out, put, safe
from teleport_lite.cli.tsh.desk import Desk, desk_of
from teleport_lite.errors import Conflict, Denied, NotFound, Unavailable

app = typer.Typer(help="Sessions that were recorded.", **PLAIN)

_FROM = "Those that began on this day or at this time: 2026-01-31, 2026-01-31T08:00:00Z."


@app.command()
def ls(
    ctx: typer.Context,
    from_utc: Annotated[str, typer.Option(help=_FROM)] = "",
    to_utc: Annotated[str, typer.Option(help="And no later than this day or time.")] = "",
    last: Annotated[str, typer.Option(help="Those of the last 5h, 30d. 24h if not given.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    of: Annotated[str, typer.Option(metavar="USER", help="Only sessions of this user.")] = "",
    search: Annotated[
        list[str] | None, typer.Option(help="Only those with these words somewhere: web,top.")
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Form of the answer.")
    ] = Format.TEXT,
) -> None:
    """List recordings, the latest first: your own, or all that your roles let you see."""
    desk = desk_of(ctx)
    since, until = span(desk.clock.now(), from_utc, to_utc, last)
    words = " ".join(search or ()).replace(",", " ")
    found = desk.recordings(desk.person()).listing(
        since=since, until=until, user=of, search=words, limit=limit
    )
    if len(found) == limit and format is Format.TEXT:
        warn(f"there may be more, tsh recordings ls --limit={limit * 2} shows them")
    emit([each.plain for each in found], format, lambda: recordings_table(found))
    if not found and not from_utc and not last:
        warn("there are none of the last 24 hours, tsh recordings ls --last=30d looks further back")


@app.command()
def export(
    ctx: typer.Context,
    sid: Annotated[str, typer.Argument(metavar="SID", help="Id of a session.")],
    to: Annotated[
        str, typer.Option("--out", "-o", help="File to write, - for standard output. SID.cast.")
    ] = "",
) -> None:
    """Write a recording into a file, as an asciicast that other players know too."""
    desk, sid = desk_of(ctx), session_id(sid)
    pieces = _pieces(desk, sid)
    if to == "-":
        for piece in pieces:
            put(safe(piece.decode("ascii", "replace")))  # it is ASCII, unless somebody lies
        return
    path = Path(to or f"{sid}.cast")
    size = _write(path, pieces)
    out(safe(f"{size} bytes were written to {path}."))


def _pieces(desk: Desk, sid: str) -> Iterator[bytes]:
    for number, (known, piece) in enumerate(desk.recordings(desk.person()).pieces(sid)):
        if not number and not known.flag("complete"):
            warn("this recording is incomplete: its end or a part is missing")
        yield piece


def _write(path: Path, pieces: Iterator[bytes]) -> int:
    """Whole or not at all, for its owner alone. Raises Conflict if something is there."""
    if os.path.lexists(path):
        raise _taken(path)
    size, half = 0, path.with_name(f".{path.name}.{os.getpid()}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(half, flags, 0o600), "wb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        _place(half, path)
    except FileExistsError:
        raise _taken(path) from None
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            f"{path.parent} is no directory", hint="tsh recordings export SID --out=OTHER.cast"
        ) from None
    except PermissionError:
        raise Denied(f"{path} may not be written", hint=f"ls -ld {path.parent}") from None
    except OSError as why:
        raise Unavailable(f"{path}: {(why.strerror or str(why)).lower()}", hint="df -h") from why
    finally:
        with suppress(OSError):
            half.unlink()
    return size


def _place(half: Path, path: Path) -> None:
    """Raises FileExistsError, unlike a rename, which would take the place of something."""
    try:
        os.link(half, path)
    except OSError as why:
        # On a stick, file systems without links.
        if why.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(path):
            raise FileExistsError(path) from why
        half.rename(path)


def _taken(path: Path) -> Conflict:
    return Conflict(f"{path} exists already", hint="tsh recordings export SID --out=OTHER.cast")
