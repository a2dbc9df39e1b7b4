"""`version`, when more than the plain line is wanted. The plain one is in `__main__.py`."""

import sys
from typing import Annotated

import typer

from teleport_lite import __version__
from teleport_lite.cli.show import Format, emit


def version(
    raw: Annotated[bool, typer.Option("--raw", help="Only the number.")] = False,
    format: Annotated[Format, typer.Option("--format", "-f", help="Form of the answer.")] = (
        Format.TEXT
    ),
) -> None:
    """Print the version of this program."""
    runtime = "python{}.{}.{}".format(*sys.version_info[:3])
    facts = {"version": __version__, "runtime": runtime}
    emit(
        facts,
        format,
        lambda: __version__ if raw else f"teleport-lite v{__version__} {runtime}",
    )
