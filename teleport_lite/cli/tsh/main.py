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
}
_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
_typed = partial(typed, Desk)


def not_yet(ctx: typer.Context) -> None:
    """Ends with one clear error; the flags do not matter."""
    raise Unavailable(f"tsh {ctx.info_name} is not in this version", hint="tsh ls, and tsh ssh")


def _text(*names: str, help: str, env: str = "") -> Any:
    return _typed(*names, help=help, **({"envvar": f"TELEPORT_{env}"} if env else {}))


_DEBUG = typer.Option(
    "--debug/--no-debug", "-d", help="Say more when something fails.", show_default=False
)
_PROXY = _text("--proxy", env="PROXY", help="Web address of the proxy, host[:3080].")
_USER = _text("--user", env="USER", help="Your name in the cluster.")
_LOGIN = _text("--login", "-l", env="LOGIN", help="Your name on the nodes.")
_CLUSTER = _text("--cluster", "-c", env="CLUSTER", help="Name of a cluster.")
_IDENTITY = _text(
    "--identity", "-i", env="IDENTITY_FILE", help="Identity file to use in place of a profile."
)
_TTL = _text("--ttl", help="How long a login lasts: 8h, or minutes. 12h if not given.")
_KEYS = _text(
    "--add-keys-to-agent",
    "-k",
    env="ADD_KEYS_TO_AGENT",
    help="auto, yes, no, or only: the SSH key is in ssh-agent and on no disk.",
)
_INSECURE = _typed("--insecure/--no-insecure", help="Log in through a proxy nobody vouches for.")
Text = str | None


def _flags(
    debug: Annotated[bool, _DEBUG] = False,
    proxy: Annotated[Text, _PROXY] = None,
    user: Annotated[Text, _USER] = None,
    login: Annotated[Text, _LOGIN] = None,
    cluster: Annotated[Text, _CLUSTER] = None,
    identity: Annotated[Text, _IDENTITY] = None,
    ttl: Annotated[Text, _TTL] = None,
    add_keys_to_agent: Annotated[Text, _KEYS] = None,
    insecure: Annotated[bool, _INSECURE] = False,
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
        "join": Place(f"{_HERE}.join", "join", "Join a session that is open."),
        "sessions": Place(f"{_HERE}.sessions", "app", "Sessions that are open now."),
        "recordings": Place(f"{_HERE}.recordings", "app", "Sessions that were recorded."),
        "play": Place(f"{_HERE}.play", "play", "Play a recorded session."),
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
