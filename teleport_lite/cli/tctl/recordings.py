"""tctl recordings: ls, rm."""

from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.recordings import recordings_table, session_id, span
from teleport_lite.cli.show import Format, emit, out
from teleport_lite.cli.tctl.desk import desk_of

app = typer.Typer(help="Sessions that were recorded.", **PLAIN)


@app.command()
def ls(
    ctx: typer.Context,
    from_utc: Annotated[str, typer.Option(help="Those that began on this day or time.")] = "",
    to_utc: Annotated[str, typer.Option(help="And no later than this day or time.")] = "",
    last: Annotated[str, typer.Option(help="Those of the last 5h, 30d. 24h if not given.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    user: Annotated[str, typer.Option(help="Only sessions of this user.")] = "",
    search: Annotated[
        list[str] | None, typer.Option(help="Only those with these words somewhere: web,top.")
    ] = None,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """List recordings, the latest first."""
    desk = desk_of(ctx)
    since, until = span(desk.clock.now(), from_utc, to_utc, last)
    words = " ".join(search or ()).replace(",", " ")
    found = desk.recordings().listing(
        since=since, until=until, user=user, search=words, limit=limit
    )
    if len(found) == limit and format is Format.TEXT:
        warn(f"there may be more, tctl recordings ls --limit={limit * 2} shows them")
    emit([each.plain for each in found], format, lambda: recordings_table(found))


app.command("list", hidden=True)(ls)


@app.command()
def rm(
    ctx: typer.Context,
    sids: Annotated[list[str], typer.Argument(metavar="SID...", help="Ids of sessions.")],
) -> None:
    """Remove recordings for good. Who did it stands in the audit trail."""
    wanted = [session_id(each) for each in sids]
    recordings = desk_of(ctx).recordings()
    for sid in wanted:
        recordings.remove(sid)
        out(f"Recording {sid} has been removed.")
