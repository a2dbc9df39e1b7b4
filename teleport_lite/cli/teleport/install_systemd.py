"""teleport-lite install systemd: print the units of this host, or write them."""

from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.show import out
from teleport_lite.release.units import PREFIX, units


def systemd(
    roles: Annotated[
        str, typer.Option("-r", "--roles", help="What this host does, like auth or node.")
    ] = "",
) -> None:
    """Print the systemd units of this host."""
    wanted = frozenset(roles.split(",")) if roles else None
    for where, text in units(roles=wanted, prefix=Path(PREFIX)).items():
        out(f"# {where}\n{text}")
