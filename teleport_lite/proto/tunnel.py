"""A tunnel, as its two ends see it: words only, no sockets or clocks.

An agent dials a proxy and keeps the connection; whoever wants the agent's host then comes down it.
TLS 1.3 with ALPN `teleport-reversetunnel`, both ends show host certificates; inside, frames of
net/mux_frames.py.

    agent                                            proxy
     | -- CONTROL {"hello": TunnelHello} --------->  |  who is in the certificate, never here
     | <-- CONTROL {"hello": TunnelHello} ---------  |  from now on the tunnel is held
     |     or CONTROL {"going_away": GoingAway}      |  refused: why, and when to come back
     |                                               |
     | <-- SYN 2, Open(service, client) -----------  |  somebody wants the SSH service
     | <== DATA, WIN, FIN of stream 2 ============>  |  their bytes, which the proxy can not read
     | --- RST 2, reason ------------------------->  |  or: not from me
     |                                               |
     | <-- CONTROL {"going_away": GoingAway} ------  |  no new streams; the open ones go on
     | <-- PING, PONG --> and the other way round    |  when nothing else was heard for a while

Only proxies open streams. An agent serves its own SSH listener and nothing else, whatever it is
asked for: no host, port or path travels in these messages at all.
"""

import ipaddress

from teleport_lite.proto.codec import Message, Statement, read
from teleport_lite.proto.stream import Frame

VERSION = 1
# The SSH service of the agent's own host: the only thing there is.
SSH = "ssh"
# In the tunnel of a leaf cluster instead: its auth server, and a node that a line names
# (proto/reach.py). The leaf's proxy leads there, and nowhere else.
AUTH, REACH = "auth", "reach"
# Of JSON in a CONTROL frame; what there is to say comes to 200 bytes.
MAX_CONTROL = 4 * 1024
# Of JSON in a SYN frame.
MAX_OPEN = 1024
# Bytes of UTF-8 in an RST frame, for the log.
MAX_REASON = 256
# Seconds. A proxy that restarts spreads its agents over less; more would be as good as never.
MAX_DELAY = 300.0


class TunnelHello(Statement, frozen=True):
    """Said first, by both ends."""

    version: int
    program: str = ""  # of teleport-lite
    # Of this process (Link has one too): a tunnel of the same process replaces its last one, one
    # of another process is a restart or a clone.
    boot_id: str = ""
    # From a proxy: the UUID of the one that has passed the tunnel on to it, and vouches for where
    # it comes from. The tunnel dies with either of them.
    via: str = ""

    def __post_init__(self) -> None:
        if self.version < 1 or max(map(len, (self.program, self.boot_id, self.via))) > 64:
            raise ValueError("version counts from 1, program, boot_id and via have 64 characters")


class GoingAway(Statement, frozen=True):
    """No new streams in this tunnel. Open ones go on for as long as both ends live."""

    # Seconds. The agent dials again after a random part of it; after all of it if this came
    # before the hello, which is a refusal.
    delay: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.delay <= MAX_DELAY or len(self.reason) > MAX_REASON:
            raise ValueError(f"a delay is at most {MAX_DELAY:.0f} s, a reason {MAX_REASON} long")


class Control(Frame, frozen=True):
    """Says one thing. Who does not know it passes it over."""

    hello: TunnelHello | None = None
    going_away: GoingAway | None = None


class Open(Message, frozen=True):
    """What a new stream is for. The address is the proxy's word, for limits and the audit trail."""

    service: str
    client_ip: str
    client_port: int

    def __post_init__(self) -> None:
        ipaddress.ip_address(self.client_ip)
        if not 0 <= self.client_port <= 65535 or len(self.service) > 32:
            raise ValueError("a port is below 65536, the name of a service short")


def read_control(raw: bytes) -> Control:
    """Raises Malformed."""
    return read(Control, raw, limit=MAX_CONTROL)


def read_open(raw: bytes) -> Open:
    """Raises Malformed."""
    return read(Open, raw, limit=MAX_OPEN)
