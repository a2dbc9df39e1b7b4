"""tsh join."""

from typing import Annotated

import typer

from teleport_lite.cli.recordings import EXAMPLE, session_id
from teleport_lite.cli.tsh import openssh
from teleport_lite.cli.tsh.desk import desk_of
from teleport_lite.client.facts import Facts
from teleport_lite.model.names import LOGIN, UUID, checked
from teleport_lite.model.user import JoinMode

SUBSYSTEM = "join@teleport-lite"


def join(
    ctx: typer.Context,
    sid: Annotated[str, typer.Argument(metavar="SID", help="Id of a session: tsh sessions ls.")],
    mode: Annotated[
        JoinMode, typer.Option("--mode", "-m", help="Look on, or type too.")
    ] = JoinMode.OBSERVER,
) -> None:
    """Join a session that is open: your own, or one that a role of yours lets you join.

    To leave, close the connection as with ssh: Enter ~ and a dot.
    """
    desk, sid = desk_of(ctx), session_id(sid)
    person = desk.person()
    found = desk.recordings(person).join(sid, mode.value)
    openssh.become(
        [
            "ssh",
            *openssh.flags(person),
            *words(sid, mode, found, person.cluster),
        ]
    )


def words(sid: str, mode: JoinMode, found: Facts, cluster: str) -> list[str]:
    """What ssh is told beside who we are. Nothing of this host goes along: the other end is
    somebody else's session. Raises Malformed for an answer that names no host."""
    host = checked(UUID, found.text("host_id"), "id of a node", example=EXAMPLE)
    login = checked(LOGIN, found.text("login"), "login", example="root")
    settings = {
        "SetEnv": f"TELEPORT_SESSION={sid} TELEPORT_JOIN_MODE={mode.value}",
        "RemoteCommand": "none",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ControlPath": "none",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    return [*options, "-tt", "-s", "--", f"{login}@{host}.{cluster}", SUBSYSTEM]
