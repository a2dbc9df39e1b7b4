"""Renewal: new keys, new certificates, no token."""

import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta

from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import Keys, hello_of, identity_of
from teleport_lite.agent.probe import cut_off_at, untrusted
from teleport_lite.agent.rotation import left_behind
from teleport_lite.agent.servers import THE_ONLY_ONE
from teleport_lite.errors import Denied, Error, Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.net.way import Way, introduced
from teleport_lite.proto.codec import MAX_JOIN, read, write
from teleport_lite.proto.join import Renew, Welcome

# Certificates last 30 days; twice a day keeps a host a month away from trouble at any time.
EVERY = timedelta(hours=12)
JITTER = 0.2
PROBE_TIMEOUT = 5.0


def renewal(identity: Identity, keys: Keys, node_name: str) -> Renew:
    return Renew(
        hello=hello_of(
            keys,
            node_name=node_name,
            roles=identity.roles,
            host_id=identity.host_id,
            principals=(),
        )
    )


def renew(
    identity: Identity, servers: Sequence[str], *, node_name: str, keys: Keys | None = None
) -> Identity:
    """Over mTLS, from the first of `servers` that answers, auth or proxy.

    Raises Unavailable, Denied or NotFound.
    """
    keys = keys or Keys.new()
    failures: list[Error] = []
    for address in servers:
        try:
            return _renew_at(identity, address, node_name, keys)
        except Unavailable as why:
            failures.append(why)
    if not failures:
        raise Unavailable("no auth server is configured")
    raise cut_off_at(servers[0], timeout=PROBE_TIMEOUT) or failures[0]


def marks_at(identity: Identity, address: str) -> dict[str, str] | None:
    """By type of CA, where its rotation stands, for who has no stream to hear it from. Auth has to
    prove itself; None if it can not be asked."""
    context = client_context(identity.tls_cert, identity.tls_private, identity.host_cas)
    try:
        with Connection.tls(way_of(identity, address), context, timeout=PROBE_TIMEOUT) as wire:
            return introduced(wire).marks
    except (Error, ssl.SSLError):
        return None


def renew_at(
    identity: Identity, address: str, *, node_name: str, keys: Keys, patience: float
) -> Identity:
    """As `renew`, at one of several. `patience` is in seconds."""
    try:
        return _renew_at(identity, address, node_name, keys, patience)
    except Unavailable as why:
        raise cut_off_at(address, timeout=PROBE_TIMEOUT) or why from why


def _renew_at(
    identity: Identity,
    address: str,
    node_name: str,
    keys: Keys,
    patience: float = THE_ONLY_ONE,
) -> Identity:
    context = client_context(identity.tls_cert, identity.tls_private, identity.host_cas)
    try:
        with Connection.tls(way_of(identity, address), context, timeout=patience) as wire:
            answer = wire.ask("/v1/host/renew", renewal(identity, keys, node_name))
    except ssl.SSLError as why:
        error = untrusted(address, why)
        raise left_behind(identity, address, timeout=PROBE_TIMEOUT) or error from why
    return identity_of(read(Welcome, write(answer), limit=MAX_JOIN), keys)


def way_of(identity: Identity, address: str) -> Way:
    """For a host that has joined: whether auth or a proxy is there need not be known.

    The name in the first packet gets us through a proxy, and auth does not look at it. So an
    address that was auth yesterday may be a proxy today.
    """
    return Way(address, identity.cluster)


def certificate_refused(identity: Identity, address: str, *, timeout: float) -> Denied | None:
    """Is it our certificate that `address` does not want?

    An asyncio server ends such a handshake without saying so. If all is well without the
    certificate, it was the certificate.
    """
    context = client_context(None, None, identity.host_cas)
    try:
        with Connection.tls(way_of(identity, address), context, timeout=timeout) as wire:
            wire.ask("/v1/ca")
    except (Error, ssl.SSLError):
        return None
    return Denied(
        f"{address} does not accept this host's certificate, it may have expired",
        hint="start with a new token to join again: tctl tokens add",
        log="client untrusted",
    )


def due(identity_written: datetime, now: datetime, jitter: float) -> bool:
    """`jitter` in -1..1 spreads a fleet that was started at once."""
    return now - identity_written >= EVERY * (1 + JITTER * jitter)
