"""What lies where under a prefix, and the few steps that change it: each whole or not at all.

PREFIX/lib/teleport-lite/1.2.3/teleport-lite.pyz    with SHA256SUMS and SHA256SUMS.sig, if any
PREFIX/lib/teleport-lite/current -> 1.2.3           what PREFIX/bin/teleport-lite leads to
PREFIX/lib/teleport-lite/previous -> 1.2.2          what was current before
PREFIX/lib/teleport-lite/<build>-<target>/          trees, and launch-<build>: packaging/boot
PREFIX/lib/teleport-lite/plugins/                   the operator's
"""

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.errors import Conflict, Denied, Error, Malformed, Unavailable
from teleport_lite.release.here import FILE, LIB, TREE, stated
from teleport_lite.release.version import Version

NAMES = ("teleport-lite", "tctl", "tsh", "tbot")
LAUNCH = re.compile(r"launch-([0-9a-f]{16})")
# Begins the names of what is half made; packaging/boot removes such after an hour, too.
MAKING = ".making-"
LOCK = ".install-lock"
# The number of an open file that holds the lock, for the program that an upgrade runs.
_LOCK_VARIABLE = "TELEPORT_LITE_INSTALL_LOCK"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths under one prefix."""

    prefix: Path

    @property
    def lib(self) -> Path:
        return self.prefix / LIB

    @property
    def bin(self) -> Path:
        return self.prefix / "bin"

    def file(self, version: str) -> Path:
        return self.lib / version / FILE

    def current(self) -> str:
        """The version in use; "" before the first."""
        return _target(self.lib / "current")

    def previous(self) -> str:
        """What was current before; "" if nothing was."""
        return _target(self.lib / "previous")

    def versions(self) -> list[Version]:
        """All that are there, the newest last."""
        return sorted(each for each in map(_version, _names(self.lib)) if each is not None)

    def build(self, version: str) -> str:
        """The build id of a version; "" if its file is gone."""
        said = stated(self.file(version))
        return said[1] if said else ""

    def trees(self) -> dict[str, str]:
        """Name of each unpacked tree, and its build."""
        found = {name: TREE.fullmatch(name) for name in _names(self.lib)}
        return {name: match["build"] for name, match in found.items() if match}

    def switch(self, version: str) -> None:
        """Make it the current one. A crash leaves the old or the new one current."""
        old = self.current()
        if old and old != version:
            point(self.lib / "previous", old)
        point(self.lib / "current", version)


def _target(link: Path) -> str:
    """Where it leads, if that is a version beside it."""
    try:
        text = str(link.readlink())
    except OSError:
        return ""
    return text if _version(text) else ""


def _version(text: str) -> Version | None:
    try:
        version = Version.parse(text)
    except Malformed:
        return None
    return version if str(version) == text else None


def _names(directory: Path) -> list[str]:
    try:
        return sorted(each.name for each in directory.iterdir())
    except OSError:
        return []


def point(link: Path, target: str) -> None:
    """A symlink that is replaced in one step. Raises Denied if something else has its name."""
    if os.path.lexists(link) and not link.is_symlink():
        raise Denied(f"{link} is in the way: it is not a link of ours", hint=f"ls -ld {link}")
    unready = link.with_name(f"{MAKING}{link.name}")
    unready.unlink(missing_ok=True)
    unready.symlink_to(target)
    unready.rename(link)
    settle(link.parent)


def settle(directory: Path) -> None:
    """What was renamed in there survives a power cut from now on."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def trees_in_use(lib: Path) -> dict[str, int]:
    """Trees that processes we can see run from, and how many processes.

    A process counts if it was started from the tree or has a library of it mapped; so do all
    that are forks of one.
    """
    root = re.escape(os.fsencode(os.path.realpath(lib)))
    inside = re.compile(root + rb"/([0-9a-f]{16}-cp\d+-\w+)/")
    found: dict[str, int] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            for tree in _named(process, inside):
                found[tree] = found.get(tree, 0) + 1
    return found


def _named(process: Path, inside: re.Pattern[bytes]) -> set[str]:
    found: set[str] = set()
    for name in ("maps", "cmdline"):
        with contextlib.suppress(OSError):  # not ours to look into, or gone by now
            found.update(each.decode() for each in inside.findall((process / name).read_bytes()))
    return found


@contextlib.contextmanager
def alone(lib: Path) -> Iterator[int]:
    """Nobody else installs, upgrades or removes meanwhile. Yields the lock, to hand on.

    Raises Conflict if somebody does. A program started with `handed_on(lock)` shares it.
    """
    given = os.environ.get(_LOCK_VARIABLE, "")
    lock = int(given) if given.isdecimal() and _is_lock(int(given), lib) else _opened_lock(lib)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_lock(lock, lib):  # removed with the rest by who held it until now
            raise BlockingIOError
        yield lock
    except BlockingIOError:
        raise Conflict(
            f"another install or upgrade is at work in {lib}",
            hint=f"fuser -v {shlex.quote(str(lib / LOCK))}",
        ) from None
    finally:
        os.close(lock)


def handed_on(lock: int) -> dict[str, str]:
    """For the environment of a program that gets the descriptor and works under our lock."""
    return {_LOCK_VARIABLE: str(lock)}


def _opened_lock(lib: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(lib / LOCK, flags, 0o600)


def _is_lock(descriptor: int, lib: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), (lib / LOCK).lstat())
    except OSError:
        return False


def make_lib(lib: Path) -> None:
    """Make it, or see that nobody but root and us could put code there. Raises Denied."""
    for above in Path(os.path.realpath(lib)).parents:
        _check_above(above, lib)
    lib.mkdir(mode=0o755, parents=True, exist_ok=True)
    facts = lib.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise Denied(f"{lib} is not a directory", hint=f"ls -ld {lib}")
    others = facts.st_mode & (0o002 if is_alone(facts) else 0o022)
    if facts.st_uid not in (0, os.geteuid()) or others:
        mode = stat.S_IMODE(facts.st_mode)
        raise Denied(
            f"others than you could change {lib} (uid {facts.st_uid}, mode {mode:04o})",
            hint=f"ls -ld {lib}",
        )


def _check_above(above: Path, lib: Path) -> None:
    """As packaging/boot does before it loads code. Which group may write to a directory of root's
    is root's choice: Debian's /usr/local/lib is of staff."""
    with contextlib.suppress(FileNotFoundError):
        facts = above.lstat()
        root_or_alone = facts.st_uid == 0 or is_alone(facts)
        others = facts.st_mode & (0o002 if root_or_alone else 0o022)
        if facts.st_uid not in (0, os.geteuid()) or (others and not facts.st_mode & stat.S_ISVTX):
            mode = stat.S_IMODE(facts.st_mode)
            raise Denied(
                f"others than you could change {lib}: {above} has uid {facts.st_uid}, "
                f"mode {mode:04o}",
                hint=f"{'chmod go-w' if others else 'ls -ld'} {shlex.quote(str(above))}",
            )


def is_alone(facts: os.stat_result) -> bool:
    """Is its group the private one of its user, as Debian and Ubuntu make them?"""
    if not facts.st_uid or facts.st_uid != facts.st_gid:
        return False
    try:
        name, group = pwd.getpwuid(facts.st_uid).pw_name, grp.getgrgid(facts.st_gid)
    except KeyError:
        return False
    return group.gr_name == name and not set(group.gr_mem) - {name}


@contextlib.contextmanager
def told_as_errors(what: str, command: str) -> Iterator[None]:
    """OSError becomes an error with a cause and a way out; files are then 0755 or 0644.

    `command` is what a person types to do it again.
    """
    old_mask = os.umask(0o022)
    try:
        yield
    except OSError as why:
        raise _error(what, command, why) from why
    finally:
        os.umask(old_mask)


def _error(what: str, command: str, why: OSError) -> Error:
    where = f"{why.filename}: " if why.filename else ""
    message = f"{what}: {where}{(why.strerror or type(why).__name__).lower()}"
    if why.errno in (errno.EACCES, errno.EPERM):
        return Denied(message, hint=f"sudo {command}")
    if why.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(message, hint="df -h")
    return Unavailable(message, hint=command)
