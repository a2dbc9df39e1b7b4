"""Links that let a person set a password: for a new user, or after a reset."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from teleport_lite.secret import Secret

# As `tokens ls` calls them.
SIGNUP = "Signup"


class InviteKind(StrEnum):
    INVITE = "invite"
    RESET = "reset"


# How long a link works if nobody says, and at the most.
LIVES: dict[InviteKind, tuple[timedelta, timedelta]] = {
    InviteKind.INVITE: (timedelta(hours=1), timedelta(hours=48)),
    InviteKind.RESET: (timedelta(hours=8), timedelta(hours=24)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """Works once, until it expires. A user has one at the most: a new one replaces the old.

    Administrators show the link again, so the token is kept (sealed, see `store/`).
    """

    name: str  # keyed hash of the token; what it is looked up by
    token: Secret
    user: str
    kind: InviteKind
    expires_at: datetime
    created_at: datetime
    created_by: str = ""

    @property
    def id(self) -> str:
        """For the audit trail: says which, and lets nobody in."""
        return self.name[:16]

    def expired(self, now: datetime) -> bool:
        return now >= self.expires_at
