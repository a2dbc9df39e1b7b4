"""Asking auth for a backup, and writing it down: a file that is whole, private and read back."""

import base64
import binascii
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from teleport_lite.ambient import SystemChance
from teleport_lite.client.admin import Asking
from teleport_lite.client.facts import Facts
from teleport_lite.errors import Conflict, Malformed, NotFound, Unavailable
from teleport_lite.proto.backup_file import Draft, End, Reader


class BackupClient:
    """Every method raises what the server refused with, Unavailable or Malformed."""

    def __init__(self, transport: Asking) -> None:
        self._transport = transport

    def begin(self, *, recordings: bool) -> Facts:
        """`id`, and how many `rows`, `recordings` and bytes of these (`recordings_size`) to
        expect."""
        return self._ask("/v1/backup/begin", recordings=recordings)

    def pieces(self, id: str) -> Iterator[bytes]:
        """All of it, in its order. A piece whose answer was lost is asked for once more."""
        at: int | None = 0
        while at is not None:
            try:
                found = self._ask("/v1/backup/read", id=id, at=at)
            except Unavailable:
                found = self._ask("/v1/backup/read", id=id, at=at)
            try:
                data = base64.b64decode(found.text("data"), validate=True)
            except binascii.Error as why:
                raise Malformed(f"{self._transport.name} sends no backup") from why
            following = None if found.plain.get("next", 0) is None else found.number("next")
            if following is not None and following != at + len(data):
                raise Malformed(f"{self._transport.name} sends a backup with gaps")
            at = following
            yield data

    def end(self, id: str) -> None:
        self._ask("/v1/backup/end", id=id)

    def keys(self) -> dict[str, int]:
        """Ids of keys, and how many rows are sealed under each."""
        return _counts(self._ask("/v1/keyring/look"))

    def reseal(self) -> tuple[int, dict[str, int]]:
        """How many rows were sealed anew, and what `keys` says now."""
        found = self._ask("/v1/keyring/reseal")
        return found.number("resealed"), _counts(found)

    def _ask(self, path: str, **fields: object) -> Facts:
        return Facts(self._transport.ask(path, fields), f"{self._transport.name} to {path}")


@dataclass(frozen=True, slots=True)
class Saved:
    size: int  # bytes
    missing: int  # recordings that were not there


def save(
    target: Path, pieces: Iterator[bytes], keyring: bytes | None, told: Callable[[int], None]
) -> Saved:
    """Write a backup, read it back, and only then give it its name.

    `keyring` is sealed already. `told` hears how many bytes there are. Raises Conflict if there
    is a file already, Malformed for what turns out not to be whole, Unavailable.
    """
    if target.exists() or target.is_symlink():
        raise Conflict(f"{target} exists already, and a backup is never put over another file")
    temporary = target.with_name(f".{target.name}.{SystemChance().token(4)}.part")
    try:
        with explained(target):
            _write(temporary, pieces, keyring, told)
            with temporary.open("rb") as file:
                ends = [p for p in Reader(file, str(target)).parts() if isinstance(p, End)]
                saved = Saved(os.fstat(file.fileno()).st_size, ends[0].missing)
            _name(temporary, target)
            _sync(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return saved


def _write(
    path: Path, pieces: Iterator[bytes], keyring: bytes | None, told: Callable[[int], None]
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    draft, size = Draft(), 0
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        for data in pieces:
            file.write(draft.passed(data))
            size += len(data)
            told(size)
        if keyring is not None:
            file.write(draft.keyring(keyring))
        file.write(draft.last_line())
        file.flush()
        os.fsync(file.fileno())


def _name(temporary: Path, target: Path) -> None:
    """Raises FileExistsError: unlike rename, it replaces nothing."""
    try:
        os.link(temporary, target)
    except OSError as why:
        # exFAT on a stick, and shares of others, know no second name: the name is taken first.
        if why.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        temporary.rename(target)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Raises NotFound, Unavailable."""
    with explained(path, "read"), path.open("rb") as file:
        yield file


@contextmanager
def explained(path: Path, verb: str = "write") -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as why:
        gone = path if verb == "read" else path.parent
        raise NotFound(f"{gone} does not exist") from why
    except FileExistsError as why:
        raise Conflict(f"{path} has turned up meanwhile") from why
    except OSError as why:
        reason = (why.strerror or str(why)).lower()
        raise Unavailable(f"can not {verb} {path}: {reason}", hint="df -h") from why


def _counts(found: Facts) -> dict[str, int]:
    rows = found.one("rows")
    return {name: rows.number(name) for name in rows.plain}


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
