"""What every tctl command has at hand: the admin client, and how to reach it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from teleport_lite.ambient import SystemClock
from teleport_lite.cli.exit import warn
from teleport_lite.client.admin import AdminClient
from teleport_lite.client.find import Wish, find
from teleport_lite.client.transport import Transport

if TYPE_CHECKING:  # what not every command needs
    from teleport_lite.client.backup import BackupClient
    from teleport_lite.client.recordings import RecordingsClient


@dataclass(slots=True)
class Desk:
    """Filled by the shared flags of `cli/tctl/main.py`; one per command line."""

    config: str = ""
    data_dir: str = ""
    auth_server: list[str] = field(default_factory=list)
    identity: str = ""
    insecure: bool = False
    clock: SystemClock = field(default_factory=SystemClock)

    def admin(self) -> AdminClient:
        """Raises what `client.find.find` raises, before anything is sent."""
        return AdminClient(self._transport())

    def recordings(self) -> "RecordingsClient":
        """Raises as `admin`."""
        from teleport_lite.client.recordings import RecordingsClient

        return RecordingsClient(self._transport())

    def backups(self) -> "BackupClient":
        """Raises as `admin`."""
        from teleport_lite.client.backup import BackupClient

        return BackupClient(self._transport())

    def _transport(self) -> Transport:
        if self.insecure:
            warn("--insecure has no effect: the auth service is known by its CA")
        door = find(
            Wish(
                config=self.config,
                data_dir=self.data_dir,
                auth_servers=tuple(self.auth_server),
                identity=self.identity,
            )
        )
        return Transport(door, clock=self.clock)


def desk_of(ctx: typer.Context) -> Desk:
    return ctx.ensure_object(Desk)
