"""tsh: the user's tool. Its commands, and the flags all of them take."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

import typer

from teleport_lite.cli.lazy import Place, program
from teleport_lite.cli.shared import SharedGroup, typed
from teleport_lite.cli.tsh.desk import Desk
from teleport_lite.errors import Unavailable

_HERE = "teleport_lite.cli.tsh"
NOT_YET = {
    "apps": "Reach applications.",
    "db": "Reach databases.",
    "kube": "Reach Kubernetes clusters.",
    "play": "Play a recorded session.",
    "join": "Join a session.",
}
_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
_typed = partial(typed, Desk)


def not_yet(ctx: typer.Context) -> None:
    """Ends with one clear error; the flags do not matter."""
    raise Unavailable(f"tsh {ctx.info_name} is not in this version", hint="tsh ls, and tsh ssh")


def _flags(
    debug: Annotated[
        bool,
        typer.Option(
            "--debug/--no-debug", "-d", help="Say more when something fails.", show_default=False
        ),
    ] = False,
    proxy: Annotated[
        str | None,
        _typed("--proxy", envvar="TELEPORT_PROXY", help="Web address of the proxy, host[:3080]."),
    ] = None,
    user: Annotated[
        str | None,
        _typed("--user", envvar="TELEPORT_USER", help="Your name in the cluster."),
    ] = None,
    login: Annotated[
        str | None,
        _typed("--login", "-l", envvar="TELEPORT_LOGIN", help="Your name on the nodes."),
    ] = None,
    cluster: Annotated[
        str | None, _typed("--cluster", "-c", envvar="TELEPORT_CLUSTER", help="Name of a cluster.")
    ] = None,
    identity: Annotated[
        str | None,
        _typed(
            "--identity",
            "-i",
            envvar="TELEPORT_IDENTITY_FILE",
            help="Identity file to use in place of a profile.",
        ),
    ] = None,
    ttl: Annotated[
        str | None,
        _typed("--ttl", help="How long a login lasts: 8h, or minutes. 12h if not given."),
    ] = None,
    add_keys_to_agent: Annotated[
        str | None,
        _typed(
            "--add-keys-to-agent",
            "-k",
            envvar="TELEPORT_ADD_KEYS_TO_AGENT",
            help="auto, yes, no, or only: the SSH key is in ssh-agent and on no disk.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        _typed("--insecure/--no-insecure", help="Log in through a proxy nobody vouches for."),
    ] = False,
) -> None:
    """The flags of every command, declared once. Never called."""


class TshGroup(SharedGroup):
    flags = staticmethod(_flags)
    places: ClassVar[Mapping[str, Place]] = {
        "login": Place(f"{_HERE}.login", "login", "Log in to a cluster."),
        "logout": Place(f"{_HERE}.logout", "logout", "Forget the credentials of clusters."),
        "status": Place(f"{_HERE}.status", "status", "Show who you are logged in as."),
        "ls": Place(f"{_HERE}.ls", "ls", "List the nodes you may reach."),
        "ssh": Place(f"{_HERE}.ssh", "app", "Open a shell on a node, or run a command."),
        "scp": Place(f"{_HERE}.scp", "scp", "Copy files to or from a node."),
        "config": Place(f"{_HERE}.config", "config", "Print configuration for OpenSSH."),
        "proxy": Place(f"{_HERE}.proxy", "app", "Carry a connection through the proxy."),
        "clusters": Place(f"{_HERE}.clusters", "clusters", "List clusters."),
        "version": Place(f"{_HERE}.version", "version", "Print the version."),
        **{
            name: Place(f"{_HERE}.main", "not_yet", f"{help} Not yet.")
            for name, help in NOT_YET.items()
        },
    }

    def load(self, name: str, place: Place) -> Any:
        command = super().load(name, place)
        if name in NOT_YET:
            command.context_settings = _ANYTHING
        return command


app = program(TshGroup, "Reach a cluster. Flags may stand before or after the command.")
