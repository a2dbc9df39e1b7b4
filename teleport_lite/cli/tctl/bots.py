"""tctl bots: add, ls, rm."""

from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, line, out, table
from teleport_lite.cli.tctl import invite
from teleport_lite.cli.tctl.desk import desk_of
from teleport_lite.cli.tctl.users import Lists, split
from teleport_lite.client.facts import Facts

app = typer.Typer(help="Machine users of the cluster.", **PLAIN)
PREFIX = "bot-"


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the bot, like deploy.")],
    roles: Annotated[Lists, typer.Option(help="Roles it has, like access.")] = None,
    logins: Annotated[Lists, typer.Option(help="System users it may log in as.")] = None,
    ttl: Annotated[str, typer.Option(help="How long its token works: 5m, 12h.")] = "1h",
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Add a bot and make the token its machine joins with."""
    made = desk_of(ctx).admin().add_bot(name, roles=split(roles), logins=split(logins), ttl=ttl)
    for warning in made.texts("warnings"):
        warn(warning)
    emit(made.plain, format, lambda: _added(made))


@app.command()
def ls(
    ctx: typer.Context,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """List the bots."""
    found = desk_of(ctx).admin().list_bots()
    rows = [
        (each.text("name").removeprefix(PREFIX), each.text("name"), ",".join(each.texts("roles")))
        for each in found
    ]
    emit(
        [each.plain for each in found],
        format,
        lambda: table(("Bot", "User", "Roles"), rows) if rows else "No bots found",
    )


@app.command()
def rm(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the bot.")],
) -> None:
    """Remove a bot."""
    desk_of(ctx).admin().remove_bot(name)
    out(f'Bot "{line(name)}" deleted successfully.')


app.command("del", hidden=True)(rm)
app.command("list", hidden=True)(ls)


def _added(made: Facts) -> str:
    found = invite.read(made)
    return (
        f"{found.head('bot')}\n"
        "Run this on the machine of the bot to get its first certificates:\n\n"
        f"{invite.bot_start(found)}\n"
        f"{found.notes('machine of the bot')}"
    )
