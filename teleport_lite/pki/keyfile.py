"""Files that must be whole, private and ours: written atomically, read with suspicion.

Writing: a new file beside the target (O_EXCL, so no link and no file of somebody else is ever
opened), its exact mode whatever the umask says, fsync, rename, fsync of the directory. A crash
leaves the old file or the new one. Reading: no link is followed, and a file that others could
have read or written is refused, with the command that repairs it.
"""

import errno
import fcntl
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from teleport_lite.ambient import SystemChance
from teleport_lite.errors import Conflict, Denied, Malformed, NotFound, Unavailable

SECRET_MODE = 0o600
DIR_MODE = 0o700
PARENT_MODE = 0o755


def make_private_dir(path: Path) -> None:
    """Make `path` with mode 0700 (and what is missing above it, 0755), or check that it is so.

    Raises Denied if it is a link or no directory, belongs to somebody else, or others may
    enter it; NotFound, Denied or Unavailable if the system refuses.
    """
    _refuse_nul(path)
    try:
        missing = [each for each in path.parents if not each.exists()]
        for each in reversed(missing):
            _mkdir(each, PARENT_MODE)
        _mkdir(path, DIR_MODE)
        directory = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as why:
        _refuse(path, why, "make")
    try:
        _check(os.fstat(directory), path, stat.S_ISDIR, "a directory", "chmod 700")
    finally:
        os.close(directory)


def write_secret(path: Path, data: bytes) -> None:
    """Put `data` into `path`, mode 0600, in one step.

    Raises Denied if a link, directory or device is there; NotFound, Denied or Unavailable if
    the system refuses. On any error the old content stays.
    """
    _write(path, data, SECRET_MODE, replace=True)


def write_public(path: Path, data: bytes, *, mode: int = 0o644, replace: bool = True) -> None:
    """The same for what everybody may read. Raises Conflict if it is there and may not be replaced.

    Of several that write at once with `replace=False`, exactly one succeeds.
    """
    _write(path, data, mode, replace=replace)


def read_secret(path: Path, *, limit: int = 1 << 20) -> bytes:
    """The content of a private file.

    Raises NotFound; Denied if it is no regular file, is not ours or root's, or is open to
    others; Malformed if it is longer than `limit` bytes.
    """
    _refuse_nul(path)
    # O_NONBLOCK: opening a FIFO must not wait for a writer that never comes.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
        try:
            _check(os.fstat(descriptor), path, stat.S_ISREG, "a regular file", "chmod 600")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except OSError as why:
        _refuse(path, why, "read")
    if len(data) > limit:
        raise Malformed(f"{path} is longer than {limit} bytes")
    return data


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """While nobody else who asks for it here changes a file beside `path`: for whoever reads one,
    and writes it anew with a change. Raises NotFound, Denied or Unavailable."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as why:
        _refuse(path, why, "write")
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _write(path: Path, data: bytes, mode: int, *, replace: bool) -> None:
    _refuse_nul(path)
    try:
        with _directory_of(path) as directory:
            _check_target(path, directory)
            temporary = f".{SystemChance().token(8)}.tmp"
            try:
                _fill(temporary, data, mode, directory)
                _place(temporary, path.name, directory, replace=replace)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=directory)
                raise
            os.fsync(directory)
    except OSError as why:
        _refuse(path, why, "write")


def _fill(name: str, data: bytes, mode: int, directory: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, SECRET_MODE, dir_fd=directory), "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def _place(temporary: str, name: str, directory: int, *, replace: bool) -> None:
    if replace:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        return
    # link(2) fails if the name is taken; looking first would leave a gap.
    os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    os.unlink(temporary, dir_fd=directory)


def _check_target(path: Path, directory: int) -> None:
    """A rename would replace a link without following it; it is still a sign of trouble."""
    try:
        there = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(there.st_mode):
        raise Denied(f"{path} is {_kind(there.st_mode)}, expected a regular file")


@contextmanager
def _directory_of(path: Path) -> Iterator[int]:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def _mkdir(path: Path, mode: int) -> None:
    """With exactly `mode`, if it is not there."""
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return
    directory = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # The umask may have taken bits away; O_PATH opens what we may not even read.
        Path(f"/proc/self/fd/{directory}").chmod(mode)
    finally:
        os.close(directory)


def _check(
    found: os.stat_result,
    path: Path,
    right_kind: Callable[[int], bool],
    expected: str,
    fix: str,
) -> None:
    if not right_kind(found.st_mode):
        raise Denied(f"{path} is {_kind(found.st_mode)}, expected {expected}")
    if found.st_uid not in (0, os.geteuid()):
        raise Denied(f"{path} belongs to user {found.st_uid}, expected {os.geteuid()}")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise Denied(
            f"{path} has mode {mode:04o}, others may not have access",
            hint=f"{fix} {shlex.quote(str(path))}",
        )


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFREG: "a regular file",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "a device")


def _refuse_nul(path: Path) -> None:
    # The system would not take it, and Python raises a plain ValueError.
    if "\0" in str(path):
        raise Malformed(f"file name {str(path)[:80]!a} holds a NUL")


def _refuse(path: Path, why: OSError, verb: str) -> NoReturn:
    """One of our errors for what the system said."""
    if isinstance(why, FileNotFoundError | NotADirectoryError):
        what = f"{path} does not exist" if verb == "read" else f"{path.parent} is no directory"
        raise NotFound(what) from why
    if isinstance(why, FileExistsError):
        raise Conflict(f"{path} exists already") from why
    if why.errno == errno.ELOOP:  # O_NOFOLLOW met a link
        raise Denied(f"{path} is a symbolic link, expected a regular file") from why
    if why.errno == errno.ENXIO:
        raise Denied(f"{path} is a socket, expected a regular file") from why
    cause = f"can not {verb} {path}: {why.strerror}"
    raise (Denied if isinstance(why, PermissionError) else Unavailable)(cause) from why
