"""The rotation of a CA: from one key pair to the next, in phases, so that nobody is locked out.

    standby -> init -> update_clients -> update_servers -> standby
                 \\____________\\_______________\\-> rollback -> standby

In every phase but standby both generations are trusted. Which one signs is in `CaKeys.active`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from teleport_lite.model.authority import CaType


class Phase(StrEnum):
    STANDBY = "standby"
    INIT = "init"
    UPDATE_CLIENTS = "update_clients"
    UPDATE_SERVERS = "update_servers"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredCa:
    """A generation that is not trusted any more: who still goes by it can be told why."""

    id: str
    pin: str = ""  # `pki/pin.py`, of one with an X.509 certificate
    ssh_key: str = ""  # OpenSSH line, of one with an SSH key
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Where one type of CA stands. `serial` grows by one with each change: who writes names the
    serial it has read, so of two that write at once one is refused."""

    type: CaType
    serial: int = 0  # 0: never rotated, nothing in the store
    phase: Phase = Phase.STANDBY
    id: str = ""  # UUID of the rotation that runs, or ran last
    manual: bool = True
    started_at: datetime | None = None
    phase_since: datetime | None = None
    grace: float = 0.0  # seconds from init to standby, of an automatic one
    old_ca: str = ""  # ids of the two generations, while it runs
    new_ca: str = ""
    last_rotated: datetime | None = None
    retired: tuple[RetiredCa, ...] = ()  # the latest ones, newest first

    @property
    def mark(self) -> str:
        """What agents say they have caught up with: "<id>/<phase>", "" if there never was one."""
        return f"{self.id}/{self.phase}" if self.id else ""
