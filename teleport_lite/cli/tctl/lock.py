"""tctl lock."""

from typing import Annotated

import typer

from teleport_lite.cli.show import line, out
from teleport_lite.cli.tctl.desk import Desk, desk_of
from teleport_lite.errors import Malformed
from teleport_lite.model.duration import parse_duration
from teleport_lite.proto.resource import read_moment


def lock(
    ctx: typer.Context,
    user: Annotated[str, typer.Option(help="Name of a user.")] = "",
    role: Annotated[str, typer.Option(help="Name of a role.")] = "",
    login: Annotated[str, typer.Option(help="A system user.")] = "",
    server_id: Annotated[str, typer.Option("--server-id", "--node", help="UUID of a host.")] = "",
    bot_instance_id: Annotated[str, typer.Option(help="UUID of one machine of a bot.")] = "",
    join_token: Annotated[str, typer.Option(help="ID of a join token.")] = "",
    message: Annotated[str, typer.Option(help="Shown to who is refused.")] = "",
    ttl: Annotated[str, typer.Option(help="For how long: 10h. For ever if not given.")] = "",
    expires: Annotated[str, typer.Option(help="Until when: 2030-01-31T12:00:00Z.")] = "",
) -> None:
    """Refuse somebody everywhere, within seconds. `tctl rm lock/ID` ends it."""
    targets = {
        "user": user,
        "role": role,
        "login": login,
        "node": server_id,
        "bot_instance_id": bot_instance_id,
        "join_token": join_token,
    }
    given = [(target, value) for target, value in targets.items() if value]
    if len(given) != 1:
        ctx.fail(
            "exactly one of --user, --role, --login, --server-id, --bot-instance-id and "
            "--join-token is needed"
        )
    if ttl and expires:
        ctx.fail("--ttl and --expires exclude each other")
    [(target, value)] = given
    desk = desk_of(ctx)
    made = desk.admin().add_lock(
        target=target, value=value, message=message, ttl=_ttl(desk, ttl, expires)
    )
    out(f'Created a lock with name "{line(made)}".')


def _ttl(desk: Desk, ttl: str, expires: str) -> str:
    if not expires:
        if ttl:
            parse_duration(ttl, "--ttl")
        return ttl
    left = read_moment(expires, "--expires") - desk.clock.now()
    if left.total_seconds() < 1:
        raise Malformed(f"--expires {expires[:40]} is in the past")
    return f"{int(left.total_seconds())}s"
