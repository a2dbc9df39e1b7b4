"""How people get to nodes through the proxy of this process: tunnels, routes, gate, jump host."""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from teleport_lite.access.decide import locked
from teleport_lite.access.verdict import Refused
from teleport_lite.agent.identity import Identity
from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import Error
from teleport_lite.model.lock import Lock
from teleport_lite.net.port import Arrival
from teleport_lite.net.relay import Held, relay
from teleport_lite.net.splice import Moved
from teleport_lite.net.tunnel_wire import proxy_context
from teleport_lite.node import landlock, zygote
from teleport_lite.node.settings import Settings
from teleport_lite.proto.resource import lock_from_doc
from teleport_lite.proto.stream import AgentEvent, Knowledge, Routes
from teleport_lite.proto.tunnel import AUTH
from teleport_lite.proxy.access import Judge
from teleport_lite.proxy.jump import JumpHost
from teleport_lite.proxy.leaves import Leaves
from teleport_lite.proxy.passing import IDLE
from teleport_lite.proxy.reach import Reach
from teleport_lite.proxy.routes import RouteTable
from teleport_lite.proxy.sessions import Sessions
from teleport_lite.proxy.ssh_gate import SshGate
from teleport_lite.proxy.tunnels import Tunnels

log = logging.getLogger("teleport_lite.proxy")

# Agents that lose their tunnel by our end come back within so many seconds, not all at once.
RETURN = 5.0
# Hosts whose tunnel is gone, for the words of a refusal, and hosts that were removed; the oldest
# is forgotten.
MOST_GONE = 4096
_REMOVED = "this host is not part of the cluster any more"


def _look_at_system() -> None:
    """Better said than found out: whose users the processes of strangers can not have."""
    if os.geteuid() != 0 and not landlock.version():
        log.warning(
            "this kernel has no Landlock and the proxy is not root: a flaw in the jump host would "
            "open its files, keys among them (docs/systemd.md)"
        )


class ProxySsh:
    """Starts processes when it is made, as a node does; `build` and `start` need the loop."""

    def __init__(self, data_dir: Path, *, clock: Clock, chance: Chance) -> None:
        self._data_dir, self._clock, self._chance = data_dir, clock, chance
        _look_at_system()
        self.zygote = zygote.start(Settings(data_dir=data_dir, jump=True))
        self._built = self._retired = False
        # A leaf has come or gone, which auth should know.
        self.on_leaves: Callable[[], None] = lambda: None
        self._locks: list[Lock] = []
        self._gone: OrderedDict[str, datetime] = OrderedDict()
        self._removed: OrderedDict[str, datetime] = OrderedDict()

    def build(
        self,
        identity: Identity,
        *,
        on_event: Callable[[AgentEvent], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._built = True
        cluster, clock = identity.cluster, self._clock
        self._host_cas = identity.host_cas
        self.judge = Judge(clock)
        self._take_hosts(identity)
        self.routes = RouteTable(self._data_dir, clock=clock, cluster=cluster)
        self.reach = Reach(
            routes=self.routes,
            judge=self.judge,
            tunnels=self.tunnels,
            cluster=cluster,
            host_id=identity.host_id,
            gone_since=self._gone.get,
            leaves=self.leaves,
        )
        self.sessions = Sessions(reach=self.reach, judge=self.judge, clock=clock, on_event=on_event)
        self.gate = SshGate(sessions=self.sessions, clock=clock, cluster=cluster)
        self.jump = JumpHost(
            zygote=self.zygote,
            sessions=self.sessions,
            clock=clock,
            chance=self._chance,
            on_event=on_event,
            on_lost=on_lost,
        )

    def _take_hosts(self, identity: Identity) -> None:
        """The tunnels of hosts, and of leaves."""
        cluster, clock, chance = identity.cluster, self._clock, self._chance
        self.tunnels = Tunnels(
            cluster=cluster,
            host_cas=identity.host_cas,
            clock=clock,
            chance=chance,
            refuse=lambda peer: self.refusal(peer.name),
            on_change=self._changed,
        )
        self.leaves = Leaves(
            cluster=cluster,
            host_cas=identity.host_cas,
            clock=clock,
            chance=chance,
            refuse=self.refusal,
            on_change=lambda: self.on_leaves(),
        )

    async def start(self) -> None:
        await self.jump.start()

    def renewed(self, identity: Identity) -> None:
        """This host has a new certificate; the next connections see it."""
        self._identity = identity
        self._show()

    def learn(self, known: Knowledge) -> None:
        """CAs, roles, locks or proxies have changed."""
        if tuple(known.host_cas) != self._host_cas:
            self._host_cas = tuple(known.host_cas)
            self._show()
        self._locks = _readable(known)
        self.judge.learn(known)
        self.reach.learn(known)
        self.gate.learn(known)
        self.tunnels.recheck(known)
        self.leaves.learn(known)
        self.sessions.recheck()
        self.jump.recheck()

    def refusal(self, host_id: str) -> str:
        """Why this host is not to be dealt with, whatever its certificate says; "" if it is."""
        if host_id in self._removed:
            return _REMOVED
        verdict = locked(self._locks, self._clock.now(), node=host_id)
        return verdict.reason if isinstance(verdict, Refused) else ""

    def hear(self, routes: Routes) -> None:
        """Nodes have come, changed or gone. Certificates of those that were removed are good for
        a while longer, so their tunnels are ended here."""
        self.routes.apply(routes)
        for route in routes.hosts:
            self._removed.pop(route.id, None)
        for host_id in routes.gone:
            self._remember(self._removed, host_id)
            self.tunnels.cut(host_id, _REMOVED)

    async def take_tunnel(self, arrival: Arrival) -> None:
        via = arrival.proxy
        await self.tunnels.accept(arrival.socket, arrival.peer, self._context, via=via)

    async def take_leaf(self, arrival: Arrival) -> None:
        """The tunnel of a leaf cluster."""
        via = arrival.proxy
        await self.leaves.accept(arrival.socket, arrival.peer, self._context, via=via)

    async def take_leaf_auth(self, arrival: Arrival, cluster: str) -> Moved:
        """Somebody on the way to the auth server of a leaf; not opened. Raises NotFound or
        Unavailable before the socket is ours."""
        with self.leaves.stranger(cluster, arrival.peer[0]):
            stream = self.leaves.open(cluster, AUTH, arrival.peer)
            try:
                loop = asyncio.get_running_loop()
                near, _ = await loop.connect_accepted_socket(Held, arrival.socket)
            except BaseException:
                stream.abort()
                raise
            return await relay(near, stream, idle=IDLE)

    async def take_gate(self, arrival: Arrival) -> None:
        await self.gate.serve(arrival.socket, arrival.peer)

    def take_jump(self, arrival: Arrival) -> None:
        self.jump.take(arrival.socket, arrival.peer, arrival.local)

    @property
    def relayed(self) -> int:
        """Sessions that end with this process."""
        return len(self.sessions) if self._built else 0

    async def retire(self) -> None:
        """Nothing new; tunnels are asked to come back in a moment. Open sessions go on."""
        if self._built:
            self._retired = True
            self.sessions.retire()
            self.jump.retire()
            self.tunnels.retire(RETURN)
            self.leaves.retire(RETURN)
            await self.routes.close()
        self.zygote.close()

    async def close(self) -> None:
        """Sessions end, tunnels are asked to come back in a moment. Also if nothing was built."""
        if self._built:
            await self._close()
        self.zygote.close()

    async def _close(self) -> None:
        await self.sessions.close()
        await self.gate.close()
        await self.jump.close()
        await self.tunnels.close(RETURN)
        await self.leaves.close(RETURN)
        if not self._retired:
            await self.routes.close()

    def _show(self) -> None:
        me = self._identity
        self._context = proxy_context(me.serve_tls, me.tls_private, self._host_cas)
        self.gate.show(me)

    def _changed(self, host_id: str, up: bool) -> None:
        self._gone.pop(host_id, None)
        if not up:
            self._remember(self._gone, host_id)

    def _remember(self, where: OrderedDict[str, datetime], host_id: str) -> None:
        where[host_id] = self._clock.now()
        if len(where) > MOST_GONE:
            where.popitem(last=False)


def _readable(known: Knowledge) -> list[Lock]:
    """One that can not be read refuses all sessions (`Judge`); tunnels are only the way there."""
    found = []
    for doc in known.locks:
        try:
            found.append(lock_from_doc(doc))
        except Error as why:
            log.warning("a lock can not be read: %s", why.message)
    return found
