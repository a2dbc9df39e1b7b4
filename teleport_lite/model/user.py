"""People (and bots) of the cluster, and the roles that say what they may do."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from teleport_lite.model.labels import LabelPatterns

# 12 h covers a working day; a role may allow up to 30 h (NIST-style daily re-login with slack).
DEFAULT_SESSION_TTL = timedelta(hours=12)
MAX_SESSION_TTL = timedelta(hours=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    name: str
    roles: tuple[str, ...]
    traits: dict[str, tuple[str, ...]] = field(default_factory=dict)  # {"logins": ("root",)}
    created_at: datetime | None = None
    bot: bool = False
    generation: int = 0  # bots: counts renewals, so that a stolen certificate shows itself

    @property
    def logins(self) -> tuple[str, ...]:
        return self.traits.get("logins", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Verbs on kinds of resource: ("token", "create")."""

    resources: tuple[str, ...]
    verbs: tuple[str, ...]


class JoinMode(StrEnum):
    """What somebody who joins a session may do there."""

    OBSERVER = "observer"  # look
    PEER = "peer"  # type, too


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRule:
    """Sessions of users who have one of `roles` may be joined in one of `modes`. "*" is any."""

    name: str
    roles: tuple[str, ...]
    kinds: tuple[str, ...]  # "ssh"
    modes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One side of a role: what it allows, or what it denies."""

    logins: tuple[str, ...] = ()  # may hold {{internal.logins}}
    node_labels: LabelPatterns = field(default_factory=dict)
    cluster_labels: LabelPatterns = field(default_factory=dict)  # of leaf clusters
    rules: tuple[Rule, ...] = ()
    host_groups: tuple[str, ...] = ()  # of accounts that a node makes for its visitors
    host_sudoers: tuple[str, ...] = ()  # their lines in sudoers(5), without the user in front
    join_sessions: tuple[JoinRule, ...] = ()


class RecordMode(StrEnum):
    """What happens to a session that cannot be recorded: it goes on, or it ends."""

    BEST_EFFORT = "best_effort"
    STRICT = "strict"


class HostUserMode(StrEnum):
    """Whether a node makes an account for a login that has none, and what becomes of it."""

    OFF = "off"
    KEEP = "keep"
    DROP = "insecure-drop"  # deleted after the last session; its name may come to another person


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    max_session_ttl: timedelta = MAX_SESSION_TTL
    port_forwarding: bool = True
    local_forwarding: bool = True  # ssh -L, -D and -W; counts only with port_forwarding
    remote_forwarding: bool = True  # ssh -R
    forward_agent: bool = False
    x11_forwarding: bool = False
    file_copy: bool = True
    pin_source_ip: bool = False
    client_idle_timeout: timedelta = timedelta()  # nothing: for ever
    disconnect_expired_cert: bool = False
    max_connections: int = 0  # of one user to one host; 0: as many as the host takes
    max_sessions: int = 0  # on one connection; 0: as many as the host takes
    record_session: RecordMode = RecordMode.BEST_EFFORT
    create_host_user_mode: HostUserMode | None = None  # None: this role does not say
    create_host_user_default_shell: str = ""
    force_command: str = ""  # runs in place of whatever the client asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """kind: role. A deny anywhere wins over every allow."""

    name: str
    allow: Condition = Condition()
    deny: Condition = Condition()
    options: Options = Options()
    preset: bool = False
