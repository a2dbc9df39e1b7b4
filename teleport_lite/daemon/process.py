"""The parts of one daemon: which roles it has, how they are wired, in which order they end.

A daemon ends in two steps: `retire` closes everything but sessions that are relayed by this very
process, if there are any; `close` ends those, too. What is between them is in outlast.py.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from teleport_lite.agent import knowledge as lessons
from teleport_lite.agent.enlist import Enlistment, enlist
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.rotation import in_use, marks_of
from teleport_lite.agent.servers import Servers
from teleport_lite.agent.ways import behind_proxies, find_ways
from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.spool import Spool
from teleport_lite.config.model import Config
from teleport_lite.daemon.agent_role import AgentRole
from teleport_lite.daemon.backlog import Backlog
from teleport_lite.daemon.health import Health, State
from teleport_lite.daemon.proxy_place import names_of
from teleport_lite.errors import Error, Malformed
from teleport_lite.model.host import Resource
from teleport_lite.model.system_role import AUTH, NODE, PROXY
from teleport_lite.net.http import split_address
from teleport_lite.net.listen import own_address
from teleport_lite.plugin.guests import Guests
from teleport_lite.proto.stream import AgentEvent, Knowledge, Routes

if TYPE_CHECKING:  # a node does not pay for the imports of auth, nor the other way round
    from teleport_lite.daemon.auth_role import AuthRole
    from teleport_lite.daemon.node_role import NodeRole
    from teleport_lite.daemon.proxy_role import ProxyRole
    from teleport_lite.daemon.tunnel_role import TunnelRole

log = logging.getLogger("teleport_lite.daemon")


class Process:
    """`open_auth` or `enlist` first, then `serve` in the event loop, `close` at the end."""

    def __init__(self, config: Config, guests: Guests, *, clock: Clock, chance: Chance) -> None:
        self.config, self.guests = config, guests
        self.clock, self.chance = clock, chance
        self.health = Health()
        self.resources: list[Resource] = []
        self.node: NodeRole | None = None
        self.auth: AuthRole | None = None
        self.proxy: ProxyRole | None = None
        self.tunnels: TunnelRole | None = None  # of a node that proxies reach
        self.agent: AgentRole | None = None
        self.identity: Identity | None = None
        self.stop = asyncio.Event()
        self.told_twice = False
        self.exit_code = 0
        self._roles: tuple[str, ...] = ()
        self._behind: tuple[str, ...] = ()  # proxies among the servers below
        self._all_behind = bool(config.proxy_server)  # all of them are
        self._own_auth = ""  # where others reach the auth service of this process
        self._tunnelled = False
        self._servers = Servers((), clock)  # auth or proxies
        self._spool = Spool(config.data_dir, clock)
        self._backlog: Backlog | None = None
        self._looks: asyncio.Task[None] | None = None
        self._retired = False
        self._seen: tuple[int, ...] = ()
        self._marks: dict[str, str] = {}  # of the CAs, as every part of this process knows them

    def open_auth(self, roles: tuple[str, ...]) -> None:
        """Store and CAs are here: this process needs no token."""
        from teleport_lite.daemon.auth_role import AuthRole
        from teleport_lite.daemon.custody import custody_of

        self.auth = AuthRole(
            self.config,
            self.guests.book,
            clock=self.clock,
            chance=self.chance,
            own_uid=os.geteuid(),
            custody=custody_of(self.config, self.guests),
        )
        self.auth.store_watch.tell = self._store_says
        own = own_server(self.config.auth.listen_addr)
        self._roles, self._servers = roles, Servers((own,), self.clock)
        self._own_auth = self.auth.announced
        self._open_proxy()
        self.identity = self.auth.enlist(roles, self.config.nodename, self._principals())

    def enlist(self, roles: tuple[str, ...], pins: tuple[str, ...]) -> None:
        """Join, add a role, or go on with the identity of the last time."""
        config = self.config
        self._roles = roles
        servers = (config.proxy_server,) if config.proxy_server else config.auth_servers
        self._servers = Servers(servers, self.clock)
        self._remember_servers()
        self._open_proxy()
        token = config.token
        self.identity = enlist(
            Enlistment(
                data_dir=config.data_dir,
                roles=roles,
                servers=tuple(self._servers),
                only_proxies=bool(config.proxy_server),
                pins=pins,
                node_name=config.nodename,
                principals=self._principals(),
                token=None if token is None else lambda: token.read(log.warning),
                clock=self.clock,
                say=log.warning,
            )
        )
        log.info("this host is %s of cluster %s", self.identity.host_id, self.identity.cluster)
        self._look_whence()

    def _look_whence(self) -> None:
        """Behind a proxy nobody can be expected to reach us: tunnels, and no listener."""
        assert self.identity is not None
        ways = find_ways(
            self._servers.configured,
            cluster=self.identity.cluster,
            data_dir=self.config.data_dir,
            only_proxies=bool(self.config.proxy_server),
        )
        self._behind = tuple(way.address for way in ways if way.cluster)
        self._all_behind = behind_proxies(ways)
        if not behind_proxies(ways):
            return
        if PROXY in self._roles:
            raise Malformed(
                f"a proxy passes people on to auth, and {self._behind[0]} is a proxy itself",
                hint="--auth-server=HOST:3025, with the address of the auth server",
            )
        self._tunnelled = NODE in self._roles

    def _remember_servers(self) -> None:
        """What auth has told before: one that is configured may be away for good."""
        with suppress(Error):
            known = lessons.load(self.config.data_dir)
            if known is not None:
                self._learn_servers(known)

    def _learn_servers(self, known: Knowledge) -> None:
        """Behind proxies, other proxies lead there, too."""
        proxies = [address for each in known.proxies for address in each.public]
        others = proxies if self._all_behind else known.auths
        self._servers.learn(each for each in others if each != self._own_auth)

    def _open_proxy(self) -> None:
        if PROXY in self._roles and self.proxy is None:  # joining may take several tries
            from teleport_lite.daemon.proxy_role import ProxyRole

            self.proxy = ProxyRole(
                self.config, clock=self.clock, chance=self.chance, auth_addresses=self._servers
            )

    def address(self) -> str:
        """Where our SSH service is reached, "" when this process has none."""
        if NODE not in self._roles or self._tunnelled:
            return ""
        host, port = split_address(self.config.node.listen_addr)
        if self.config.node.public_addrs:
            return self.config.node.public_addrs[0]
        if self.config.advertise_ip:
            host = self.config.advertise_ip
        elif host in ("", "0.0.0.0", "::"):
            host = own_address(self._servers.configured[0]) or "127.0.0.1"
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"{host}:{port}"

    def _principals(self) -> tuple[str, ...]:
        """Names beside its own under which this host may be met: its addresses."""
        found = [split_address(each)[0] for each in self.config.node.public_addrs if ":" in each]
        if NODE in self._roles and not self.config.proxy_server:
            found.append(split_address(self.address())[0])
        if self.proxy is not None:  # ssh checks the jump host by the name it was given
            found += [split_address(self.proxy.place.address)[0], *names_of(self.config)]
        return tuple(dict.fromkeys(name for name in found if ":" not in name))

    async def serve(self) -> None:
        assert self.identity is not None
        loop = asyncio.get_running_loop()
        if self.auth is not None:
            self.auth.on_identity = lambda identity: _later(loop, lambda: self._given(identity))
            await self.auth.serve(self.identity)
            self.health.set("auth", State.OK)
        self.agent = AgentRole(
            self.config,
            self.identity,
            servers=self._servers,
            address=self.address(),
            resources=self.resources,
            clock=self.clock,
            chance=self.chance,
            health=self.health,
            on_change=lambda: _later(loop, self._recheck),
            on_identity=lambda identity: _later(loop, lambda: self._renewed(identity)),
            on_knowledge=lambda knowledge: _later(loop, lambda: self._learn(knowledge)),
            on_routes=lambda routes: _later(loop, lambda: self._hear_routes(routes)),
            tunnels=lambda: self.tunnels.held() if self.tunnels else [],
            sessions=lambda: self.node.sessions() if self.node else [],
            proxy=self.proxy.place if self.proxy else None,
            leaves=self.proxy.leaves if self.proxy else list,
            auth=self._own_auth,
        )
        await self._serve_node()
        if self.proxy is not None:
            self.proxy.ssh.on_leaves = self.agent.nudge
            await self.proxy.serve(self.identity, on_event=self._tell, on_lost=self._proxy_lost)
            self.health.set("proxy", State.OK)
        known = lessons.load(self.config.data_dir)
        if known is not None:  # what auth said last holds until it says something else
            self._learn(known)
        if self._roles != (AUTH,):
            self.agent.start()
            link = self.agent.link
            self._backlog = Backlog(self._spool, link.outbox, lambda: link.flows)
            self._looks = loop.create_task(self._look_for_events(self._backlog, self.agent))

    async def _serve_node(self) -> None:
        if self.node is None:
            return
        await self.node.serve(
            clock=self.clock,
            chance=self.chance,
            on_event=self._tell,
            on_lost=self._node_lost,
            listens=not self._tunnelled,
        )
        self.health.set("node", State.OK)
        if not self._tunnelled:
            log.info("ssh service listens on %s", self.config.node.listen_addr)
            return
        from teleport_lite.daemon.tunnel_role import TunnelRole

        assert self.identity is not None
        self.tunnels = TunnelRole(
            identity=self.identity,
            clock=self.clock,
            chance=self.chance,
            take=self.node.take,
            shared=self._behind,
            on_change=self._tunnels_changed,
            health=self.health,
        )
        await self.tunnels.start()
        log.info("ssh service listens nowhere, proxies reach it by tunnels")

    def told_to_stop(self) -> None:
        """Once is a restart, twice is the end: of relayed sessions, too."""
        self.told_twice = self.stop.is_set()
        self.stop.set()

    @property
    def relayed(self) -> int:
        """Sessions that end with this process: through our proxy, or down a tunnel to us."""
        through = self.proxy.relayed if self.proxy is not None else 0
        return through + (self.tunnels.relayed if self.tunnels is not None else 0)

    async def retire(self) -> None:
        """Everything but `relayed` ends, and everybody is told. Once."""
        if self._retired:
            return
        for role in (self.proxy, self.tunnels):
            if role is not None:
                await role.retire()
        if self.node is not None:
            await self.node.close()
        # After those whose last words go out by it.
        await self._stop_agent()
        if self.auth is not None:
            await self.auth.close()
        self._seen = lessons.mark(self.config.data_dir)

    async def close(self) -> None:
        await self.retire()
        for role in (self.proxy, self.tunnels):
            if role is not None:
                await role.close()

    def look_again(self) -> None:
        """After `retire`: what the next daemon has heard from auth about locks and roles."""
        mark = lessons.mark(self.config.data_dir)
        if mark == self._seen:
            return
        self._seen = mark
        try:
            known = lessons.load(self.config.data_dir)
        except Error as why:
            log.warning("sessions are not judged anew: %s", why.message)
            return
        if known is not None and self.proxy is not None:
            self.proxy.learn(known)

    async def _stop_agent(self) -> None:
        self._retired = True  # what happens from now on is for the next daemon to tell
        if self._looks is not None:
            self._looks.cancel()
            await asyncio.gather(self._looks, return_exceptions=True)
        if self.agent is not None and self._roles != (AUTH,):
            await asyncio.to_thread(self.agent.stop)
        if self._backlog is not None:
            await asyncio.to_thread(self._backlog.keep)

    def _tell(self, event: AgentEvent) -> None:
        """To auth, or to the next daemon, which tells auth."""
        if self._backlog is None or self.agent is None:
            self._spool.put(event)
        else:
            self._backlog.tell(event)
            self.agent.told(event)

    async def _look_for_events(self, backlog: Backlog, agent: AgentRole) -> None:
        while True:
            try:
                if await asyncio.to_thread(backlog.look):
                    agent.link.wake()
            except Exception:
                log.exception("internal error while looking for events on disk")
            await asyncio.sleep(backlog.pause())

    def _store_says(self, trouble: str) -> None:
        self.health.set("auth", State.DEGRADED if trouble else State.OK, trouble)

    def _node_lost(self) -> None:
        """No connection can be served any more; only a new daemon can start a new zygote."""
        log.error("the ssh service has lost the process that forks sessions, stopping")
        self.health.set("node", State.DEGRADED, "lost its zygote")
        self.exit_code = 1
        self.stop.set()

    def _proxy_lost(self) -> None:
        log.error("the jump host has lost the process that forks connections, stopping")
        self.health.set("proxy", State.DEGRADED, "lost its zygote")
        self.exit_code = 1
        self.stop.set()

    def _recheck(self) -> None:
        if self.node is not None:
            self.node.recheck()

    def _learn(self, knowledge: Knowledge) -> None:
        self._learn_servers(knowledge)
        if self.node is not None:
            self.node.learn(knowledge.proxies)
        if self.tunnels is not None:
            self.tunnels.learn(knowledge.proxies)
        if self.proxy is not None:
            self.proxy.learn(knowledge)
        self._marks = marks_of(knowledge)
        self._caught_up()

    def _caught_up(self) -> None:
        """Every part of this process has heard of it by now."""
        if self.agent is not None and self.identity is not None:
            self.agent.caught_up(in_use(self._marks, self.identity))

    def _hear_routes(self, routes: Routes) -> None:
        if self.proxy is not None:
            self.proxy.routes(routes)

    def _tunnels_changed(self, held: list[str]) -> None:
        log.info("reached through %d %s", len(held), "proxy" if len(held) == 1 else "proxies")
        if self.agent is not None:
            self.agent.nudge()

    def _given(self, identity: Identity) -> None:
        """By the auth role of this process, because the agent could not renew: it was cut off by
        a rotation without an overlap."""
        if self.agent is not None:
            self.agent.link.identity = identity
        self._renewed(identity)

    def _renewed(self, identity: Identity) -> None:
        self.identity = identity
        if self.auth is not None:
            self.auth.show(identity)
        for role in (self.proxy, self.tunnels):
            if role is not None:
                role.renewed(identity)
        self._caught_up()


def own_server(listen_addr: str) -> str:
    """Where this process reaches the auth role in it."""
    host, port = split_address(listen_addr)
    if host in ("", "0.0.0.0", "::"):
        return f"127.0.0.1:{port}"
    return listen_addr


def _later(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and the process with it
        loop.call_soon_threadsafe(call)
