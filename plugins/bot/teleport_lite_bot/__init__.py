"""The bot role: programs that act in the cluster, with certificates of a user of their own.

A bot is no machine of the inventory: it shows nothing, and `tbot` runs it.
"""

from collections.abc import Sequence

from teleport_lite.plugin.api import SystemRole, hookimpl

BOT = SystemRole(
    name="Bot",
    flag="bot",
    # Who copies the token of a bot has the bot; once used, a copy is worth nothing.
    spends_token=True,
    is_host=False,
    run_by="tbot start",
)


@hookimpl
def teleport_lite_system_roles() -> Sequence[SystemRole]:
    return [BOT]
