"""Recordings as files of the auth host: written once, read in pieces, removed.

    records/<sid>.cast.gz            finished; there is a row of the index for it
    records/<sid>.<host id>.part     on its way from a host

A file is a row of gzip members (RFC 1952 §2.2), each of some whole lines: anybody's zcat reads
it, and we begin in the middle without unpacking what is before.
"""

import errno
import gzip
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from teleport_lite.errors import Malformed, NotFound, Unavailable
from teleport_lite.pki.keyfile import make_private_dir
from teleport_lite.proto.recording import MAX_PART

log = logging.getLogger("teleport_lite.auth")

# The rest of auth works on the same disk, and matters more than the next recording.
RESERVE = 256 * 1024 * 1024
# A part written anew: two bytes of a character may become six.
MAX_MEMBER = 4 * MAX_PART
NO_ROOM = "no room for recordings"
_DONE, _PART = ".cast.gz", ".part"
_CHUNK = 64 * 1024
# Of a file that is read for a backup.
_PIECE = 1024 * 1024


def no_room(why: str) -> Unavailable:
    return Unavailable(
        f"{NO_ROOM}: {why}", hint="tctl recordings rm, or a larger auth_service.recording_quota"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Where recordings are kept, how many bytes of them (0: what the disk takes), how long (zero:
    for ever), and who makes them ("off": nobody)."""

    directory: Path
    quota: int
    retention: timedelta
    made_by: str = "node"


class Shelf:
    def __init__(self, directory: Path, *, reserve: int = RESERVE) -> None:
        """`reserve` bytes of the disk are left alone. Raises Denied or Unavailable."""
        self._directory, self._reserve = directory, reserve
        make_private_dir(directory)

    def begin(self, sid: str, host_id: str) -> "Draft":
        """Raises Unavailable."""
        with _explained():
            return Draft(self, self._directory / f"{sid}.{host_id}{_PART}", self._path(sid))

    def check_disk(self, more: int) -> None:
        """Raises Unavailable if the disk has no room for `more` bytes."""
        with _explained():
            disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        if free - more < self._reserve:
            raise no_room(f"{free >> 20} MiB of the disk of auth are free")

    def read(self, sid: str, at: int) -> tuple[bytes, int | None]:
        """Some whole lines, and where the next begin; None after the last ones.

        Raises NotFound, Malformed for an `at` that is no beginning, Unavailable.
        """
        with _explained():
            try:
                file = self._path(sid).open("rb")
            except FileNotFoundError:
                raise NotFound(
                    f"the file of recording {sid} is gone", hint="tsh recordings ls"
                ) from None
            with file:
                size = os.fstat(file.fileno()).st_size
                if not 0 <= at < size:
                    raise Malformed(f"recording {sid} does not go on at {at}")
                file.seek(at)
                lines, used = _member(file, sid)
        return lines, at + used if at + used < size else None

    def raw(self, sid: str) -> Iterator[bytes]:
        """The file as it is, piece by piece. Raises NotFound, Unavailable."""
        with _explained():
            try:
                file = self._path(sid).open("rb")
            except FileNotFoundError:
                raise NotFound(f"the file of recording {sid} is not here") from None
            with file:
                while data := file.read(_PIECE):
                    yield data

    def remove(self, sid: str) -> int:
        """How many bytes that frees: none if it is not there. Raises Unavailable."""
        with _explained():
            try:
                size = self._path(sid).stat().st_size
            except FileNotFoundError:
                return 0
            self._path(sid).unlink(missing_ok=True)
        return size

    def used(self) -> int:
        """Bytes of all that is finished. Raises Unavailable."""
        with _explained():
            return sum(path.stat().st_size for path in self._directory.glob(f"*{_DONE}"))

    def has(self, sid: str) -> bool:
        return self._path(sid).exists()

    def tidy(self, known: Callable[[str], bool]) -> int:
        """Remove what a crash has left: half uploads, and files that no row knows. How many.

        An index that knows none of the files is not theirs: somebody has lost the database, or has
        named another one. They stay.
        """
        gone = 0
        with _explained():
            paths = [path for path in self._directory.iterdir() if path.is_file()]
            files = {path: path.name.removesuffix(_DONE) for path in paths if _is(path, _DONE)}
            strange = [path for path, sid in files.items() if not known(sid)]
            if strange and len(strange) == len(files):
                log.warning(
                    "%d recordings in %s are in no index, and stay", len(strange), self._directory
                )
                strange = []
            for path in [*strange, *(path for path in paths if _is(path, _PART))]:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _path(self, sid: str) -> Path:
        return self._directory / f"{sid}{_DONE}"


class Draft:
    """A recording on its way. Not for several threads at once."""

    def __init__(self, shelf: Shelf, path: Path, final: Path) -> None:
        self._shelf, self._path, self._final = shelf, path, final
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self.stored = 0  # bytes in the file

    def add(self, packed: bytes) -> None:
        """All of it or nothing. Raises Unavailable."""
        self._shelf.check_disk(len(packed))
        try:
            rest = memoryview(packed)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as why:
            with suppress(OSError):
                os.ftruncate(self._file, self.stored)
                os.lseek(self._file, self.stored, os.SEEK_SET)
            raise _told(why) from why
        self.stored += len(packed)

    def sync(self) -> None:
        """What was added is on the disk. Raises Unavailable."""
        with _explained():
            os.fsync(self._file)

    def finish(self) -> None:
        """Durable under its own name when this returns. Raises Unavailable."""
        self.sync()
        with _explained():
            self._path.rename(self._final)
            directory = os.open(self._final.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        self._close()

    def drop(self) -> None:
        """Nothing of it stays. May be called twice."""
        self._close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _is(path: Path, suffix: str) -> bool:
    return path.name.endswith(suffix)


def packed(lines: bytes) -> bytes:
    """As a member of its own."""
    return gzip.compress(lines, compresslevel=6, mtime=0)


def _member(file: BinaryIO, sid: str) -> tuple[bytes, int]:
    """One member, unpacked, and how many bytes of the file it takes."""
    unpack, used, found = zlib.decompressobj(wbits=31), 0, b""  # 31: with the frame of gzip
    try:
        while not unpack.eof:
            chunk = file.read(_CHUNK)
            found += unpack.decompress(chunk, MAX_MEMBER + 1 - len(found))
            used += len(chunk) - len(unpack.unused_data)
            if not chunk or unpack.unconsumed_tail or len(found) > MAX_MEMBER:
                raise zlib.error("cut, or too large")
    except zlib.error as why:
        raise Malformed(f"recording {sid} is damaged, or not read from a beginning") from why
    return found, used


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as why:
        raise _told(why) from why


def _told(why: OSError) -> Unavailable:
    reason = (why.strerror or str(why)).lower()
    if why.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return no_room(reason)
    return Unavailable(f"recordings can not be kept or read: {reason}", log=repr(why))
