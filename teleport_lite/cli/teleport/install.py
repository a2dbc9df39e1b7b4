"""teleport-lite install: self, systemd."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from teleport_lite import __version__
from teleport_lite.cli.lazy import LazyGroup, Place, program
from teleport_lite.cli.show import Unread, discard, put, safe
from teleport_lite.config.path import absolute_path
from teleport_lite.errors import NotFound, Unavailable
from teleport_lite.release.here import own_file
from teleport_lite.release.layout import Layout
from teleport_lite.release.place import Source, place, source_in, source_of
from teleport_lite.release.systemd import Systemd
from teleport_lite.release.units import PREFIX, UNITS, units
from teleport_lite.release.work import Work

_HERE = "teleport_lite.cli.teleport"

Prefix = Annotated[
    str, typer.Option(help="Under which lib/ and bin/ are. [default: /usr/local; ~/.local]")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


class InstallGroup(LazyGroup):
    places: ClassVar[Mapping[str, Place]] = {
        "self": Place(f"{_HERE}.install", "install_self", "Put this file under a prefix."),
        "systemd": Place(f"{_HERE}.install_systemd", "systemd", "Print or write systemd units."),
    }


app = program(InstallGroup, "Put this program in its place, or give systemd its units.")


def install_self(
    prefix: Prefix = "",
    source: Annotated[
        str, typer.Option("--from", help="Directory with the file, SHA256SUMS and its signature.")
    ] = "",
    dry_run: DryRun = False,
    no_restart: Annotated[
        bool, typer.Option("--no-restart", help="Leave running services on the old version.")
    ] = False,
    no_systemd: Annotated[bool, typer.Option("--no-systemd", help="No units.")] = False,
) -> None:
    """Make this version the one in use. Says what it did; settings and data are not touched."""
    layout = Layout(prefix_of(prefix))
    work = Work(say=say, dry_run=dry_run)
    with_systemd = not no_systemd and has_systemd(layout)
    place(
        _source(source),
        layout,
        work=work,
        units=units(roles=None, prefix=layout.prefix) if with_systemd else {},
        systemd=Systemd() if with_systemd else None,
        restart=not no_restart,
    )
    if not work.done:
        say("nothing changed")


def say(line: str) -> None:
    """At once: a long step may follow. That nobody reads it any more stops no work half way."""
    try:
        put(safe(line) + "\n")
    except (Unread, Unavailable):
        discard()


def prefix_of(typed: str) -> Path:
    """Raises Malformed, NotFound."""
    if typed:
        return absolute_path(typed)
    if os.geteuid() == 0:
        return PREFIX
    home = os.path.expanduser("~")  # noqa: PTH111 - Path raises for who has none
    if not home.startswith("/"):
        raise NotFound("HOME is not set, and this user has no home", hint="--prefix=/a/directory")
    return absolute_path(home) / ".local"


def has_systemd(layout: Layout) -> bool:
    """Units are for the whole machine, so only for what is installed for all of it."""
    return layout.prefix == PREFIX and UNITS.is_dir()


def _source(typed: str) -> Source:
    if typed:
        return source_in(absolute_path(os.path.abspath(typed)), __version__)  # noqa: PTH100 - "." is no Path
    file = own_file()
    if file is None:
        raise NotFound("this program does not run from a file", hint="python3 packaging/build.py")
    return source_of(file, __version__)
