"""tctl get, create, update, rm: any kind of resource, as documents."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from teleport_lite.cli.show import Format, as_yaml, emit, line, out, table
from teleport_lite.cli.tctl.desk import desk_of
from teleport_lite.client.facts import Facts
from teleport_lite.errors import Denied, Error, NotFound, Unavailable
from teleport_lite.model.labels import parse_labels

# What `get all` means; kinds that hosts announce are asked for by name.
ALL = ("cert_authority", "lock", "node", "role", "token", "user", "bot")
STDIN = "standard input"


def get(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(help="kind, kind/name, several with commas, or all.")],
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.YAML,
) -> None:
    """Print resources: YAML documents, or a JSON array."""
    admin = desk_of(ctx).admin()
    found = [each for kind, name in _asked(what) for each in admin.get_resources(kind, name)]
    if format is Format.YAML:
        return out("---\n".join(as_yaml(each.plain) for each in found))
    return emit([each.plain for each in found], format, lambda: _table(found))


def create(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(help="YAML or JSON; standard input if not given.")] = "-",
    force: Annotated[
        bool, typer.Option("--force/--no-force", "-f", help="Replace what exists.")
    ] = False,
) -> None:
    """Make resources from one or more documents."""
    from teleport_lite.cli.tctl import documents

    source = STDIN if file == "-" else file
    wanted = documents.read(_text(file), source)
    admin = desk_of(ctx).admin()
    for number, document in enumerate(wanted, start=1):
        try:
            made = admin.create_resource(document, force=force)
        except Error as why:
            if len(wanted) == 1:
                raise
            place = f"{source}, document {number} of {len(wanted)}"
            raise type(why)(f"{place}: {why.message}", hint=why.hint) from why
        done = "created" if made.flag("created") else "updated"
        out(f'{line(made.text("kind"))} "{line(made.text("name"))}" has been {done}')


def rm(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(help="kind/name, like node/UUID or role/dev.")],
) -> None:
    """Remove a resource."""
    [(kind, name), *more] = _asked(what)
    if not name or more:
        ctx.fail(f"{what} is not kind/name, like node/UUID or role/dev")
    gone = desk_of(ctx).admin().remove_resource(kind, name)
    out(f'{line(gone.text("kind"))} "{line(gone.text("name"))}" has been deleted')


def update(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(help="rc/name: a leaf cluster.")],
    set_labels: Annotated[
        str, typer.Option("--set-labels", help="Its labels from now on: env=prod,team=db.")
    ],
) -> None:
    """Change a resource that documents do not make: the labels of a leaf cluster."""
    [(kind, name), *more] = _asked(what)
    if not name or more:
        ctx.fail(f"{what} is not kind/name, like rc/leaf.example.com")
    done = desk_of(ctx).admin().label_resource(kind, name, parse_labels(set_labels))
    out(f'{line(done.text("kind"))} "{line(done.text("name"))}" has been updated')


def _asked(what: str) -> list[tuple[str, str]]:
    if what == "all":
        return [(kind, "") for kind in ALL]
    parts = (part.strip().partition("/") for part in what.split(","))
    return [(kind, name) for kind, _, name in parts]


def _table(found: list[Facts]) -> str:
    rows = [(each.text("kind"), each.one("metadata").text("name")) for each in found]
    return table(("Kind", "Name"), rows)


def _text(file: str) -> str:
    """At most what `documents` reads, and one more to see that it is too much."""
    from teleport_lite.cli.tctl.documents import MAX_SIZE

    try:
        if file == "-":
            return sys.stdin.buffer.read(4 * MAX_SIZE).decode("utf-8", "replace")
        with Path(file).open("rb") as stream:
            return stream.read(4 * MAX_SIZE).decode("utf-8", "replace")
    except FileNotFoundError:
        raise NotFound(f"{file} does not exist") from None
    except PermissionError as why:
        raise Denied(f"{file} cannot be read: permission denied") from why
    except OSError as why:
        raise Unavailable(f"{file} cannot be read: {why.strerror}") from why
