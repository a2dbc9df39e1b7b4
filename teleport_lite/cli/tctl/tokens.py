"""tctl tokens: add, ls, rm."""

from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, expiry, labels, line, out, table
from teleport_lite.cli.tctl import invite
from teleport_lite.cli.tctl.desk import desk_of
from teleport_lite.model.labels import parse_labels

app = typer.Typer(help="Join tokens let new machines in.", **PLAIN)

TYPES = "app, auth, bot, db, discovery, kube, node, proxy, trusted_cluster, windowsdesktop"

Shown = typer.Option(help="Stands in the message.")
Form = Annotated[
    Format | None, typer.Option(help="text prints only the tokens.", show_default=False)
]


@app.command()
def add(
    ctx: typer.Context,
    type: Annotated[str, typer.Option(help=f"What it may become, like node,proxy: {TYPES}.")],
    value: Annotated[str, typer.Option(help="The token itself; made up if not given.")] = "",
    given: Annotated[str, typer.Option("--labels", help="Labels, like env=prod,team=db.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it works: 5m, 12h.")] = "30m",
    app_name: Annotated[str, Shown] = "example-app",
    app_uri: Annotated[str, Shown] = "http://localhost:8080",
    db_name: Annotated[str, Shown] = "example-db",
    db_protocol: Annotated[str, Shown] = "postgres",
    db_uri: Annotated[str, Shown] = "localhost:5432",
    format: Form = None,
) -> None:
    """Create a join token and show the command that uses it."""
    admin = desk_of(ctx).admin()
    made = admin.add_token(types=type, value=value, ttl=ttl, labels=parse_labels(given))
    for warning in made.texts("warnings"):
        warn(warning)
    token, roles, expires = made.text("token"), made.texts("roles"), made.text("expires")
    if format is not None:
        kept = {"token": token, "roles": roles, "expires": expires}
        if script := invite.install_script(made):
            kept["install_script"] = script
        return emit(kept, format, lambda: line(token))
    example = invite.Example(
        app_name=app_name,
        app_uri=app_uri,
        db_name=db_name,
        db_protocol=db_protocol,
        db_uri=db_uri,
    )
    return out(invite.message(made, example))


@app.command()
def ls(
    ctx: typer.Context,
    chosen: Annotated[str, typer.Option("--labels", help="Only those with these labels.")] = "",
    redact: Annotated[
        bool, typer.Option("--redact/--no-redact", help="Show only the end of each token.")
    ] = False,
    format: Form = None,
) -> None:
    """List the tokens that work, the ones that expire first in front."""
    desk, wanted = desk_of(ctx), parse_labels(chosen).items()
    found = [each for each in desk.admin().list_tokens() if wanted <= each.labels("labels").items()]
    if format is not None:
        names = [_hidden(each.text("token")) if redact else each.text("token") for each in found]
        shown = [{**each.plain, "token": name} for each, name in zip(found, names, strict=True)]
        return emit(shown, format, lambda: "".join(f"{line(name)}\n" for name in names))
    if not found:
        return out("No active tokens found.")
    now = desk.clock.now()
    rows = [
        (
            _hidden(each.text("token")) if redact else each.text("token"),
            ",".join(each.texts("roles")),
            labels(each.labels("labels")),
            expiry(each.moment("expires"), now),
        )
        for each in found
    ]
    return out(table(("Token", "Type", "Labels", "Expiry Time (UTC)"), rows))


@app.command()
def rm(
    ctx: typer.Context,
    token: Annotated[str, typer.Argument(help="The token, or how only it begins.")],
) -> None:
    """Revoke a token, so that no further machine can join with it."""
    gone = desk_of(ctx).admin().remove_token(token)
    out(f"Token {line(gone)} has been deleted")


app.command("del", hidden=True)(rm)
app.command("list", hidden=True)(ls)


def _hidden(token: str) -> str:
    """Stars, and the last quarter: enough to tell two apart, not to use one."""
    keep = len(token) // 4
    return "*" * (len(token) - keep) + token[len(token) - keep :]
