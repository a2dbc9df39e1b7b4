"""tsh clusters."""

from typing import Annotated, Any

import typer

from teleport_lite.cli.show import Format, emit, out, table
from teleport_lite.cli.tsh.desk import desk_of
from teleport_lite.errors import Unavailable


def clusters(
    ctx: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet/--no-quiet", "-q", help="Without the heading.")
    ] = False,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Form of the answer.")
    ] = Format.TEXT,
) -> None:
    """List the clusters you can reach: the one you are logged in to."""
    desk = desk_of(ctx)
    person = desk.person()
    try:
        desk.me(person).me()
        state = "online"
    except Unavailable:
        state = "offline"
    found: list[dict[str, Any]] = [
        {
            "cluster_name": person.cluster,
            "status": state,
            "cluster_type": "root",
            "labels": {},
            "selected": True,
        }
    ]
    if quiet and format is Format.TEXT:
        return out("".join(f"{each['cluster_name']}  {each['status']}\n" for each in found))
    return emit(found, format, lambda: _table(found))


def _table(found: list[dict[str, Any]]) -> str:
    headers = ("Cluster Name", "Status", "Cluster Type", "Labels", "Selected")
    rows = [
        (
            each["cluster_name"],
            each["status"],
            each["cluster_type"],
            "",
            "*" if each["selected"] else "",
        )
        for each in found
    ]
    return table(headers, rows)
