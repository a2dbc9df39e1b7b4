"""Hosts: machines that have joined, and what they last told us."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

# Agents beat every 5 to 15 s; silence for longer than two of the longest pauses is no accident.
BEAT_EVERY = timedelta(seconds=10)
STALE_AFTER = timedelta(seconds=33)
# A stream that says nothing for this long is gone for certain.
OFFLINE_AFTER = timedelta(minutes=2)


# In place of a token's id: this host was let in by being the auth host.
LOCAL = "local"


class Presence(StrEnum):
    ONLINE = "online"
    STALE = "stale"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One machine of the cluster, identified by the UUID that auth gave it."""

    id: str
    name: str
    roles: tuple[str, ...]
    joined_at: datetime
    token_id: str  # JoinToken.id, or LOCAL for the auth host's own roles
    ssh_key: str  # public key, OpenSSH format
    tls_key: str  # public key, PEM SubjectPublicKeyInfo
    principals: tuple[str, ...] = ()  # extra ones asked for and allowed at the join


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something a host serves: a node, an app, a database."""

    kind: str
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    spec: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a proxy is reached; each address is host:port."""

    address: str = ""  # of this proxy and no other, where tunnels arrive; "" if it has none
    public: tuple[str, ...] = ()  # web; the same for all behind a balancer
    tunnel_public: tuple[str, ...] = ()
    ssh_public: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A session that is open on a host, as other auth servers need to know it."""

    sid: str
    user: str
    login: str
    started: float  # Unix seconds, by the host's clock
    addr: str
    command: str = ""
    recorded: bool = False
    parties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a host last told us about itself."""

    version: str = ""
    address: str = ""  # where its SSH service can be reached; "" behind a tunnel
    labels: dict[str, str] = field(default_factory=dict)
    resources: tuple[Resource, ...] = ()
    last_seen: datetime | None = None
    skew: float = 0.0  # seconds the host's clock is ahead of ours
    gone: bool = False  # it said goodbye, or was shown the door
    tunnels: tuple[str, ...] = ()  # UUIDs of the proxies that hold a tunnel of it
    proxy: Place | None = None  # if it is a proxy
    auth: str = ""  # host:port of its auth service, if it has one
    # By type of CA, the mark (model/rotation.py) it has caught up with.
    rotated: dict[str, str] = field(default_factory=dict)
    # Another life of this cluster (model/life.py) that told it while ours went on, and when.
    other_life: str = ""
    other_at: datetime | None = None
    # The rest is for other auth servers, and only there are several.
    via: str = ""  # UUID of the auth server that has its stream; "" if none has
    boot_id: str = ""  # of the process that opened the stream
    arrived: datetime | None = None  # when the stream was opened, by auth's clock
    sessions: tuple[OpenSession, ...] = ()  # that are open on it


def presence(report: Report, now: datetime) -> Presence:
    """Online while it beats, stale after missed beats, offline after a goodbye or two minutes.

    A host that was seen in the future was seen before somebody put the clock back.
    """
    if report.last_seen is None or report.gone or abs(now - report.last_seen) > OFFLINE_AFTER:
        return Presence.OFFLINE
    return Presence.STALE if now - report.last_seen > STALE_AFTER else Presence.ONLINE
