"""From the name of a node to bytes that go there: find, decide, then its tunnel or its address.

Read `Reach.connect` first. It refuses before it dials, and everything it refuses says why to
those who may know.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from teleport_lite.access.verdict import Refused
from teleport_lite.errors import Denied, Malformed, NotFound, Unavailable
from teleport_lite.model.host import Presence
from teleport_lite.model.names import LOGIN
from teleport_lite.net.http import split_address
from teleport_lite.proto.reach import ReachAnswer, ReachRequest
from teleport_lite.proto.resource import moment
from teleport_lite.proto.stream import Knowledge, ProxyPlace, Route
from teleport_lite.proxy.access import Caller, Judge
from teleport_lite.proxy.dial import PATIENCE, Names, dial
from teleport_lite.proxy.paused import paused
from teleport_lite.proxy.routes import RouteTable

# What people write for "its SSH service": nothing, OpenSSH's default and Teleport's.
_SSH_PORTS = frozenset({0, 22, 3022})
# Auth tells of new nodes once a second; who has just seen one join may ask for it before that.
_NEWS = 2.0
# Auth thinks it is gone; auth may be wrong, but nobody shall wait long for that.
_PATIENCE_OFFLINE = 3.0
_SHOWN = 5

Client = tuple[str, int]


class Tunnel(Protocol):
    """As much of proxy/tunnels.py as is needed here."""

    def open(self, client: Client) -> asyncio.Transport:
        """A stream to the SSH service. Raises Unavailable if the tunnel is going away."""


class Tunnels(Protocol):
    def get(self, host_id: str) -> Tunnel | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A connection to the SSH service of a node. The transport is paused until it is relayed."""

    transport: asyncio.Transport
    route: Route
    via: str  # "tunnel" or "direct"
    by: str  # the role that says so
    first: bytes = b""  # said by the node already
    leaf: str = ""  # the cluster of the node, if it is not ours


class Leaves(Protocol):
    """proxy/leaves.py, likewise."""

    def knows(self, cluster: str) -> bool: ...
    def labels(self, cluster: str) -> dict[str, str]: ...
    def of(self, host: str) -> str: ...
    async def reach(
        self, request: ReachRequest, client: Client
    ) -> tuple[asyncio.Transport, ReachAnswer, bytes]: ...


class Reach:
    """The way to every node, for callers whose certificate has been verified."""

    def __init__(
        self,
        *,
        routes: RouteTable,
        judge: Judge,
        tunnels: Tunnels,
        cluster: str,
        host_id: str = "",
        gone_since: Callable[[str], datetime | None] = lambda _host_id: None,
        news: float = _NEWS,
        leaves: Leaves | None = None,
    ) -> None:
        """`host_id` is our own; `gone_since` says when we lost the tunnel of a node; `news` is how
        long a node that is not there is waited for, in seconds."""
        self._routes, self._judge, self._tunnels = routes, judge, tunnels
        self._cluster, self._host_id, self._gone_since = cluster, host_id, gone_since
        self._news, self._leaves = news, leaves
        self._proxies: dict[str, ProxyPlace] = {}
        self._host_names = Names()

    def learn(self, known: Knowledge) -> None:
        self._proxies = {place.id: place for place in known.proxies}

    async def connect(self, request: ReachRequest, caller: Caller, client: Client) -> Reached:
        """The SSH service of the node that is meant. `client` is where the caller comes from.

        Raises NotFound for what is not there and for what the caller may not know of, alike;
        Conflict for a name with several nodes; Denied; Unavailable; Malformed.
        """
        if self._leaves is not None and self._leaves.knows(request.cluster):
            return await self._to_leaf(self._leaves, request, caller, client)
        route, by = await self._patiently(request, caller)
        tunnel = self._tunnels.get(route.id)
        if tunnel is not None:
            return Reached(transport=tunnel.open(client), route=route, via="tunnel", by=by)
        if not route.address:
            raise self._no_tunnel(route)
        return await self._direct(route, by)

    def decide(self, request: ReachRequest, caller: Caller) -> tuple[Route, str]:
        """The node, and the role that allows it. Nothing is dialled."""
        welcome = self._judge.welcome(caller)
        if isinstance(welcome, Refused):
            raise Denied(welcome.reason)
        if not self._is_ours(request):
            raise NotFound(
                f"cluster {request.cluster[:64]!a} is not known here, this is {self._cluster}",
                hint="tsh clusters",
            )
        if request.login and not LOGIN.fullmatch(request.login):
            raise Malformed(f"login {request.login[:64]!a} is not one")
        route = self._routes.find(request.host, lambda each: self._judge.may_see(caller, each))
        verdict = self._judge.may_reach(caller, route, request.login)
        if isinstance(verdict, Refused):
            raise Denied(f"{route.name}: {verdict.reason}", hint="tsh ls")
        if request.port not in _SSH_PORTS | {_port(route)}:
            raise Denied(
                f"port {request.port} of {route.name} can not be reached, only its SSH service",
                hint=f"leave out the port, or take {_port(route) or 22}",
            )
        return route, verdict.by

    async def _patiently(self, request: ReachRequest, caller: Caller) -> tuple[Route, str]:
        """As `decide`, but what is not there may be in the next word from auth."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            try:
                return self.decide(request, caller)
            except NotFound:
                if self._leaves is not None and (leaf := self._leaves.of(request.host)):
                    raise _by_tsh(leaf, request.host.removesuffix(f".{leaf}")) from None
                left = begun + self._news - loop.time()
                if not self._is_ours(request) or not await self._routes.changed(left):
                    raise

    async def _to_leaf(
        self, leaves: Leaves, request: ReachRequest, caller: Caller, client: Client
    ) -> Reached:
        """The leaf decides. What we know is whether the caller may go on at all."""
        welcome = self._judge.welcome(caller)
        if isinstance(welcome, Refused):
            raise Denied(welcome.reason)
        if caller.cluster:
            raise Denied(f"users of {caller.cluster} can not go on to {request.cluster} from here")
        verdict = self._judge.may_go_on(caller, leaves.labels(request.cluster))
        if isinstance(verdict, Refused):
            raise Denied(f"cluster {request.cluster}: {verdict.reason}", hint="tsh clusters")
        if not request.proof:
            raise _by_tsh(request.cluster, request.host)
        if request.login and not LOGIN.fullmatch(request.login):
            raise Malformed(f"login {request.login[:64]!a} is not one")
        stream, answer, first = await leaves.reach(request, client)
        return Reached(
            transport=stream,
            route=Route(id=answer.host_id, name=answer.host_name),
            via="leaf",
            by=f"cluster {request.cluster}",
            first=first,
            leaf=request.cluster,
        )

    def _is_ours(self, request: ReachRequest) -> bool:
        return request.cluster.lower() in ("", self._cluster.lower())

    async def _direct(self, route: Route, by: str) -> Reached:
        offline = route.state == Presence.OFFLINE
        try:
            sock, first = await dial(
                route.address,
                patience=_PATIENCE_OFFLINE if offline else PATIENCE,
                names=self._host_names,
            )
        except Unavailable as why:
            seen = f", it was last seen {route.last_seen}" if route.last_seen else ""
            raise Unavailable(
                f"node {route.name} can not be reached: {why.message}{seen if offline else ''}",
                hint=f"tctl nodes ls --search={route.name}",
            ) from why
        transport, more = await paused(sock)
        return Reached(transport=transport, route=route, via="direct", by=by, first=first + more)

    def _no_tunnel(self, route: Route) -> Unavailable:
        others = [each for each in route.tunnels if each != self._host_id]
        since = self._gone_since(route.id)
        gone = f", the last one ended {moment(since)}" if since else ""
        what = f"node {route.name} has no tunnel to this proxy{gone}"
        if route.state == Presence.OFFLINE or not others:
            seen = f", last seen {route.last_seen}" if route.last_seen else ""
            held = f"; its tunnels were held by {self._names(others)}" if others else ""
            state = f"it is {route.state}{seen}"
            return Unavailable(
                f"{what}; {state}{held}", hint=f"on {route.name}: systemctl status teleport-lite"
            )
        return Unavailable(
            f"{what}; those that hold one: {self._names(others)}",
            hint="try again in a few seconds, or through one of them",
        )

    def _names(self, proxies: list[str]) -> str:
        """As people know them: name and address, if they are alive."""
        found = []
        for host_id in proxies[:_SHOWN]:
            place = self._proxies.get(host_id)
            where = place and (place.address or ",".join(place.public[:1]))
            found.append(f"{place.name} ({where})" if place and where else host_id)
        more = [f"{len(proxies) - _SHOWN} more"] if len(proxies) > _SHOWN else []
        return ", ".join(found + more)


def _by_tsh(cluster: str, host: str) -> Denied:
    return Denied(
        f"nodes of cluster {cluster} are reached by tsh, which proves there who you are",
        hint=f"tsh ssh --cluster={cluster} {host[:64]}",
    )


def _port(route: Route) -> int:
    """What the node says its port is; 0 if it says nothing that could be one."""
    try:
        return split_address(route.address)[1]
    except ValueError:
        return 0
