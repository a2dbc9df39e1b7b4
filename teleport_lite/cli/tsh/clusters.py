"""tsh clusters."""

from typing import Annotated, Any

import typer

from teleport_lite.cli.show import Format, emit, labels, line, out, table
from teleport_lite.cli.tsh.desk import Desk, desk_of
from teleport_lite.client.person import Person
from teleport_lite.errors import NotFound, Unavailable


def clusters(
    ctx: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet/--no-quiet", "-q", help="Without the heading.")
    ] = False,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Form of the answer.")
    ] = Format.TEXT,
) -> None:
    """List the clusters you can reach: the one you are logged in to, and those that trust it."""
    desk = desk_of(ctx)
    chosen, desk.cluster = desk.cluster, ""
    person = desk.person()
    try:
        desk.me(person).me()
        found = [_plain(person.cluster, "online", "root", {}), *_leaves(desk, person)]
    except Unavailable:
        found = [_plain(person.cluster, "offline", "root", {})]
    for each in found:
        each["selected"] = each["cluster_name"] == (chosen or person.cluster)
    if quiet and format is Format.TEXT:
        return out("".join(f"{line(each['cluster_name'])}  {each['status']}\n" for each in found))
    return emit(found, format, lambda: _table(found))


def _leaves(desk: Desk, person: Person) -> list[dict[str, Any]]:
    try:
        leaves = desk.clusters(person)
    except NotFound:  # an auth server of an earlier version
        return []
    return [_plain(leaf.name, leaf.status, "leaf", leaf.labels) for leaf in leaves]


def _plain(name: str, status: str, type: str, marks: dict[str, str]) -> dict[str, Any]:
    return {"cluster_name": name, "status": status, "cluster_type": type, "labels": marks}


def _table(found: list[dict[str, Any]]) -> str:
    headers = ("Cluster Name", "Status", "Cluster Type", "Labels", "Selected")
    rows = [
        (
            each["cluster_name"],
            each["status"],
            each["cluster_type"],
            labels(each["labels"]),
            "*" if each["selected"] else "",
        )
        for each in found
    ]
    return table(headers, rows)
