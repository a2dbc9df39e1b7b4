"""tctl: the administrator's tool. Its commands, and the flags all of them take."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar

import typer

from teleport_lite.cli.lazy import Place, program
from teleport_lite.cli.shared import SharedGroup, typed
from teleport_lite.cli.tctl.desk import Desk

_HERE = "teleport_lite.cli.tctl"
_typed = partial(typed, Desk)
_SAME = "Taken for compatibility: the far end is checked all the same."
_CONFIG = {"envvar": "TELEPORT_CONFIG_FILE", "help": "Configuration of the auth service here."}


def _flags(
    debug: Annotated[
        bool,
        typer.Option(
            "--debug/--no-debug", "-d", help="Say more when something fails.", show_default=False
        ),
    ] = False,
    config: Annotated[str | None, _typed("--config", "-c", **_CONFIG)] = None,
    data_dir: Annotated[
        str | None, _typed("--data-dir", help="Data directory of the auth service here.")
    ] = None,
    auth_server: Annotated[
        list[str] | None, _typed("--auth-server", help="Address of auth, or of a proxy: host:port.")
    ] = None,
    identity: Annotated[
        str | None, _typed("--identity", "-i", help="Identity file of `tctl auth sign`.")
    ] = None,
    insecure: Annotated[bool, _typed("--insecure/--no-insecure", help=_SAME)] = False,
) -> None:
    """The flags of every command, declared once. Never called."""


class TctlGroup(SharedGroup):
    flags = staticmethod(_flags)
    places: ClassVar[Mapping[str, Place]] = {
        "status": Place(f"{_HERE}.status", "status", "Name, version and CA pin of the cluster."),
        "tokens": Place(f"{_HERE}.tokens", "app", "Join tokens: let machines in."),
        "nodes": Place(f"{_HERE}.nodes", "app", "Machines of the cluster that serve SSH."),
        "get": Place(f"{_HERE}.resources", "get", "Print resources as YAML or JSON."),
        "create": Place(f"{_HERE}.resources", "create", "Make resources from YAML."),
        "update": Place(f"{_HERE}.resources", "update", "Change labels of a leaf cluster."),
        "rm": Place(f"{_HERE}.resources", "rm", "Remove a resource."),
        "del": Place(f"{_HERE}.resources", "rm", "Remove a resource.", hidden=True),
        "users": Place(f"{_HERE}.users", "app", "People of the cluster."),
        "bots": Place(f"{_HERE}.bots", "app", "Machine users of the cluster."),
        "bot": Place(f"{_HERE}.bots", "app", "Machine users.", hidden=True),
        "lock": Place(f"{_HERE}.lock", "lock", "Refuse somebody everywhere, within seconds."),
        "auth": Place(f"{_HERE}.auth", "app", "Certificates and certificate authorities."),
        "recordings": Place(f"{_HERE}.recordings", "app", "Sessions that were recorded."),
        "backup": Place(f"{_HERE}.backup", "app", "A cluster in one file."),
        "export": Place(f"{_HERE}.move", "export_cluster", "Write all of a stopped cluster."),
        "import": Place(f"{_HERE}.move", "import_cluster", "Read it into another storage."),
        "keyring": Place(f"{_HERE}.keyring", "app", "The keys that seal what auth keeps."),
        "audit": Place(f"{_HERE}.audit", "app", "What happened, and proof that it is complete."),
        "version": Place("teleport_lite.cli.version", "version", "Print the version."),
    }


app = program(TctlGroup, "Administer a cluster. Flags may stand before or after the command.")
