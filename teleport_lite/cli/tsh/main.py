"""tsh: the user's tool. What it will do is not built yet; each command says what to use now."""

from collections.abc import Mapping
from typing import Any, ClassVar

import typer

from teleport_lite.cli.lazy import LazyGroup, Place, program
from teleport_lite.errors import Unavailable

_HERE = "teleport_lite.cli.tsh.main"
NOT_YET = {
    "login": "Log in to a cluster.",
    "logout": "Forget the credentials of a cluster.",
    "status": "Show who you are logged in as.",
    "ls": "List the nodes you may reach.",
    "ssh": "Open a shell on a node.",
    "scp": "Copy files to or from a node.",
    "config": "Print configuration for OpenSSH.",
    "proxy": "Carry a connection through the proxy.",
    "apps": "Reach applications.",
    "db": "Reach databases.",
    "kube": "Reach Kubernetes clusters.",
    "clusters": "List clusters.",
    "play": "Play a recorded session.",
    "join": "Join a session.",
}
_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def not_yet(ctx: typer.Context) -> None:
    """Ends with one clear error; the flags do not matter."""
    hint = "tctl nodes ls" if ctx.info_name == "ls" else "tctl auth sign, then ssh, see docs/cli.md"
    raise Unavailable(f"tsh {ctx.info_name} is not in this version", hint=hint)


class TshGroup(LazyGroup):
    places: ClassVar[Mapping[str, Place]] = {
        "version": Place("teleport_lite.cli.version", "version", "Print the version."),
        **{name: Place(_HERE, "not_yet", f"{help} Not yet.") for name, help in NOT_YET.items()},
    }

    def load(self, name: str, place: Place) -> Any:
        command = super().load(name, place)
        if name in NOT_YET:
            command.context_settings = _ANYTHING
        return command


app = program(TshGroup, "Reach a cluster. In this version: tctl auth sign, and OpenSSH.")
