"""tctl auth rotate."""

import sys
from typing import Annotated

import typer

from teleport_lite.cli.show import Format, emit
from teleport_lite.cli.tctl.desk import Desk, desk_of
from teleport_lite.cli.tctl.rotation_words import ALL, TYPES, told
from teleport_lite.cli.tctl.users import split
from teleport_lite.client.facts import Facts
from teleport_lite.model.duration import parse_duration

GRACE = "48h"
_THERE_ARE = ", ".join((*TYPES, ALL))


_Types = Annotated[
    list[str] | None, typer.Option(help=f"Which CA: {_THERE_ARE}; several with commas.")
]
_Phase = Annotated[
    str, typer.Option(help="init, update_clients, update_servers, standby or rollback.")
]
_Manual = Annotated[
    bool, typer.Option("--manual/--no-manual", help="Each step waits for a command of yours.")
]
_Grace = Annotated[
    str, typer.Option(help="How long an automatic rotation takes; 0s is at once, with no overlap.")
]
_Interactive = Annotated[
    bool, typer.Option("--interactive/--no-interactive", help="Ask, and show what will happen.")
]
_Watch = Annotated[
    bool, typer.Option("--watch/--no-watch", help="Show who has caught up, until all have.")
]
_Force = Annotated[
    bool, typer.Option("--force/--no-force", help="To standby, leaving hosts behind.")
]


def rotate(
    ctx: typer.Context,
    type: _Types = None,
    phase: _Phase = "",
    manual: _Manual = False,
    grace_period: _Grace = GRACE,
    interactive: _Interactive = False,
    watch: _Watch = False,
    force: _Force = False,
    format: Annotated[Format, typer.Option(help="Form of the answer.")] = Format.TEXT,
) -> None:
    """Give a certificate authority new keys, in phases that let everybody keep up.

    Alone, on a terminal, it asks which. With --watch and no type it looks on at what is going on.
    """
    desk, types = desk_of(ctx), split(type)
    bare = not (types or phase or manual or force or watch)
    if interactive or (bare and format is Format.TEXT and _at_a_terminal()):
        from teleport_lite.cli.tctl.rotation_talk import Talk

        return Talk(desk, types, grace_period, manual=manual).run()
    if not types and not (watch and not phase):
        ctx.fail(f"option --type is needed, one of {_THERE_ARE}; --watch alone looks on")
    if types:
        found = _rotated(desk, types, phase, grace_period, manual=manual, force=force)
        if not watch or format is Format.TEXT:
            emit([each.plain for each in found], format, lambda: told(found, begins(phase)))
    if watch:
        from teleport_lite.cli.tctl.rotation_watch import watch as look_on

        look_on(desk, [] if ALL in types else types, format)
    return None


def begins(phase: str) -> bool:
    return phase in ("", "init")


def _rotated(
    desk: Desk, types: list[str], phase: str, grace: str, *, manual: bool, force: bool
) -> list[Facts]:
    check_grace(grace)
    admin = desk.admin()
    return admin.rotate(types, phase=phase, manual=manual, grace_period=grace, force=force)


def check_grace(text: str) -> bool:
    """True if there is none, and all happens at once. Raises Malformed."""
    return text == "0" or not parse_duration(text, "--grace-period")


def _at_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
