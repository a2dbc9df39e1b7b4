"""The versions of the program that a proxy hands out: where they lie, and what may be read there.

    releases_dir/1.2.3/             as published: teleport-lite-1.2.3.pyz, SHA256SUMS, ...
    PREFIX/lib/teleport-lite/1.2.3/ as installed: teleport-lite.pyz, SHA256SUMS, ...
    the one file we run from        anywhere, and of our own version

The first of these that has a version gives all files of it, so that the list of digests, its
signature and what they are about belong together. A file that is not what its SHA256SUMS says is
not handed out. Everything here waits for the disk; `proxy/downloads.py` calls it in threads.
"""

import hashlib
import io
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.errors import Malformed, NotFound
from teleport_lite.release.here import FILE
from teleport_lite.release.sums import (
    MAX_SUMS,
    SIGNATURE,
    SUMS,
    program_name,
    read_sums,
    sbom_name,
)
from teleport_lite.release.version import Version

log = logging.getLogger("teleport_lite.proxy.releases")

# Of one file; ours has 41 MB.
MAX_FILE = 256 << 20
# Directories looked at, digests remembered; and versions told to who asks for another.
MOST, SHOWN = 1000, 20
_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # never waits, say for a pipe
Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Opened:
    """Whoever gets it closes `file`. `digest` is the SHA-256 of what is in it."""

    file: io.FileIO | io.BytesIO
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """A directory whose directories are versions: as published, or `placed` by an installation."""

    root: Path
    placed: bool = False
    strict: bool = True  # a list of digests that disagrees is an alarm

    def versions(self) -> Iterator[Version]:
        with suppress(OSError), os.scandir(self.root) as found:
            for _, entry in zip(range(MOST), found, strict=False):
                with suppress(Malformed):
                    version = Version.parse(entry.name)
                    if str(version) == entry.name:
                        yield version

    @contextmanager
    def directory(self, version: str) -> Iterator[int]:
        """Of a version. Raises OSError. The root may be a link, what is in it may not."""
        with _opened(os.open(self.root, _READ | os.O_DIRECTORY), stat.S_ISDIR) as root:
            found = os.open(version, _READ | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
            with _opened(found, stat.S_ISDIR) as at:
                yield at

    def on_disk(self, name: str, version: str) -> str:
        return FILE if self.placed and name == program_name(version) else name


@dataclass(frozen=True, slots=True)
class Loose:
    """The file we run from, wherever somebody has put it."""

    file: Path
    version: str
    strict: bool = False  # a list of digests beside it may be of another build

    def versions(self) -> Iterator[Version]:
        yield Version.parse(self.version)

    @contextmanager
    def directory(self, version: str) -> Iterator[int]:
        """Raises OSError."""
        if version != self.version:
            raise FileNotFoundError(version)
        with _opened(os.open(self.file.parent, _READ | os.O_DIRECTORY), stat.S_ISDIR) as at:
            yield at

    def on_disk(self, name: str, version: str) -> str:
        return self.file.name if name == program_name(version) else name


class Releases:
    """Safe from several threads."""

    def __init__(self, *places: Shelf | Loose) -> None:
        self._places = places
        self._digests: dict[Stamp, str] = {}
        self._told: set[str] = set()

    def versions(self) -> list[str]:
        """Those whose program is there, the newest first."""
        found = {version for place in self._places for version in place.versions()}
        return [str(each) for each in sorted(found, reverse=True) if self._place(str(each))]

    def open(self, version: str, name: str) -> Opened:
        """A file of a release, by its published name. Raises NotFound, naming what is there."""
        if name in (program_name(version), sbom_name(version), SUMS, SIGNATURE):
            place = self._place(version)
            if place is not None:
                with suppress(OSError, Malformed), place.directory(version) as at:
                    return self._open(place, at, version, name)
                raise NotFound(f"version {version} is here, but not this file of it")
        there = self.versions()
        more = ", ..." if len(there) > SHOWN else ""
        names = f"versions here: {', '.join(there[:SHOWN])}{more}" if there else "it has none"
        raise NotFound(f"this proxy has no such file of a release, {names}")

    def _place(self, version: str) -> Shelf | Loose | None:
        """Where this version is handed out from: its program is there."""
        try:
            if str(Version.parse(version)) != version:
                return None
        except Malformed:
            return None
        for place in self._places:
            with suppress(OSError), place.directory(version) as at:
                _file(at, place.on_disk(program_name(version), version)).close()
                return place
        return None

    def _open(self, place: Shelf | Loose, at: int, version: str, name: str) -> Opened:
        """Raises OSError and Malformed for what is not there, or not as it should be."""
        text, sums = self._sums(place, at, version)
        if name == SUMS:
            return _held(text or "".join(f"{sums[it]}  {it}\n" for it in sums).encode())
        if name == SIGNATURE:
            if not text:
                raise FileNotFoundError(name)
            return _held(_small(at, name))
        file = _file(at, place.on_disk(name, version))
        try:
            digest = self._digest(file)
            if sums.get(name) != digest:
                self._tell(f"{name} is not what the {SUMS} beside it says, and not handed out")
                raise Malformed(name)
        except BaseException:
            file.close()
            raise
        return Opened(file, os.fstat(file.fileno()).st_size, digest)

    def _sums(self, place: Shelf | Loose, at: int, version: str) -> tuple[bytes, dict[str, str]]:
        """The list as it lies there, and what it says; b"" where we make it up ourselves."""
        program = program_name(version)
        with _file(at, place.on_disk(program, version)) as file:
            own = {program: self._digest(file)}
        try:
            text = _small(at, SUMS)
            said = read_sums(text)
        except FileNotFoundError:
            return b"", own
        except (OSError, Malformed) as why:
            if place.strict:
                self._tell(f"{SUMS} of version {version} can not be read: {why}")
                raise
            return b"", own
        return (text, said) if place.strict or own.items() <= said.items() else (b"", own)

    def _digest(self, file: io.FileIO) -> str:
        """Read once for as long as the file stays the same. Leaves it at its beginning."""
        found = os.fstat(file.fileno())
        stamp = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        digest = self._digests.get(stamp)
        if digest is None:
            digests = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                digests.update(chunk)
            file.seek(0)
            digest = digests.hexdigest()
            if len(self._digests) >= MOST:
                self._digests.clear()
            self._digests[stamp] = digest
        return digest

    def _tell(self, what: str) -> None:
        """Once: anybody can ask for it again and again."""
        if what not in self._told:
            self._told.add(what)
            log.error("%s", what)


@contextmanager
def _opened(descriptor: int, is_kind: Callable[[int], bool]) -> Iterator[int]:
    """Closed in the end. Raises OSError."""
    try:
        _check(descriptor, is_kind)
        yield descriptor
    finally:
        os.close(descriptor)


def _file(at: int, name: str) -> io.FileIO:
    """Raises OSError."""
    file = io.FileIO(os.open(name, _READ | os.O_NOFOLLOW, dir_fd=at), "rb")
    try:
        _check(file.fileno(), stat.S_ISREG)
    except OSError:
        file.close()
        raise
    return file


def _check(descriptor: int, is_kind: Callable[[int], bool]) -> None:
    """Raises OSError for another kind, and for what anybody may replace."""
    found = os.fstat(descriptor)
    everybody = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    if not is_kind(found.st_mode) or everybody:
        raise PermissionError("it is no plain file or directory, or anybody may write to it")
    if stat.S_ISREG(found.st_mode) and found.st_size > MAX_FILE:
        raise PermissionError("it is too large")


def _small(at: int, name: str) -> bytes:
    """Raises OSError, Malformed."""
    with _file(at, name) as file:
        text = file.read(MAX_SUMS + 1) or b""
    if len(text) > MAX_SUMS:
        raise Malformed(f"{name} is too large")
    return text


def _held(raw: bytes) -> Opened:
    return Opened(io.BytesIO(raw), len(raw), hashlib.sha256(raw).hexdigest())
