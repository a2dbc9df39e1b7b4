"""Which program, and the commands of `teleport-lite` itself."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import ClassVar

import typer
import typer.main

from teleport_lite.cli import OTHERS
from teleport_lite.cli.exit import guarded
from teleport_lite.cli.lazy import LazyGroup, Place, program

_HERE = "teleport_lite.cli"


class NodeGroup(LazyGroup):
    places: ClassVar[Mapping[str, Place]] = {
        "configure": Place(
            f"{_HERE}.teleport.configure", "node_configure", "Write a file for an SSH node."
        ),
    }


class TeleportGroup(LazyGroup):
    places: ClassVar[Mapping[str, Place]] = {
        "start": Place(f"{_HERE}.teleport.start", "start", "Run this host's roles."),
        "configure": Place(
            f"{_HERE}.teleport.configure", "configure", "Write a configuration file, or test one."
        ),
        "node": Place(f"{_HERE}.main", "node", "Write a configuration file for an SSH node."),
        "doctor": Place(
            f"{_HERE}.teleport.doctor", "doctor", "Say why this host can not join or connect."
        ),
        "plugins": Place(f"{_HERE}.teleport.plugins", "app", "What is installed and invited."),
        "install": Place(f"{_HERE}.teleport.install", "app", "Put this program in its place."),
        "uninstall": Place(
            f"{_HERE}.teleport.uninstall", "uninstall", "Remove what was installed; data stays."
        ),
        "upgrade": Place(
            f"{_HERE}.teleport.upgrade", "upgrade", "Become the version that the cluster wants."
        ),
        "status": Place(f"{_HERE}.teleport.status", "status", "About the SSH session you are in."),
        "version": Place(f"{_HERE}.version", "version", "Print the version."),
    }


node = program(NodeGroup, "For hosts that only run the SSH service.")


def run(program_name: str, words: list[str]) -> int:
    """Run `words` under `program_name` ("tctl", "teleport-lite tctl"). Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A label in Greek must not crash a listing on a terminal that has only ASCII.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    debug = _asks_for_debug(words)
    return guarded(lambda: _run(program_name, words), debug=debug)


def _run(program_name: str, words: list[str]) -> object:
    command = typer.main.get_command(_app(program_name.split()[-1]))
    return command.main(args=_help_last(words), prog_name=program_name, standalone_mode=False)


def _app(name: str) -> typer.Typer:
    if name in OTHERS:
        app = import_module(f"{_HERE}.{name}.main").app
        assert isinstance(app, typer.Typer)
        return app
    return program(TeleportGroup, "The daemon of a cluster: auth, proxy and node in one program.")


def _help_last(words: list[str]) -> list[str]:
    """`help tokens add` is `tokens add --help`; nothing at all is `--help`."""
    if not words:
        return ["--help"]
    return [*words[1:], "--help"] if words[0] == "help" else words


def _asks_for_debug(words: list[str]) -> bool:
    """Before parsing: an error in parsing wants its details too."""
    own = words[: words.index("--")] if "--" in words else words
    return "-d" in own or "--debug" in own
