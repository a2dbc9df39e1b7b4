"""Flags that every command of a program takes, before the command's name or after it.

They are declared once, as the parameters of a function that is never called, and remembered
on the desk of the program: the last word counts.
"""

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import typer
import typer.main

from teleport_lite.cli.lazy import PLAIN, LazyGroup, Place


def typed(desk: type, *names: str, help: str, **more: Any) -> Any:
    """An option that is remembered as the attribute of `desk` that has its name."""

    def remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
        kept: Any = ctx.ensure_object(desk)
        if value not in (None, False, [], ()):
            setattr(kept, str(param.name), value)
        return value

    return typer.Option(*names, help=help, callback=remember, show_default=False, **more)


class SharedGroup(LazyGroup):
    """A program whose commands share `flags`."""

    flags: ClassVar[Callable[..., None]]

    def load(self, name: str, place: Place) -> Any:
        command = super().load(name, place)
        _give(command, self._shared(hidden=True))
        return command

    def get_params(self, ctx: Any) -> list[Any]:
        return [*super().get_params(ctx), *self._shared(hidden=False)]

    def _shared(self, *, hidden: bool) -> list[Any]:
        app = typer.Typer(**PLAIN)
        app.command()(type(self).flags)
        found: list[Any] = []
        for declared in typer.main.get_command(app).params:
            param: Any = copy.copy(declared)
            param.expose_value = False
            param.hidden = hidden
            if hidden:  # the environment was asked before the command; typed words win over it
                param.envvar = None
            found.append(param)
        return found


def _give(command: Any, flags: list[Any]) -> None:
    own = {opt for param in command.params for opt in param.opts}
    command.params = [*command.params, *(each for each in flags if own.isdisjoint(each.opts))]
    for inner in getattr(command, "commands", {}).values():
        _give(inner, flags)
