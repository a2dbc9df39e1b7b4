"""tsh logout."""

import typer

from teleport_lite.cli.show import out
from teleport_lite.cli.tsh import ssh_agent
from teleport_lite.cli.tsh.desk import desk_of
from teleport_lite.client import profile
from teleport_lite.client.person import not_logged_in
from teleport_lite.client.profile import Files


def logout(ctx: typer.Context) -> None:
    """Remove keys and certificates, from disk and from ssh-agent. All, or those of --proxy."""
    desk = desk_of(ctx)
    found = profile.every(desk.home)
    if desk.proxy:
        found = [each for each in found if each.proxy == desk.proxy_host]
    if desk.user:
        found = [each for each in found if each.user == desk.user]
    if not found and (desk.proxy or desk.user):
        raise not_logged_in(desk.proxy_host if desk.proxy else "")
    for each in found:
        ssh_agent.drop(Files(desk.home, each).ssh_public)
        profile.remove(desk.home, each)
    if not found:
        return out("Nobody was logged in.")
    if desk.proxy or desk.user:
        return out("".join(f"Logged out {each.user} from {each.proxy}.\n" for each in found))
    return out("Logged out all users from all proxies.")
