"""The database as files: one process at a time, private, made whole or not at all."""

import fcntl
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.pki.keyfile import make_private_dir

# https://sqlite.org/fileformat.html §1.3.1
_MAGIC, _HEADER = b"SQLite format 3\0", 100
PAGE = "docs/storage.md"

# A POSIX lock belongs to the process, so within this one we keep count ourselves. It has to be
# that kind of lock: a forked session worker must not inherit it and outlive us with it.
_ours: set[str] = set()
_ours_lock = threading.Lock()


class Claim:
    """The right of this process to use a database, from construction to `release`."""

    def __init__(self, path: Path) -> None:
        """Raises Unavailable naming the process that has it, Denied if the directory is unsafe."""
        make_private_dir(path.parent)
        self._name = str(path.parent.resolve() / path.name)
        with _ours_lock:
            if self._name in _ours:
                raise Unavailable(f"database {path} is open in this process ({os.getpid()})")
            self._lock = _lock(path)
            _ours.add(self._name)

    def release(self) -> None:
        with _ours_lock:
            if self._name in _ours:
                _ours.remove(self._name)
                os.close(self._lock)


def _lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        lock = os.open(path.with_name(path.name + ".lock"), flags, 0o600)
    except OSError as why:
        raise Unavailable(f"cannot lock database {path}: {why.strerror}") from why
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as why:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        if isinstance(why, BlockingIOError | PermissionError):
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise Unavailable(
                f"database {path} is in use by {who}", hint="systemctl status teleport-lite"
            ) from None
        raise Unavailable(f"cannot lock database {path}: {why.strerror}") from why
    with suppress(OSError):  # a courtesy to whoever is refused; a full disk may not keep us out
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def make(path: Path, fill: Callable[[Path], None]) -> None:
    """Make the file by `fill` under another name, then give it its own.

    So `path` is never seen empty or half-made, and an empty file there is always damage.
    """
    if path.with_name(path.name + "-wal").exists():
        raise Unavailable(f"database {path} is missing, but its journal is there", hint=PAGE)
    fresh = _fresh(path)
    try:
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        fill(fresh)
        _sync(fresh)
        os.link(fresh, path)  # unlike rename, link never replaces a database that has turned up
        fresh.unlink()
        _sync(path.parent)
        with suppress(PermissionError):  # the directory may be as new as the file
            _sync(path.parent.parent)
    except OSError as why:
        raise Unavailable(f"cannot make database {path}: {why.strerror}") from why
    finally:
        tidy(path)


def tidy(path: Path) -> None:
    """Remove what a `make` that was killed has left."""
    for end in ("", "-wal", "-shm", "-journal"):
        with suppress(OSError):
            _fresh(path, end).unlink(missing_ok=True)


def _fresh(path: Path, end: str = "") -> Path:
    return path.with_name(f".{path.name}.new{end}")


def free(path: Path) -> int | None:
    """Bytes that this process may still write beside `path`; None if nobody knows."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return None
    return (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize


def check(path: Path) -> None:
    """Before SQLite sees it: is this file private, ours, and a database at all?

    Only while nothing in this process has the database open: closing a descriptor of it would
    drop SQLite's own locks (https://sqlite.org/howtocorrupt.html §2.2).
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as why:
        if path.is_symlink():
            raise Denied(f"database {path} is a symbolic link") from why
        raise Unavailable(f"cannot open database {path}: {why.strerror}") from why
    try:
        found = os.fstat(file)
        _check_owner(path, found)
        if found.st_size == 0:
            raise Unavailable(f"database {path} is empty, it was cut off or replaced", hint=PAGE)
        header = os.pread(file, _HEADER, 0)
        if len(header) < _HEADER or not header.startswith(_MAGIC):
            raise Unavailable(f"{path} is not a database", hint=PAGE)
        whole = found.st_size % max(int.from_bytes(header[16:18], "big"), 512) == 0
        # A crash in the middle of copying the journal into it may leave part of a page; SQLite
        # writes that again from the journal. Without one it is damage, which SQLite would not see.
        if not whole and not path.with_name(path.name + "-wal").exists():
            raise Unavailable(f"database {path} is damaged: its end is missing", hint=PAGE)
    finally:
        os.close(file)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Denied(f"database {path} is not a regular file")
    if found.st_uid not in (0, os.geteuid()):
        raise Denied(f"database {path} belongs to user {found.st_uid}, expected {os.geteuid()}")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise Denied(
            f"database {path} has mode {mode:04o}, others may not have access",
            hint=f"chmod 600 {path}",
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
