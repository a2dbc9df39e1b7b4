"""Becoming, or staying, a member: which of joining, adding a role or going on is needed?"""

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from teleport_lite.agent import identity as identities
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import JoinRequest, Keys, join
from teleport_lite.agent.pending import PendingKeys, PendingRenewal
from teleport_lite.agent.probe import untrusted
from teleport_lite.agent.renew import certificate_refused, way_of
from teleport_lite.agent.rotation import BEHIND, left_behind
from teleport_lite.ambient import Clock
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.secret import Secret

PROBE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Enlistment:
    """What a process wants to be, and what it may show for it."""

    data_dir: Path
    roles: tuple[str, ...]
    servers: tuple[str, ...]  # as written: auth, or proxies
    pins: tuple[str, ...]
    node_name: str
    principals: tuple[str, ...]
    token: Callable[[], Secret] | None  # read only when needed: it may be a file, or stdin
    clock: Clock
    say: Callable[[str], None]
    only_proxies: bool = False  # `servers` were given as proxies, and must be


def enlist(wanted: Enlistment) -> Identity:
    """The identity to run with; saved.

    Raises what `join` raises, and Malformed when a token is needed and none was given.
    """
    current = identities.load(wanted.data_dir)
    if current is None:
        return _join(wanted, wanted.roles, None)
    missing = tuple(role for role in wanted.roles if role not in current.roles)
    refusal = rejected(current, wanted.servers)
    if refusal is not None and wanted.token is None:
        raise Denied(refusal.message, hint=refusal.hint, log=refusal.log)
    if refusal is not None and refusal.log == BEHIND:
        wanted.say(f"{refusal.message}; joining again with the token, under the same UUID")
        return _join_behind(wanted, current)
    if refusal is not None:
        wanted.say(f"{refusal.message}; joining again with the token")
        return _join_again(wanted)
    if missing:
        wanted.say(f"adding {', '.join(missing)} to this host, with the token")
        return _join(wanted, missing, current)
    return current


def _join(wanted: Enlistment, roles: tuple[str, ...], current: Identity | None) -> Identity:
    request, keeper = _request(wanted, roles, current)
    joined = join(request)
    identities.save(wanted.data_dir, joined)
    keeper.drop()
    return joined


def _join_behind(wanted: Enlistment, current: Identity) -> Identity:
    """It was away while the CA was rotated. If auth knows it by other keys than it has, another
    machine has its identity, or it was restored from an old copy: then it is a new host.

    Its keys are those of its certificates, or those of a renewal whose answer it has not seen."""
    roles = tuple(dict.fromkeys((*current.roles, *wanted.roles)))
    request, keeper = _request(wanted, roles, None)
    renewal = PendingRenewal(wanted.data_dir, current)
    asked = renewal.kept()
    try:
        joined = _join_known(request, current, asked)
    except (Conflict, NotFound) as why:
        wanted.say(f"{why.message}; joining as a new host")
        return _join_again(wanted)
    identities.save(wanted.data_dir, joined)
    renewal.drop()
    keeper.drop()
    return joined


def _join_known(request: JoinRequest, current: Identity, asked: Keys | None) -> Identity:
    """Under the keys of `asked` first: auth has them if the host was killed at the wrong moment.
    Raises what `join` raises, and Conflict if auth knows this host by other keys."""
    if asked is not None:
        with suppress(Conflict):
            return join(replace(request, again=_with(current, asked)))
    return join(replace(request, again=current))


def _with(identity: Identity, keys: Keys) -> Identity:
    return replace(
        identity,
        ssh_private=keys.ssh_private,
        ssh_public=keys.ssh_public,
        tls_private=keys.tls_private,
    )


def _join_again(wanted: Enlistment) -> Identity:
    """A rebuilt cluster: the old identity is kept aside only once there is a new one."""
    request, keeper = _request(wanted, wanted.roles, None)
    joined = join(request)
    kept = identities.set_aside(wanted.data_dir)
    identities.save(wanted.data_dir, joined)
    keeper.drop()
    wanted.say(f"joined as a new host, the old identity is kept as {kept}")
    return joined


def _request(
    wanted: Enlistment, roles: tuple[str, ...], current: Identity | None
) -> tuple[JoinRequest, PendingKeys]:
    if wanted.token is None:
        raise Malformed(
            f"a token is needed to join as {', '.join(roles)}, and none was given",
            hint="tctl tokens add, then teleport-lite start --token=...",
        )
    token = wanted.token()
    keeper = PendingKeys(wanted.data_dir, token)
    request = JoinRequest(
        servers=wanted.servers,
        only_proxies=wanted.only_proxies,
        token=token,
        pins=wanted.pins,
        roles=roles,
        node_name=wanted.node_name,
        principals=wanted.principals,
        clock=wanted.clock,
        say=wanted.say,
        keeper=keeper,
        current=current,
    )
    return request, keeper


def rejected(current: Identity, servers: tuple[str, ...]) -> Error | None:
    """Why auth and this identity do not belong together. None if they do, or auth is away."""
    context = client_context(current.tls_cert, current.tls_private, current.host_cas)
    for address in servers:
        try:
            with Connection.tls(way_of(current, address), context, timeout=PROBE_TIMEOUT) as wire:
                wire.ask("/v1/ca")
        except ssl.SSLError as why:
            error = untrusted(address, why)
            behind = left_behind(current, address, timeout=PROBE_TIMEOUT)
            if behind is not None or not isinstance(error, Unavailable):
                return behind or error
        except Unavailable:
            refusal = certificate_refused(current, address, timeout=PROBE_TIMEOUT)
            if refusal is not None and not _answers(current, address):
                return left_behind(current, address, timeout=PROBE_TIMEOUT) or refusal
        except NotFound as why:  # it was removed from the cluster
            return why
        except Error:  # among them a lock, which a new token must not get around
            return None
        else:
            return None
    return None


def _answers(current: Identity, address: str) -> bool:
    """With our certificate, after all? Auth may have come up between the two questions before."""
    context = client_context(current.tls_cert, current.tls_private, current.host_cas)
    try:
        with Connection.tls(way_of(current, address), context, timeout=PROBE_TIMEOUT) as wire:
            wire.ask("/v1/ca")
    except (ssl.SSLError, Unavailable):
        return False
    except Error:
        pass
    return True
