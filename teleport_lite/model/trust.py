"""Clusters that trust each other: a leaf lets users of its root in, by roles of its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from teleport_lite.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleMapping:
    """Who has a role that matches `remote` at the root gets `local` at the leaf. `remote` is a
    name, a glob, or a regular expression from ^ to $; `local` may name its groups: lead-$1."""

    remote: str
    local: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedCluster:
    """At the leaf: the root it has joined."""

    name: str  # of the root
    enabled: bool = True
    proxy: str  # host:port of the root's proxy, as given
    role_map: tuple[RoleMapping, ...] = ()
    host_cas: tuple[str, ...] = ()  # PEM; of the root
    ssh_host_cas: tuple[str, ...] = ()  # OpenSSH lines
    user_cas: tuple[str, ...] = ()
    ssh_user_cas: tuple[str, ...] = ()
    # What a proxy of the leaf shows to a proxy of the root: issued by the root's host CA.
    tls_cert: str = ""
    tls_private: Secret | None = None  # sealed in the store
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCluster:
    """At the root: a leaf that has joined it."""

    name: str
    id: str  # UUID that its proxies' tunnels carry
    host_cas: tuple[str, ...] = ()
    ssh_host_cas: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    created_at: datetime
    last_heartbeat: datetime | None = None


# In the certificate that a leaf shows to its root. It joins nothing and opens nothing there but
# tunnels of its own cluster and the exchange of CAs.
LEAF_ROLE = "RemoteProxy"
# What a person from another cluster is called here has to fit where names of ours do (locks).
MAX_QUALIFIED = 128


def qualified(user: str, cluster: str) -> str:
    """What somebody of another cluster is called here, in the trail and in locks; nobody of
    ours may have a name like that."""
    return f"{user}@{cluster}"


def is_foreign(user: str, clusters: Iterable[str]) -> bool:
    """Would this name of ours be taken for that of somebody from one of `clusters`?"""
    _, at, cluster = user.rpartition("@")
    return bool(at) and cluster.lower() in {each.lower() for each in clusters}


def related(one: str, other: str) -> bool:
    """Is one of two clusters called like the other, or like a part of it? Then web.b.example.com
    could be host web.b of the one, or host web of the other."""
    one, other = one.lower(), other.lower()
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")
