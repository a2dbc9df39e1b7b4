"""Where the running program comes from: which file, which installation.

packaging/boot starts the program in one of two ways. The header's short cut runs
`<root>/<build>-<target>/_launch.py` of an unpacked tree, with the name it was called by as
`sys.argv[0]`. Else Python runs the file itself, and `__main__.FILE` is its path. Neither is
believed: a file is ours when its header states the build of the tree that our modules are in.
So nobody is misled by an `argv[0]` that says something else, nor by a file that was replaced
under a running daemon.
"""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import teleport_lite
from teleport_lite.errors import Malformed
from teleport_lite.release.version import Version

LIB = Path("lib/teleport-lite")  # under a prefix
FILE = "teleport-lite.pyz"  # in the directory of its version
TREE = re.compile(r"(?P<build>[0-9a-f]{16})-(?P<target>cp\d+-\w+)")
_HEADER = re.compile(rb"#![^\n]*\n# teleport-lite (\S{1,64}) \(build ([0-9a-f]{16})\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A version in its place, `file` being `lib/<version>/teleport-lite.pyz`."""

    prefix: Path
    lib: Path
    version: str
    file: Path


def installed() -> Installation | None:
    """Of the running program; None in a checkout, a virtual environment, or for a loose file."""
    file = own_file()
    return None if file is None else installation_of(file)


def installation_of(file: Path) -> Installation | None:
    """By where `file` is. None if that is not where `install self` puts one."""
    lib = file.parent.parent
    try:
        version = str(Version.parse(file.parent.name))
    except Malformed:
        return None
    if file.name != FILE or lib.parts[-2:] != LIB.parts or stated(file) is None:
        return None
    return Installation(prefix=lib.parent.parent, lib=lib, version=version, file=file)


def own_file() -> Path | None:
    """The .pyz that holds the running code; None if there is none, or it is there no more."""
    tree = Path(teleport_lite.__file__).resolve().parent.parent
    found = TREE.fullmatch(tree.name)
    if found is None:
        return None
    build = found["build"]
    for path in _candidates(tree.parent, getattr(sys.modules["__main__"], "FILE", None)):
        said = stated(path)
        if said is not None and said[1] == build:
            return path
    return None


def stated(file: Path) -> tuple[str, str] | None:
    """Version and build id in the header of a .pyz; None if it is none, or can not be read."""
    try:
        with file.open("rb") as opened:
            found = _HEADER.match(opened.read(1000))
    except OSError:
        return None
    return None if found is None else (found[1].decode("ascii", "replace"), found[2].decode())


def _candidates(root: Path, started: object) -> list[Path]:
    """Where the file may be, as real paths. `root` holds the tree."""
    named = [root / teleport_lite.__version__ / FILE]
    if isinstance(started, str):
        named.insert(0, Path(started))
    # A name without a slash was looked up in PATH or the working directory; both may be others now.
    if sys.argv and "/" in sys.argv[0]:
        named.append(Path(sys.argv[0]))
    return [Path(os.path.realpath(path)) for path in named]
