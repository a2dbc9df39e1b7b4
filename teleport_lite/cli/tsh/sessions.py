"""tsh sessions: ls."""

from typing import Annotated

import typer

from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, stamp, table
from teleport_lite.cli.tsh.desk import desk_of
from teleport_lite.client.facts import Facts

app = typer.Typer(help="Sessions that are open now.", **PLAIN)


@app.callback()
def top() -> None:
    """Sessions that are open now."""


@app.command()
def ls(
    ctx: typer.Context,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Form of the answer.")
    ] = Format.TEXT,
) -> None:
    """List open sessions, the latest first: your own, those you may join, or all."""
    desk = desk_of(ctx)
    found = desk.recordings(desk.person()).sessions()
    emit([each.plain for each in found], format, lambda: _table(found))


def _table(found: list[Facts]) -> str:
    headers = ("ID", "Kind", "User", "Login", "Node", "Started", "Joined by", "Join as", "Command")
    return table(headers, [_row(each) for each in found], cut="Command")


def _row(each: Facts) -> tuple[str, ...]:
    started = each.moment("started")
    return (
        each.text("sid"),
        each.text("kind"),
        each.text("user"),
        each.text("login"),
        each.text("host_name") or each.text("host_id"),
        stamp(started) if started else "",
        ",".join(each.texts("parties")),
        ",".join(each.texts("modes")),
        each.text("command"),
    )
