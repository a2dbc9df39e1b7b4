"""teleport-lite uninstall."""

import os
from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.teleport.install import DryRun, Prefix, prefix_of, say
from teleport_lite.config.load import Flags, default_file, for_start
from teleport_lite.config.model import CONFIG_FILE
from teleport_lite.errors import Error
from teleport_lite.plugin.builtin import builtin_book
from teleport_lite.release import assets
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


def uninstall(
    prefix: Prefix = "",
    purge: Annotated[
        bool, typer.Option("--purge", help="Settings, keys and data too: no way back.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove what `install self` put there. Settings and data stay without --purge."""
    layout = Layout(prefix_of(prefix))
    work = Work(say=say, dry_run=dry_run)
    whole = layout.prefix == PREFIX  # units, settings and data are the machine's
    # Read now: in a moment the file it stands in is gone.
    user = user_as_asked(assets.text(_USERS)) if whole else ""
    remove(
        layout,
        Places(
            units=UNITS if whole else None,
            confs=_confs() if whole else (),
            runtime=(_RUNTIME, _CACHE) if whole else (),
            purge=_purged(whole) if purge else (),
            user=user if purge else "",
        ),
        work=work,
        systemd=Systemd() if whole else None,
    )
    if not work.done:
        say("nothing changed")
    elif whole and not purge:
        stay = [str(path) for path in (*_SETTINGS, _DATA) if os.path.lexists(path)]
        stay += [f"user {user}"] if user else []
        say(f"{', '.join(stay)} stay" if stay else "no settings and no data are there")


def _confs() -> list[Path]:
    return [path for path in units(roles=None, prefix=PREFIX) if path.parent != UNITS]


def _purged(whole: bool) -> list[Path]:
    """Raises nothing: a configuration that can not be read is no reason to keep it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "teleport-lite"
    if not whole:
        return [cache]
    return [*_SETTINGS, _DATA, *_data_elsewhere(), cache]


def _data_elsewhere() -> list[Path]:
    file = default_file()
    if not os.path.lexists(file):
        return []
    try:
        data_dir = for_start(file, Flags(), builtin_book()).data_dir
    except Error as why:
        warn(f"{why.message}; if it names another data directory than {_DATA}, that stays")
        return []
    return [] if data_dir == _DATA else [data_dir, data_dir.with_name(f"{data_dir.name}.keyring")]
