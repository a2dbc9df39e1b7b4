"""Groups of commands that import a command only when it is named.

`tctl status` must not pay for the modules of `tctl auth sign`. A group is a table of places;
its help is printed from the table without importing anything.
"""

import gc
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
import typer.main
from typer.core import TyperGroup

# typer's own errors and help come without rich: it costs 30 ms and colours pipes.
PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "add_completion": False,
}


class Place(NamedTuple):
    """Where a command lives: a function, or a typer.Typer of sub-commands."""

    module: str
    name: str
    help: str
    hidden: bool = False  # aliases: they work, and stay out of the list


def program(group: type["LazyGroup"], help: str) -> typer.Typer:
    """The top of a program. Its commands come from `group.places`."""
    app = typer.Typer(
        cls=group,
        help=help,
        context_settings={"help_option_names": ["-h", "--help"]},
        **PLAIN,
    )

    @app.callback()
    def top() -> None:
        """Nothing happens before the command."""

    return app


class LazyGroup(TyperGroup):
    places: ClassVar[Mapping[str, Place]] = {}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer asks with it
        return [name for name, place in self.places.items() if not place.hidden]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.places:
            return self.load(cmd_name, self.places[cmd_name])
        near = get_close_matches(cmd_name, self.places, n=1)
        meant = f", did you mean {near[0]}" if near else ""
        return ctx.fail(f"no such command: {cmd_name}{meant}")

    def load(self, name: str, place: Place) -> Any:
        found = getattr(import_module(place.module), place.name)
        command = typer.main.get_command(found if _is_app(found) else _alone(found))
        command.name = name
        # It was off since __main__.py, which saves a local command 5 ms of 60. Nor need it look
        # through all that is loaded now later.
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As typer does it, but from the table."""
        rows = [(name, self.places[name].help) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _is_app(found: object) -> bool:
    if isinstance(found, typer.Typer):
        found.rich_markup_mode = None
        found.pretty_exceptions_enable = False
        return True
    return False


def _alone(function: Callable[..., Any]) -> typer.Typer:
    app = typer.Typer(**PLAIN)
    app.command()(function)
    return app
