"""What a monitor and the daemon say to each other about one connection: JSON, one to a packet.

    monitor --FromMonitor-->  daemon    events for the trail, notes for the log, how far it got
    monitor <--ToMonitor----  daemon    look again whether the visitor is still welcome

Either may be gone while the other lives on: connections outlive a restart of the daemon.
"""

from enum import StrEnum

from teleport_lite.proto.codec import Message
from teleport_lite.proto.stream import AgentEvent

# An event holds a command of at most 4 kB, escaped.
MAX_SAID = 64 * 1024


class Outcome(StrEnum):
    """How a connection that never logged in ended; each has its price (`ssh_limits`)."""

    AUTH_FAILED = "authfail"
    INVALID_USER = "invaliduser"
    NO_AUTH = "noauth"
    GRACE = "grace"
    CRASH = "crash"


class FromMonitor(Message, frozen=True):
    """Exactly one field is set."""

    event: AgentEvent | None = None
    note: str | None = None  # for the log of the daemon
    logged_in: bool | None = None
    outcome: Outcome | None = None


class ToMonitor(Message, frozen=True):
    recheck: bool
