"""tctl status."""

from typing import Annotated

import typer

from teleport_lite.cli.show import Format, emit, pairs, stamp
from teleport_lite.cli.tctl.desk import desk_of
from teleport_lite.client.facts import Facts


def status(
    ctx: typer.Context,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Show the cluster's name, version, CAs and CA pin."""
    found = desk_of(ctx).admin().status()
    emit(found.plain, format, lambda: _text(found))


def _text(found: Facts) -> str:
    rows = [("Cluster", found.text("cluster")), ("Version", found.text("version"))]
    for ca in found.each("cas"):
        rotated = ca.moment("last_rotated")
        rows.append(
            (
                f"{ca.text('type')} CA",
                "never updated" if rotated is None else f"rotated {stamp(rotated)}",
            )
        )
    rows += [("CA pin", pin) for pin in found.texts("ca_pins")]
    return pairs(rows)
