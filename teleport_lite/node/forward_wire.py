"""What worker, broker and monitor say to each other about forwarding. Fields of `wire.py`.

    worker --connect, listen, unlisten, agent, x11, over--> broker    a reply to each
    worker <--opened, arrived------------------------------ broker    when it happens; descriptors
    broker --happened-->  monitor                                     for the audit trail

A connection has a number for its whole life: the worker counts those it asks for from 1 up, the
broker those that arrive from -1 down. What clients name are bytes, since paths may be any.
"""

from teleport_lite.proto.codec import Message


class Target(Message, frozen=True):
    """Where to: a path of a unix socket, or a host and a port."""

    host: bytes = b""
    port: int = 0
    path: bytes = b""


class Connect(Message, frozen=True):
    number: int
    target: Target


class Opened(Message, frozen=True):
    """The answer to `connect`: with a descriptor if there is no reason why not."""

    number: int
    reason: str = ""


class Listen(Message, frozen=True):
    """Port 0: any. The reply's data is the port, in decimal."""

    target: Target


class Unlisten(Message, frozen=True):
    target: Target


class Agent(Message, frozen=True):
    """A socket for the client's agent, for the whole connection."""

    channel: int


class X11(Message, frozen=True):
    """A display for the shell on that channel (RFC 4254 §6.3.1)."""

    channel: int
    single: bool
    protocol: bytes
    cookie: bytes
    screen: int


class Arrived(Message, frozen=True):
    """Somebody on the host has connected to something we listen on. With a descriptor."""

    number: int
    kind: str  # "tcp", "unix", "agent" or "x11"
    at: Target = Target()  # as the client has named it, with the port it was given
    host: str = ""  # who it is
    port: int = 0


class Over(Message, frozen=True):
    """A connection has ended, or the client did not want it. Bytes are the client's view."""

    number: int
    sent: int = 0
    received: int = 0
    reason: str = ""


class Happened(Message, frozen=True):
    """For the trail. `what` is a key of `forward_story.EVENTS`."""

    what: str
    facts: dict[str, str] = {}
