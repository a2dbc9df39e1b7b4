"""tctl nodes: add, ls."""

from typing import Annotated

import typer

from teleport_lite.cli.exit import warn
from teleport_lite.cli.lazy import PLAIN
from teleport_lite.cli.show import Format, emit, labels, line, out, stamp, table, where
from teleport_lite.cli.tctl import invite
from teleport_lite.cli.tctl.desk import desk_of
from teleport_lite.client.facts import Facts
from teleport_lite.model.labels import parse_labels

ONLINE = "online"
app = typer.Typer(help="Machines of the cluster that serve SSH.", **PLAIN)


@app.command()
def add(
    ctx: typer.Context,
    roles: Annotated[str, typer.Option(help="What it may become, like node,proxy.")] = "node",
    ttl: Annotated[str, typer.Option(help="How long the token works: 5m, 12h.")] = "30m",
    token: Annotated[str, typer.Option(help="The token itself; made up if not given.")] = "",
    format: Annotated[Format | None, typer.Option(help="Form of the answer.", hidden=True)] = None,
) -> None:
    """Create a join token and show the command that uses it."""
    made = desk_of(ctx).admin().add_token(types=roles, value=token, ttl=ttl)
    for warning in made.texts("warnings"):
        warn(warning)
    if format is None:
        return out(invite.message(made))
    # An array, not the object of `tokens add`: that is how scripts know it.
    return emit([made.text("token")], format, lambda: line(made.text("token")))


@app.command()
def ls(
    ctx: typer.Context,
    chosen: Annotated[
        str, typer.Argument(metavar="[LABELS]", help="Only those with these labels: env=prod.")
    ] = "",
    search: Annotated[
        list[str] | None, typer.Option(help="Only those with these words somewhere: web,prod.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose/--no-verbose", "-v", help="State, and labels in full.")
    ] = False,
    compat_columns: Annotated[
        bool, typer.Option("--compat-columns/--no-compat-columns", help="The columns of 7.x.")
    ] = False,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """List the machines that have joined as nodes."""
    wanted = parse_labels(chosen).items()
    words = [word.lower() for part in search or () for word in part.split(",") if word]
    found = [
        node
        for node in desk_of(ctx).admin().list_nodes()
        if wanted <= node.labels("labels").items() and all(_has(node, word) for word in words)
    ]
    if format is Format.TEXT:
        _report_absent(found, verbose)
    plain = [node.plain for node in found]
    if compat_columns:
        return emit(plain, format, lambda: _old_table(found))
    return emit(plain, format, lambda: _table(found, verbose))


app.command("list", hidden=True)(ls)


def _table(nodes: list[Facts], verbose: bool) -> str:
    headers = ["Host", "UUID", "Public Address", "Labels", "Version"]
    rows = [
        [
            node.text("hostname"),
            node.text("id"),
            where(node.text("address")),
            labels(node.labels("labels")),
            node.text("version"),
            *([_state(node)] if verbose else []),
        ]
        for node in nodes
    ]
    return table([*headers, "State"] if verbose else headers, rows, cut="" if verbose else "Labels")


def _old_table(nodes: list[Facts]) -> str:
    rows = [
        (
            node.text("hostname"),
            node.text("id"),
            where(node.text("address")),
            ",".join(f"{key}:{value}" for key, value in sorted(node.labels("labels").items())),
        )
        for node in nodes
    ]
    return table(("Node Name", "Node ID", "Address", "Labels"), rows, cut="Labels")


def _state(node: Facts) -> str:
    state, seen = node.text("state"), node.moment("last_seen")
    if state == ONLINE or seen is None:
        return state
    return f"{state} since {stamp(seen)}"


def _report_absent(nodes: list[Facts], verbose: bool) -> None:
    """The table of the guides has no column for it, and a dead node must not look alive."""
    absent = sum(node.text("state") != ONLINE for node in nodes)
    if absent and not verbose:
        warn(f"{absent} of {len(nodes)} nodes not online, tctl nodes ls -v shows which")


def _has(node: Facts, word: str) -> bool:
    texts = [node.text("hostname"), node.text("id"), node.text("address")]
    texts += [f"{key}={value}" for key, value in node.labels("labels").items()]
    return any(word in text.lower() for text in texts)
