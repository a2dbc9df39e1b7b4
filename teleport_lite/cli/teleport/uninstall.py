"""teleport-lite uninstall."""

import os
from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.teleport.install import DryRun, prefix_of, say
from teleport_lite.config.load import Flags, default_file, for_start
from teleport_lite.config.model import CONFIG_FILE
from teleport_lite.errors import Error
from teleport_lite.plugin.builtin import builtin_book
from teleport_lite.release import assets
from teleport_lite.release.here import installed
from teleport_lite.release.layout import Layout
from teleport_lite.release.systemd import Systemd
from teleport_lite.release.uninstall import Places
from teleport_lite.release.uninstall import uninstall as remove
from teleport_lite.release.unit_files import user_as_asked
from teleport_lite.release.units import PREFIX, UNITS, units
from teleport_lite.release.work import Work

_SETTINGS = (Path(CONFIG_FILE), Path("/etc/teleport-lite"))
_DATA = Path("/var/lib/teleport-lite")
_CACHE = Path("/var/cache/teleport-lite")
_RUNTIME = Path("/run/teleport-lite")
_USERS = "systemd/teleport-lite.sysusers"


Prefix = Annotated[
    str, typer.Option(help="Under which lib/ and bin/ are. [default: where this program is]")
]


def uninstall(
    prefix: Prefix = "",
    purge: Annotated[
        bool, typer.Option("--purge", help="Settings, keys and data too: no way back.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove what `install self` put there. Settings and data stay without --purge."""
    here = None if prefix else installed()
    layout = Layout(here.prefix if here else prefix_of(prefix))
    work = Work(say=say, dry_run=dry_run)
    whole = layout.prefix == PREFIX  # units, settings and data are the machine's
    # Read now: in a moment the file it stands in is gone.
    user = user_as_asked(assets.text(_USERS)) if whole else ""
    named, others = _elsewhere(purge) if whole else ([], [])
    remove(
        layout,
        Places(
            units=UNITS if whole else None,
            confs=_confs() if whole else (),
            runtime=(_RUNTIME, _CACHE) if whole else (),
            purge=[*(_SETTINGS if whole else ()), *([_DATA] if whole else ()), *_own_cache()]
            if purge
            else (),
            named=named if purge else (),
            user=user if purge else "",
        ),
        work=work,
        systemd=Systemd() if whole else None,
    )
    if purge:
        for path in filter(os.path.lexists, others):
            work.left(f"{path} alone: the settings named it, and it may hold more than ours")
    if not work.done:
        say("nothing changed")
    elif whole and not purge:
        found = dict.fromkeys((*_SETTINGS, _DATA, *named, *others))
        stay = [str(path) for path in found if os.path.lexists(path)]
        stay += [f"user {user}"] if user else []
        say(f"{', '.join(stay)} stay" if stay else "no settings and no data are there")


def _confs() -> list[Path]:
    return [path for path in units(roles=None, prefix=PREFIX) if path.parent != UNITS]


def _own_cache() -> list[Path]:
    """That of who runs this. After `su` or `sudo -E` HOME is another's: it stays."""
    top = os.environ.get("XDG_CACHE_HOME", "")
    if not top.startswith("/"):
        top = os.path.expanduser("~/.cache")  # noqa: PTH111 - Path raises for who has no home
    cache = Path(os.path.realpath(top)) / "teleport-lite"
    try:
        owners = {each.lstat().st_uid for each in (cache, cache.parent)}
    except OSError:
        return []
    return [cache] if owners == {os.geteuid()} else []


def _elsewhere(purge: bool) -> tuple[list[Path], list[Path]]:
    """What the configuration has put elsewhere: directories of data, and all the rest.

    Raises nothing: one that can not be read is no reason to keep the program.
    """
    file = default_file()
    if not os.path.lexists(file):
        return [], []
    try:
        config = for_start(file, Flags(), builtin_book())
    except Error as why:
        if purge:
            warn(f"{why.message}; what it names that is not in {_DATA} stays")
        return [], []
    known, data = (*_SETTINGS, _DATA), config.data_dir
    named = [data, data.with_name(f"{data.name}.keyring")] if data != _DATA else []
    others = [
        path
        for path in (*config.written, config.storage.keyring)
        if not any(path.is_relative_to(each) for each in (*known, *named, _RUNTIME))
    ]
    return named, others
