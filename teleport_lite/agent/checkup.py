"""The questions of a join, asked one by one without spending anything (`teleport-lite doctor`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from teleport_lite.agent.enlist import rejected
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.probe import Auth, check_clock, find_auth, trusted_cas
from teleport_lite.ambient import Clock
from teleport_lite.errors import Error
from teleport_lite.net.problems import plain
from teleport_lite.pki.verify import check_leaf
from teleport_lite.secret import Secret

# The join itself refuses at two minutes; people should hear of it before.
SKEW_WARNING = 30.0
SERVERS = ("auth server", "proxy")


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    state: str  # "ok", "warn" or "bad"
    words: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"check": self.what, "state": self.state, "message": self.words, "hint": self.hint}


def check_up(
    *,
    servers: Sequence[str],
    pins: tuple[str, ...],
    token: Callable[[], Secret] | None,
    identity: Callable[[], Identity | None],
    clock: Clock,
    only_proxies: bool = False,
) -> list[Finding]:
    """Every finding, in the order a join would meet them. Raises nothing that it can tell.

    `servers` are auth or proxies; with `only_proxies` they must be proxies.
    """
    findings = [_local_identity(identity, clock)]
    for address in servers:
        findings += _server(address, pins, clock, only_proxies)
    if not servers:
        findings.append(
            Finding(
                "auth server", "bad", "none is configured", "--auth-server=HOST or --proxy=HOST"
            )
        )
    findings.append(_token(token))
    known = _known(identity)
    answered = any(each.what.startswith(SERVERS) and each.state == "ok" for each in findings)
    if known is not None and answered:
        findings.append(_membership(known, tuple(servers)))
    return findings


def _known(identity: Callable[[], Identity | None]) -> Identity | None:
    try:
        return identity()
    except Error:
        return None  # _local_identity has told it


def _local_identity(identity: Callable[[], Identity | None], clock: Clock) -> Finding:
    try:
        known = identity()
        if known is None:
            return Finding("identity", "ok", "this host has not joined yet")
        check_leaf(known.tls_cert, known.host_cas, clock.now())
    except Error as why:
        return Finding("identity", "bad", why.message, why.hint)
    roles = ", ".join(known.roles)
    return Finding("identity", "ok", f"{known.host_id} of cluster {known.cluster} ({roles})")


def _server(address: str, pins: tuple[str, ...], clock: Clock, only_proxies: bool) -> list[Finding]:
    try:
        auth = find_auth(address, clock, only_proxies=only_proxies)
    except Error as why:
        what = "proxy" if only_proxies else "auth server"
        return [Finding(f"{what} {address}", "bad", why.message, why.hint)]
    cluster, version = plain(auth.bundle.cluster), plain(auth.bundle.version)
    if auth.way.cluster:
        said = f"leads to auth of cluster {cluster}, version {version}"
    else:
        said = f"answers for cluster {cluster}, version {version}"
    what = "proxy" if auth.way.cluster else "auth server"
    return [Finding(f"{what} {address}", "ok", said), _clock(auth), _pin(auth, pins)]


def _clock(auth: Auth) -> Finding:
    try:
        check_clock(auth)
    except Error as why:
        return Finding("clock", "bad", why.message, why.hint)
    words = f"{abs(auth.skew):.1f} s off the auth server's"
    return Finding("clock", "warn" if abs(auth.skew) > SKEW_WARNING else "ok", words)


def _pin(auth: Auth, pins: tuple[str, ...]) -> Finding:
    if not pins:
        return Finding("CA pin", "warn", "none was given", "--ca-pin (see: tctl status)")
    try:
        trusted_cas(auth, pins)
    except Error as why:
        return Finding("CA pin", "bad", why.message, why.hint)
    return Finding("CA pin", "ok", "matches a CA of the cluster")


def _token(token: Callable[[], Secret] | None) -> Finding:
    if token is None:
        return Finding("token", "ok", "none was given; only a host that has not joined needs one")
    try:
        token()
    except Error as why:
        return Finding("token", "bad", why.message, why.hint)
    return Finding("token", "ok", "can be read; only a join can tell whether auth takes it")


def _membership(known: Identity, servers: tuple[str, ...]) -> Finding:
    try:
        why = rejected(known, servers)
    except Error as broken:
        why = broken
    if why is not None:
        return Finding("membership", "bad", why.message, why.hint)
    return Finding("membership", "ok", "auth and this host's identity fit together")
