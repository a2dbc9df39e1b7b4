"""Files for systemd: written where they are ours or not there, removed where they are ours."""

import os
import pwd
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from teleport_lite.errors import Unavailable
from teleport_lite.pki.keyfile import write_public
from teleport_lite.release.systemd import Systemd
from teleport_lite.release.work import Work

# The first line of every file of ours. Whoever takes it out keeps the file for themselves.
MARK = "# teleport-lite: installed by install.sh"
# Notes in lib of what must still be done, made before what makes it necessary.
_RELOAD, _RESTART = ".to-reload", ".to-restart"
_MADE_USER = ".made-user"


def put_units(units: Mapping[Path, str], lib: Path, work: Work, systemd: Systemd) -> None:
    """Write what differs and have systemd read it. Raises Unavailable if systemd refuses."""
    for path, text in sorted(units.items()):
        if os.path.lexists(path) and not is_ours(path):
            work.left(f"{path} alone: it is not ours")
        elif _read(path) != text:
            work.do("write", str(path), partial(_put, path, text, lib))
    if (lib / _RELOAD).exists() and not work.dry_run:
        if systemd.runs():
            work.do("reload", "systemd's units", partial(_reload, units, lib, systemd))
        else:  # the image of a machine: when that boots it makes files, but users only at times
            with suppress(Unavailable):  # a container, which will run no units
                _make_users(units, lib, systemd)
        (lib / _RELOAD).unlink()


def _put(path: Path, text: str, lib: Path) -> None:
    (lib / _RELOAD).touch()
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_public(path, text.encode())


def _reload(units: Mapping[Path, str], lib: Path, systemd: Systemd) -> None:
    """Users first: files may belong to them, and units name them."""
    _make_users(units, lib, systemd)
    for path in _confs(units, "tmpfiles.d"):
        systemd.make_files(path)
    systemd.daemon_reload()


def _make_users(units: Mapping[Path, str], lib: Path, systemd: Systemd) -> None:
    for path in _confs(units, "sysusers.d"):
        missing = [name for name in users_of(units[path]) if not _exists(name)]
        systemd.make_users(path)
        for name in filter(_exists, missing):
            write_public(lib / _MADE_USER, f"{name}\n".encode())


def _confs(units: Iterable[Path], kind: str) -> list[Path]:
    """Ours of that kind, as far as they are in their places."""
    return [path for path in sorted(units) if path.parent.name == kind and is_ours(path)]


def users_of(text: str) -> list[str]:
    """The users in a file of sysusers.d(5)."""
    return re.findall(r"^u!?\s+([a-z][a-z0-9-]{0,31})\s", text, re.M)


def user_made(lib: Path) -> str:
    """The user that was not there before we asked for it; "" if there is none."""
    name = _read(lib / _MADE_USER).strip()
    return name if users_of(f"u {name} ") == [name] else ""


def user_as_asked(text: str) -> str:
    """The user of a file of sysusers.d(5), if the account is as the file wants it.

    For an installation that came after another had gone and left the user to its data.
    """
    found = re.search(r'^u!?\s+([a-z][a-z0-9-]{0,31})\s+-\s+"([^"\n]+)"\s+(\S+)', text, re.M)
    if found is None or not _exists(found[1]):
        return ""
    account = pwd.getpwnam(found[1])
    return found[1] if (account.pw_gecos, account.pw_dir) == (found[2], found[3]) else ""


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def note_restart(lib: Path) -> None:
    """From now on it is due, whatever happens to us."""
    (lib / _RESTART).touch()


def restart_running(lib: Path, work: Work, systemd: Systemd, *, due: bool) -> None:
    """Restart the daemons that run, if it is due now or still from last time."""
    due = due or (lib / _RESTART).exists()
    for unit in systemd.alive() if due and systemd.runs() else ():
        work.do("restart", unit, partial(systemd.try_restart, unit))
    if not work.dry_run:
        (lib / _RESTART).unlink(missing_ok=True)


def is_ours(path: Path) -> bool:
    """A regular file that begins with our mark. A mask, a link to /dev/null, is not ours."""
    return not path.is_symlink() and _read(path).split("\n", 1)[0] == MARK


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
