"""People (and bots) of the cluster, and the roles that say what they may do."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One side of a role: what it allows, or what it denies."""

    logins: tuple[str, ...] = ()  # may hold {{internal.logins}}
    node_labels: LabelPatterns = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    max_session_ttl: timedelta = MAX_SESSION_TTL
    port_forwarding: bool = True
    forward_agent: bool = False
    x11_forwarding: bool = False
    file_copy: bool = True
    pin_source_ip: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """kind: role. A deny anywhere wins over every allow."""

    name: str
    allow: Condition = Condition()
    deny: Condition = Condition()
    options: Options = Options()
    preset: bool = False
