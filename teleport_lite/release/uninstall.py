"""Remove what `install self` put there, in the reverse order; and with purge, what came since.

In an order that can be cut short anywhere and taken up again: the program that does this, and
the link to it, go last.
"""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from teleport_lite.errors import Denied, Unavailable
from teleport_lite.release.attempts import FAILED
from teleport_lite.release.here import TREE
from teleport_lite.release.layout import (
    LAUNCH,
    LOCK,
    MAKING,
    NAMES,
    Layout,
    alone,
    told_as_errors,
    trees_in_use,
)
from teleport_lite.release.place import is_ours, remove_tree
from teleport_lite.release.systemd import Systemd
from teleport_lite.release.unit_files import is_ours as unit_is_ours
from teleport_lite.release.unit_files import user_made
from teleport_lite.release.version import Version
from teleport_lite.release.work import Work

_MOUNTS = Path("/proc/self/mountinfo")
_KINDS = ("service", "socket", "timer", "path", "target", "slice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What an installation has outside of its prefix."""

    units: Path | None = None  # the directory of units
    confs: Sequence[Path] = ()  # other files of systemd
    runtime: Sequence[Path] = ()  # what would go with the next boot, or is made again
    purge: Sequence[Path] = ()  # settings and data, which go only when that is asked for
    named: Sequence[Path] = ()  # as `purge`, but it was a configuration that named them
    user: str = ""  # goes with them


def uninstall(layout: Layout, places: Places, *, work: Work, systemd: Systemd | None) -> None:
    """Remove what is ours, each with a line. Processes that run are left to their end.

    Raises Denied if one of those to purge is not to be removed like that, before anything is;
    Conflict while an install runs; Unavailable.
    """
    for path in (*places.purge, *places.named):
        _check_purge(path)
    for path in places.named:
        _check_named(path)
    with told_as_errors("not all can be removed", "teleport-lite uninstall"):
        made = user_made(layout.lib) or places.user
        if work.dry_run or not layout.lib.is_dir():
            _remove(layout, places, work, systemd)
        else:
            with alone(layout.lib):
                _remove(layout, places, work, systemd)
        for path in (*places.runtime, *places.purge, *places.named):
            if os.path.lexists(path):
                remove_any(path, work)
        if places.purge and made:
            _remove_user(made, work)


def _remove(layout: Layout, places: Places, work: Work, systemd: Systemd | None) -> None:
    if systemd is not None and places.units is not None:
        _remove_units(places.units, places.confs, work, systemd)
    lib, current = layout.lib, layout.current()
    used = trees_in_use(lib)
    if used:
        count = sum(used.values())
        one = count == 1
        work.say(
            f"{count} {'process' if one else 'processes'} of {lib} still {'runs' if one else 'run'}"
            " and will to the end: all code is in memory"
        )
    for name in (*NAMES[1:], NAMES[0]):
        if is_ours(layout.bin / name):
            work.do("remove", str(layout.bin / name), (layout.bin / name).unlink)
    if lib.is_dir():
        _remove_lib(lib, current, work)


def _remove_lib(lib: Path, current: str, work: Work) -> None:
    """All that is ours in it, the version in use last; what is not ours stays, and is said."""
    entries = sorted(lib.iterdir(), key=lambda entry: (entry.name in ("current", current), entry))
    for entry in entries:
        if entry.name == LOCK:
            continue
        if _is_of_lib(entry):
            remove_any(entry, work, quiet=entry.name.startswith("."))
        elif entry.name == "plugins" and entry.is_dir() and not any(entry.iterdir()):
            remove_any(entry, work)
        else:
            work.left(f"{entry} alone: it is not ours")
    if not work.dry_run:
        (lib / LOCK).unlink(missing_ok=True)  # until now nobody could install into what goes
    if work.dry_run or not any(lib.iterdir()):
        work.do("remove", str(lib), partial(_rmdir, lib))


def _rmdir(path: Path) -> None:
    with suppress(OSError):  # somebody has put something in there this moment
        path.rmdir()


def _is_of_lib(entry: Path) -> bool:
    """The names that packaging/boot and this package make; the owner's plugins are not of them."""
    name = entry.name
    if name in ("current", "previous"):
        return entry.is_symlink()
    if name == FAILED or name in _NOTES or name.startswith(MAKING) or LAUNCH.fullmatch(name):
        return True
    if TREE.fullmatch(name):
        return entry.is_dir()
    with suppress(Exception):
        return str(Version.parse(name)) == name and entry.is_dir()
    return False


_NOTES = frozenset({".lock", ".fetched", ".upgrading", ".to-reload", ".to-restart", ".made-user"})


def remove_any(path: Path, work: Work, *, quiet: bool = False) -> None:
    """A file, a link (not what it leads to) or a directory."""
    if path.is_dir() and not path.is_symlink():
        if quiet and not work.dry_run:
            return shutil.rmtree(path)
        return None if quiet else remove_tree(path, work)
    if not quiet:
        return work.do("remove", str(path), partial(path.unlink, missing_ok=True))
    return None if work.dry_run else path.unlink(missing_ok=True)


# systemd


def _remove_units(units: Path, confs: Sequence[Path], work: Work, systemd: Systemd) -> None:
    names = sorted(
        (entry for kind in _KINDS for entry in units.glob(f"teleport-lite*.{kind}")),
        # A socket or a timer would start again what has just been stopped.
        key=lambda entry: (entry.suffix == ".service", entry),
    )
    ours = [entry for entry in names if unit_is_ours(entry)]
    for entry in ours:
        # Sessions that systemd started go on.
        if "@." not in entry.name and systemd.uses(entry.name):
            work.do("stop and disable", entry.name, partial(systemd.disable, entry.name))
    for entry in [*ours, *(conf for conf in confs if unit_is_ours(conf))]:
        work.do("remove", str(entry), entry.unlink)
    for place in sorted({conf.parent for conf in confs}):  # /usr/local/lib has none by itself
        if place.is_dir() and not {*place.iterdir()} - {*filter(unit_is_ours, confs)}:
            work.do("remove", str(place), partial(_rmdir, place))
    for entry in sorted({*names} - {*ours}):
        work.left(f"{entry} alone: it is not ours")
    for entry in sorted(units.glob("teleport-lite*.d")):
        work.left(f"{entry} alone: it is the operator's")
    if ours and systemd.runs():
        work.do("reload", "systemd's units", systemd.daemon_reload)


def _remove_user(name: str, work: Work) -> None:
    try:
        facts = pwd.getpwnam(name)
    except KeyError:
        return
    if facts.pw_uid >= 1000 or facts.pw_uid == 0:  # not what sysusers.d(5) makes for "u NAME -"
        work.left(f"user {name} alone: uid {facts.pw_uid} is no system user")
        return
    work.do("remove", f"user {name}", partial(_userdel, name))


def _userdel(name: str) -> None:
    try:
        ended = subprocess.run(  # noqa: S603 - a name out of our own sysusers.d file
            ["userdel", name],  # noqa: S607 - in /usr/sbin, wherever that is
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as why:
        raise Unavailable(
            f"user {name} stays: userdel can not run", hint=f"userdel {name}"
        ) from why
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace").strip()
        raise Unavailable(f"user {name} stays: {said}", hint=f"userdel {name}")


# What a purge may take


def _check_purge(path: Path) -> None:
    """Raises Denied for what a slip in a configuration could make of a data directory."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or Path(os.path.realpath(path)) != path:
        raise Denied(
            f"{path} is not purged: it is or is below a symbolic link",
            hint=f"ls -ld {os.path.realpath(path)}",
        )
    if len(path.parts) < 3:  # "/", "/etc", "/var"
        raise Denied(f"{path} is not purged: it is not a directory of this program alone")
    for mount in mounts():
        if mount == path or path in mount.parents:
            raise Denied(
                f"{path} is not purged: {mount} is a file system of its own", hint=f"umount {mount}"
            )


def _check_named(path: Path) -> None:
    """Raises Denied for what is no data directory, as those are private, or more than one."""
    try:
        facts = path.lstat()
    except OSError:
        return
    if facts.st_mode & 0o077:
        raise Denied(
            f"{path} is not purged: others than its owner may enter it, so it is not our data",
            hint=f"ls -ld {path}",
        )
    for account in pwd.getpwall():
        home = Path(account.pw_dir)
        if home == path or path in home.parents:
            raise Denied(f"{path} is not purged: the home of {account.pw_name} is {home}")


def mounts(table: Path = _MOUNTS) -> list[Path]:
    """Where file systems are mounted: proc(5), mountinfo, field 5, with octal escapes."""
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    fields = [line.split()[4] for line in lines if len(line.split()) > 4]
    return [Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), each)) for each in fields]
