"""tctl audit: ls, verify."""

from collections.abc import Iterator
from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, table
from teleport_lite.cli.tctl.desk import desk_of
from teleport_lite.client.admin import PAGE, AdminClient
from teleport_lite.client.facts import Facts
from teleport_lite.errors import Malformed

app = typer.Typer(help="What happened, and proof that it is complete.", **PLAIN)

_COLUMNS = ("seq", "time", "event", "code", "outcome")


@app.command()
def ls(
    ctx: typer.Context,
    after: Annotated[int, typer.Option(min=0, help="Only events after this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = PAGE,
    verbose: Annotated[
        bool, typer.Option("--verbose/--no-verbose", "-v", help="Facts in full.")
    ] = False,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """List events, the oldest first."""
    found = list(_events(desk_of(ctx).admin(), after, limit))
    if len(found) == limit:
        warn(f"there may be more, tctl audit ls --after={found[-1].number('seq')} goes on")
    emit([event.plain for event in found], format, lambda: _table(found, verbose))


@app.command()
def verify(
    ctx: typer.Context,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Check the hash chain: was anything changed, taken out or put in?"""
    found = desk_of(ctx).admin().verify_audit()
    checked = found.number("checked")
    broken = None if found.plain.get("broken_at", 0) is None else found.number("broken_at")
    if broken is None or format is not Format.TEXT:
        emit(found.plain, format, lambda: f"{checked} events, the chain is whole")
    if broken is not None:
        raise Malformed(
            f"the audit trail was changed: the chain breaks at event {broken}",
            hint=f"tctl audit ls --after={max(0, broken - 3)} --limit=5",
        )


app.command("list", hidden=True)(ls)


def _events(admin: AdminClient, after: int, limit: int) -> Iterator[Facts]:
    """Page by page, so that no answer is huge."""
    while limit > 0:
        size = min(PAGE, limit)
        page = admin.list_events(after=after, limit=size)
        yield from page[:limit]
        if len(page) < size:
            return
        limit -= len(page)
        last = page[-1].number("seq")
        if last <= after:  # or a confused server would keep us here for ever
            raise Malformed(f"{admin.where} repeats events, the trail cannot be listed")
        after = last


def _table(events: list[Facts], verbose: bool) -> str:
    rows = [
        (
            str(event.number("seq")),
            event.text("time"),
            event.text("event"),
            event.text("code"),
            event.text("outcome"),
            " ".join(f"{k}={v}" for k, v in event.plain.items() if k not in _COLUMNS),
        )
        for event in events
    ]
    headers = ("Seq", "Time", "Event", "Code", "Outcome", "Facts")
    return table(headers, rows, cut="" if verbose else "Facts") if rows else "No events found."
