"""What a monitor and the daemon say to each other about one connection: JSON, one to a packet.

    monitor --FromMonitor-->  daemon    events for the trail, notes for the log, how far it got
    monitor <--ToMonitor----  daemon    look again whether the visitor is still welcome

At a jump host besides:

    monitor --FromMonitor-->  daemon    wanted: a way to a node, for the visitor it has verified
    monitor <--ToMonitor----  daemon    found: with a descriptor that leads there, or why not

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


class Wanted(Message, frozen=True):
    """A node that a visitor wants to get to, and what their certificate says about them."""

    number: int  # of this wish, on this line
    host: str
    port: int
    user: str
    roles: list[str]
    traits: dict[str, list[str]]
    bot_id: str


class Found(Message, frozen=True):
    """The answer to the wish with that number. A descriptor comes along if it is ok."""

    number: int
    ok: bool
    reason: str = ""


class FromMonitor(Message, frozen=True):
    """Exactly one field is set."""

    event: AgentEvent | None = None
    note: str | None = None  # for the log of the daemon
    logged_in: bool | None = None
    outcome: Outcome | None = None
    wanted: Wanted | None = None


class ToMonitor(Message, frozen=True):
    recheck: bool = False
    found: Found | None = None
