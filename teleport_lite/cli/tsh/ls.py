"""tsh ls."""

from enum import StrEnum
from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.show import Format, emit, labels, line, out, table, where
from teleport_lite.cli.tsh.desk import desk_of
from teleport_lite.client.facts import Facts
from teleport_lite.model.labels import parse_labels

ONLINE = "online"


class Shape(StrEnum):
    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    NAMES = "names"


def ls(
    ctx: typer.Context,
    chosen: Annotated[
        str, typer.Argument(metavar="[LABELS]", help="Only those with these labels: env=prod.")
    ] = "",
    search: Annotated[
        list[str] | None, typer.Option(help="Only those with these words somewhere: web,prod.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose/--no-verbose", "-v", help="UUIDs, state, and labels in full.")
    ] = False,
    format: Annotated[
        Shape, typer.Option("--format", "-f", help="Form of the answer.")
    ] = Shape.TEXT,
) -> None:
    """List the nodes on which you may log in."""
    desk = desk_of(ctx)
    wanted = parse_labels(chosen)
    found = desk.me(desk.person()).nodes(
        labels=wanted, search=" ".join(search or ()).replace(",", " ")
    )
    if format is Shape.NAMES:
        return out("".join(f"{line(node.text('hostname'))}\n" for node in found))
    absent = sum(node.text("state") != ONLINE for node in found)
    if absent and format is Shape.TEXT and not verbose:
        warn(f"{absent} of {len(found)} nodes not online, tsh ls -v shows which")
    plain = [node.plain for node in found]
    return emit(plain, Format(format.value), lambda: _table(found, verbose))


def _table(nodes: list[Facts], verbose: bool) -> str:
    headers = ["Node Name", "Address", "Labels"]
    rows = [
        [node.text("hostname"), where(node.text("address")), labels(node.labels("labels"))]
        for node in nodes
    ]
    if verbose:
        headers = ["Node Name", "Node ID", "Address", "Labels", "State"]
        for row, node in zip(rows, nodes, strict=True):
            row.insert(1, node.text("id"))
            row.append(node.text("state"))
    return table(headers, rows, cut="" if verbose else "Labels")
