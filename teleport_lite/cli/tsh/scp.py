"""tsh scp."""

from typing import Annotated

import typer

from teleport_lite.cli.tsh import openssh
from teleport_lite.cli.tsh.desk import Desk, desk_of
from teleport_lite.client.person import Person
from teleport_lite.errors import Malformed


def scp(
    ctx: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="FROM... TO", help="Files here, or [LOGIN@]HOST:PATH on a node."),
    ],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Directories too.")] = False,
    preserve: Annotated[
        bool, typer.Option("-p", "--preserve", help="Keep times and modes.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
    port: Annotated[int | None, typer.Option("-P", "--port", help="SSH port of the node.")] = None,
) -> None:
    """Copy files to nodes, from nodes, or between them. Ends with scp's exit status."""
    desk = desk_of(ctx)
    if len(paths) < 2 or not any(map(_is_remote, paths)):
        raise Malformed(
            "scp needs files and where they go, one of them on a node",
            hint="tsh scp file.txt root@web-1:/tmp/",
        )
    person = desk.person()
    words = ["scp", *openssh.flags(person)]
    words += [flag for flag, on in (("-r", recursive), ("-p", preserve), ("-q", quiet)) if on]
    words += ["-P", str(port)] if port is not None else []
    openssh.become([*words, "--", *(_path(each, desk, person) for each in paths)])


def _is_remote(path: str) -> bool:
    """As scp decides: a colon before any slash."""
    host, colon, _ = path.partition(":")
    return bool(colon) and bool(host) and "/" not in host


def _path(path: str, desk: Desk, person: Person) -> str:
    if not _is_remote(path):
        return path
    where, _, there = path.partition(":")
    login, host = openssh.split_target(where, desk, person)
    target = openssh.only(openssh.find(host, desk, person), host)
    return f"{login}@{target.host}:{there}"
