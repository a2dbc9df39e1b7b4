"""Wrong passwords in a row, as all auth servers of a cluster count them together."""

from dataclasses import dataclass
from datetime import datetime, timedelta

# As Teleport has it. 240 guesses a day find no password that our rules let pass.
MAX_GUESSES = 5
# A row is over that long after its last one; a clock that was put back by more ends it, too.
GUESSES_LAST = timedelta(minutes=30)
# Names that do not exist are counted like others, or a lock would tell which do. Their rows take
# half a MiB; who makes us forget one by guessing at that many others gets five guesses for it.
KEPT_STRANGERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses:
    """At one name, from one place."""

    name: str  # a hash: what was typed may be a password
    source: str  # a place the user has logged in from, or "" for all others together
    count: int
    last_at: datetime
    stranger: bool = False  # nobody was called so

    def running(self, now: datetime) -> bool:
        return abs(now - self.last_at) < GUESSES_LAST
