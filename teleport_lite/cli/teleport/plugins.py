"""teleport-lite plugins: ls."""

from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, table
from teleport_lite.config.load import invited
from teleport_lite.plugin.guests import Guest
from teleport_lite.plugin.invited import look

app = typer.Typer(help="Where roles come from, and what keeps a plugin away.", **PLAIN)

_HEADERS = ("Name", "Source", "Roles", "State", "Reason")


@app.callback()
def group() -> None:
    """Keeps `ls` a word to type, although it is the only one."""


@app.command()
def ls(
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="Config file. [default: /etc/teleport-lite.yaml]"),
    ] = None,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """List the plugins: ours, invited ones, and those that are installed but not invited."""
    named = invited(config)
    found = look(directories=named.directories, distributions=named.distributions)
    emit(
        [_facts(guest) for guest in found],
        format,
        lambda: table(_HEADERS, map(_row, found), cut="Reason"),
    )


app.command("list", hidden=True)(ls)


def _facts(guest: Guest) -> dict[str, object]:
    return {
        "name": guest.name,
        "source": guest.source,
        "roles": [role.name for role in guest.roles],
        "state": str(guest.state),
        "reason": guest.reason,
    }


def _row(guest: Guest) -> tuple[str, ...]:
    roles = ",".join(role.name for role in guest.roles)
    return guest.name, guest.source, roles, str(guest.state), guest.reason
