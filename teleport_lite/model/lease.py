"""A lease: of several auth servers one does a job, and one that comes too late is refused."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who may do the job called `name` until when. `fence` grows with each new holder: a write
    that names an older one is refused, however late its writer wakes up."""

    name: str
    holder: str  # UUID of an auth server's process
    fence: int
    until: datetime
