"""A recording that lies here and can be wound: its lines in a file, and where each begins."""

import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from teleport_lite.errors import Denied, Malformed, NotFound, Unavailable
from teleport_lite.proto.cast import (
    MAX_WRITTEN_LINE,
    CastEvent,
    Header,
    read_event,
    read_facts,
    read_header,
)

_GZIP = b"\x1f\x8b"
# What a packed file may become. A megabyte of a stranger's can hold a gigabyte of nothing.
MAX_UNPACKED = 1 << 30


class Tape:
    """A context manager; not for several threads."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Reads all of `file`, which is ours from now on. Raises Malformed for what is no
        asciicast; single lines that are none are left out."""
        self._file, self.name = file, name
        self._offsets, self._times = array("q"), array("d")
        first = self._line()
        if first is None:
            raise Malformed(f"{name} is empty")
        try:
            self.header: Header = read_header(first)
        except Malformed as why:
            raise Malformed(f"{name} is no recording: {why.message}") from why
        self.facts: dict[str, Any] = read_facts(first)
        self.unread = 0  # lines that are no events
        self._index()

    def _index(self) -> None:
        at, last = self._file.tell(), 0.0
        while (line := self._line()) is not None:
            try:
                last = max(last, read_event(line).at)
                self._offsets.append(at)
                self._times.append(last)
            except Malformed:
                self.unread += 1
            at = self._file.tell()

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def seconds(self) -> float:
        """From its beginning to its last event."""
        return self._times[-1] if self._times else 0.0

    def at(self, number: int) -> float:
        """When event `number` happens."""
        return self._times[number]

    def after(self, seconds: float) -> int:
        """The number of the first event later than `seconds`."""
        return bisect_right(self._times, seconds)

    def events(self, start: int = 0, end: int | None = None) -> Iterator[CastEvent]:
        """From number `start` to before `end`; times never go back."""
        for number in range(start, len(self) if end is None else end):
            self._file.seek(self._offsets[number])
            event = read_event(self._line() or b"")
            yield CastEvent(self._times[number], event.kind, event.data)

    def _line(self) -> bytes | None:
        """Without its line feed. The rest of one that is too long counts as another."""
        line = self._file.readline(MAX_WRITTEN_LINE + 1)
        return line.rstrip(b"\n") if line else None

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def from_pieces(pieces: Iterable[bytes], name: str) -> Tape:
    """Kept in a file without a name, which is gone when it is closed. Raises Unavailable."""
    file = tempfile.TemporaryFile(prefix="tsh-")  # noqa: SIM115  # the tape closes it
    try:
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        return Tape(file, name)
    except OSError as why:
        file.close()
        reason = (why.strerror or str(why)).lower()
        raise Unavailable(f"{tempfile.gettempdir()}: {reason}", hint="df -h") from why
    except BaseException:
        file.close()
        raise


def from_file(path: Path) -> Tape:
    """A .cast, or a .cast.gz as auth keeps them. Raises NotFound, Denied, Malformed or
    Unavailable."""
    try:
        file: IO[bytes] = path.open("rb")
        if file.read(2) == _GZIP:
            with file:
                return from_pieces(_unpacked(path), str(path))
        file.seek(0)
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", hint="tsh recordings ls") from None
    except PermissionError:
        raise Denied(f"{path} may not be read") from None
    except OSError as why:
        raise Unavailable(f"{path}: {(why.strerror or str(why)).lower()}") from why
    try:
        return Tape(file, str(path))
    except BaseException:
        file.close()
        raise


def _unpacked(path: Path) -> Iterator[bytes]:
    """In pieces. Raises Malformed for what is cut, or too large."""
    import gzip
    import zlib

    size = 0
    try:
        with gzip.open(path) as packed:
            while piece := packed.read(1 << 20):
                size += len(piece)
                if size > MAX_UNPACKED:
                    raise Malformed(
                        f"{path} unpacks to more than {MAX_UNPACKED >> 20} MiB",
                        hint="zcat FILE > OTHER.cast, if you trust it, and play that",
                    )
                yield piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as why:
        raise Malformed(f"{path} is damaged: {str(why).lower()}") from why
