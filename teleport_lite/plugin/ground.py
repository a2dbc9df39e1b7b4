"""Where code may come from: places that only root and we ourselves can change.

Whoever can write a plugin's file, or rename a directory above it, runs in our process. So
every step of the path, and everything below it, has to belong to root or to our own user and
be closed to writing by all others. The sticky bit does not help: /tmp is nobody's ground.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from teleport_lite.errors import Denied, Malformed, NotFound

# The largest Python package we know of has some 3,000 files; more is not a plugin.
MAX_ENTRIES = 20_000
PAGE = "docs/plugins.md"


def check_ground(path: Path, *, below: Path = Path("/")) -> None:
    """Raises Malformed for a path that is not absolute and plain, NotFound for one that is not
    there, Denied for one that others could change or that is reached through a link.

    `below` is where looking starts: what stands above it is taken on trust.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise Malformed(f"plugin directory {str(path)[:200]!a} must be an absolute path", hint=PAGE)
    for step in _steps(path, below):
        _check(step, directory=step != path)
    for at, entry in enumerate(_below(path)):
        if at >= MAX_ENTRIES:
            raise Denied(f"plugin directory {path} holds more than {MAX_ENTRIES} entries")
        _check(entry, directory=False)


def check_apart(directories: Iterable[Path], written: Iterable[Path]) -> None:
    """Nothing this process writes may become code: raises Denied if a plugin's directory holds,
    or lies in, one of the `written` paths (data_dir, storage, logs, pid file)."""
    places = [place.resolve() for place in written]
    for directory in directories:
        real = directory.resolve()
        for place in places:
            if real.is_relative_to(place) or place.is_relative_to(real):
                raise Denied(
                    f"plugin directory {directory} and {place}, which we write, must be apart",
                    hint=PAGE,
                )


def _steps(path: Path, below: Path) -> Iterator[Path]:
    """`below`, ..., parent, `path`: from the top, so that the first wrong one is named."""
    yield from (step for step in reversed(path.parents) if step.is_relative_to(below))
    yield path


def _below(path: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(path, followlinks=False):
        for name in (*folders, *files):
            yield Path(folder, name)


def _check(path: Path, *, directory: bool) -> None:
    try:
        found = path.lstat()
    except OSError as why:
        raise NotFound(f"plugin path {path} can not be read: {why.strerror}", hint=PAGE) from why
    mode = found.st_mode
    if stat.S_ISLNK(mode):
        raise Denied(f"plugin path {path} is a symbolic link", hint=PAGE)
    if not stat.S_ISDIR(mode) and (directory or not stat.S_ISREG(mode)):
        expected = "a directory" if directory else "a file or directory"
        raise Denied(f"plugin path {path} is not {expected}", hint=PAGE)
    if found.st_uid not in (0, os.geteuid()):
        raise Denied(
            f"plugin path {path} belongs to user {found.st_uid}, who could change it",
            hint=f"chown root: {path}",
        )
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Denied(
            f"plugin path {path} can be changed by others, mode {stat.S_IMODE(mode):04o}",
            hint=f"chmod go-w {path}",
        )
