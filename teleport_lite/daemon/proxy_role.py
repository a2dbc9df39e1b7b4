"""The proxy role in this process: its ports, and where everything that arrives is sent.

`_route` is the whole story; docs/proxy.md tells it to operators.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from teleport_lite import __version__
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.servers import Servers, servers_of
from teleport_lite.ambient import Chance, Clock
from teleport_lite.config.address import join_address, split_address
from teleport_lite.config.model import Config
from teleport_lite.config.proxy_service import dns_name
from teleport_lite.daemon.leaf_role import LeafRole
from teleport_lite.daemon.proxy_place import place_of
from teleport_lite.daemon.proxy_releases import LOOK_EVERY, ReleaseDesk, published
from teleport_lite.daemon.proxy_ssh import ProxySsh
from teleport_lite.errors import Denied, Error, Malformed
from teleport_lite.net.listen import listen
from teleport_lite.net.peek import Kind
from teleport_lite.net.port import Arrival, Port
from teleport_lite.net.proxy_header import Address
from teleport_lite.pki.pin import pin_of
from teleport_lite.proto.stream import AgentEvent, Knowledge, ProxyPlace, Routes
from teleport_lite.proxy.auth_door import AuthDoor
from teleport_lite.proxy.certificates import Certificates
from teleport_lite.proxy.errand import Errand, Found, errand
from teleport_lite.proxy.find import Facts
from teleport_lite.proxy.invite_page import InvitePage
from teleport_lite.proxy.meter import CODE, KIND, MINUTE, Meter
from teleport_lite.proxy.passing import AUTH, Passing
from teleport_lite.proxy.plain_http import send_to_https
from teleport_lite.proxy.scripts import Scripts
from teleport_lite.proxy.throttle import Throttle
from teleport_lite.proxy.web import WebPages
from teleport_lite.proxy.web_door import WebDoor, shake_hands

if TYPE_CHECKING:  # its libraries take a quarter of a second, and few need them
    from teleport_lite.net.acme import Acme

log = logging.getLogger("teleport_lite.proxy")


class ProxyRole:
    """Made before the event loop runs; `serve` starts it. Everything but `place` is for the loop.

    `auth_addresses` is how this host itself gets to auth, and where it passes on those who want
    to: auth listens there, and no other proxy. Who answers first gets them.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        chance: Chance,
        auth_addresses: "Sequence[str] | Servers",
    ) -> None:
        self._config, self._auths = config, servers_of(auth_addresses, clock)
        self._clock, self._chance = clock, chance
        self.place = place_of(config, self._auths.configured[0])
        self.certificates = Certificates(config.proxy.https_keypairs, clock)
        self.certificates.load()
        self.meter = Meter()
        self.ssh = ProxySsh(config.data_dir, clock=clock, chance=chance)
        self._built = self._retired = False
        self._acme: Acme | None = None
        self._ports: dict[str, Port] = {}  # by key of the config
        self._chores: list[asyncio.Task[None]] = []
        self._on_event: Callable[[AgentEvent], None] = lambda _: None
        self._others: dict[str, ProxyPlace] = {}
        self._pins: tuple[str, ...] = ()

    async def serve(
        self,
        identity: Identity,
        *,
        on_event: Callable[[AgentEvent], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Raises Unavailable for an address that can not be had.

        `on_lost`: the jump host can serve nobody any more; only a new process can.
        """
        self._on_event = on_event
        self._build(identity, on_lost)
        self.renewed(identity)
        await self.ssh.start()
        await self._web.start()
        await asyncio.to_thread(self._releases.look)
        self._listen()
        self._certify()
        self._every(LOOK_EVERY, self._releases.look, "releases")
        self._every(MINUTE, self._report, "relayed bytes", in_thread=False)
        reload = self._config.proxy.https_keypairs_reload
        if self._config.proxy.https_keypairs and reload is not None:
            self._every(reload.total_seconds(), self.certificates.reload, "web certificates")

    def _build(self, identity: Identity, on_lost: Callable[[], None]) -> None:
        """Every part of the role, wired."""
        self._identity, self._host_cas = identity, identity.host_cas
        clock, self._built = self._clock, True
        self.passing = Passing(
            identity=lambda: self._identity,
            host_cas=lambda: self._host_cas,
            clock=clock,
            meter=self.meter,
        )
        self.ssh.build(identity, on_event=self._on_event, on_lost=on_lost)
        self._auth = AuthDoor(
            self._auths,
            identity=lambda: self._identity,
            host_cas=lambda: self._host_cas,
        )
        self._leaf = LeafRole(
            cluster=identity.cluster,
            data_dir=self._config.data_dir,
            clock=clock,
            chance=self._chance,
            auth=self._auth,
            sessions=self.ssh.sessions,
            to_auth=self._from_root,
        )
        self._releases, throttle = ReleaseDesk(self._config), Throttle(clock)
        self.pages = WebPages(
            facts=self.facts,
            invites=InvitePage(self._auth, throttle, proxy=lambda: self.facts().proxy),
            scripts=Scripts(self._auth, throttle, facts=self.facts),
            downloads=self._releases.downloads,
            source=lambda request: self._web.source_of(request),
            trusted=lambda: self.certificates.trusted,
            trace=lambda: self._chance.token(6),
        )
        self._web = WebDoor(self.pages.application())

    # --- what is told from outside

    def renewed(self, identity: Identity) -> None:
        """This host has a new certificate; the next connections see it."""
        self._identity = identity
        self.certificates.use_own(identity.serve_tls, identity.tls_private)
        self.ssh.renewed(identity)

    def learn(self, known: Knowledge) -> None:
        """CAs, roles, locks or proxies have changed."""
        self._host_cas = tuple(known.host_cas)
        self._pins = _pins(self._host_cas)
        own = self._identity.host_id
        self._others = {each.id: each for each in known.proxies if each.id != own}
        self.ssh.learn(known)
        self._leaf.learn(known)

    def routes(self, routes: Routes) -> None:
        """Nodes have come, changed or gone."""
        self.ssh.hear(routes)

    def facts(self) -> Facts:
        """What is told to everybody who asks."""
        proxy, place = self._config.proxy, self.place
        return Facts(
            cluster=self._identity.cluster,
            version=__version__,
            public=tuple(place.public),
            web_listen=proxy.web_listen_addr,
            ssh_listen=proxy.listen_addr or proxy.web_listen_addr,
            tunnel_listen=proxy.tunnel_listen_addr or proxy.web_listen_addr,
            ssh_public=tuple(place.ssh_public),
            tunnel_public=tuple(place.tunnel_public or place.public),
            ca_pins=self._pins or _pins(self._identity.host_cas),
            channels=proxy.channels,
            published=published(self._config, place),
            releases=self._releases.downloads.known,
        )

    @property
    def serving(self) -> bool:
        """Whether there is something to count."""
        return bool(self._ports)

    @property
    def web_connections(self) -> int:
        return len(self._web)

    def port_counts(self) -> dict[str, dict[str, int]]:
        """How connections ended up, by the name of the port's key."""
        return {name: dict(port.counts) for name, port in self._ports.items()}

    @property
    def relayed(self) -> int:
        """Sessions through here, and connections that may have some in them."""
        return self.ssh.relayed + len(self.passing) if self._built else 0

    def leaves(self) -> list[str]:
        """UUIDs of the leaf clusters that have a tunnel here. From any thread."""
        return self.ssh.leaves.here() if self._built else []

    async def retire(self) -> None:
        """Stop accepting, ask agents to come back later. Sessions that are open go on."""
        await self._stop_serving()
        if self._built:
            await self._leaf.retire()
        await self.ssh.retire()
        if self._built:
            self.passing.retire()

    async def close(self) -> None:
        """Stop accepting, ask agents to come back later, end what is open."""
        await self._stop_serving()
        if self._built:
            await self._leaf.close()
        await self.ssh.close()
        for port in self._ports.values():
            await port.close()
        if self._built:
            self._report()

    async def _stop_serving(self) -> None:
        """Once."""
        for port in self._ports.values():
            port.stop_accepting()
        if self._acme is not None:
            self._acme.stop()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        if self._built and not self._retired:
            self._retired = True
            self._report()
            await self._web.close()
            self._auth.close()
            self._releases.downloads.close()

    # --- ports

    def _listen(self) -> None:
        proxy = self._config.proxy
        if proxy.multiplexed:
            log.debug(
                "Setup Proxy: Reverse tunnel proxy and web proxy listen on the same port, "
                "multiplexing is on."
            )
        ssh_here = proxy.listen_addr in ("", proxy.web_listen_addr)
        every = frozenset(Kind) if ssh_here else frozenset({Kind.TLS, Kind.HTTP})
        web = self._open("web_listen_addr", every, self._route)
        ssh = tunnel = ""
        if not ssh_here:
            ssh = self._open("listen_addr", frozenset({Kind.SSH}), self._route)
        if not proxy.multiplexed:
            tunnel = self._open("tunnel_listen_addr", frozenset({Kind.TLS}), self._route_tunnel)
        proxy = replace(proxy, web_listen_addr=web, listen_addr=ssh, tunnel_listen_addr=tunnel)
        self._config = replace(self._config, proxy=proxy)
        self.place = place_of(self._config, self._auths.configured[0])
        log.info("proxy listens on %s, ssh on %s, tunnels on %s", web, ssh or web, tunnel or web)

    def _certify(self) -> None:
        """Certificates by ACME, if they are wanted."""
        wish = self._config.proxy.acme
        if not wish.enabled:
            return
        from teleport_lite.net.acme import Acme

        names = [dns_name(each) for each in self._config.proxy.public_addrs]
        self._acme = Acme(
            names=list(dict.fromkeys(name for name in names if name)),
            data_dir=self._config.data_dir,
            directory=wish.uri,
            email=wish.email,
            clock=self._clock,
            chance=self._chance,
            on_certificate=self.certificates.use_acme,
        )
        self._acme.start()

    def _open(
        self, key: str, kinds: frozenset[Kind], route: Callable[[Arrival], Awaitable[None]]
    ) -> str:
        """Listen there. Returns the address, with the port that it has become."""
        address: str = getattr(self._config.proxy, key)
        wire = listen(address, f"proxy_service.{key}")
        port = Port(
            route=route,
            kinds=kinds,
            proxy_protocol=self._config.proxy.proxy_protocol,
            attested=self._attested,
        )
        bound = join_address(split_address(address)[0], wire.getsockname()[1])
        port.listen(wire)
        self._ports[key] = port
        return bound

    def _attested(self, value: bytes, source: Address, target: Address) -> str:
        """The proxy that vouches for an address. Raises Denied, also if it is locked."""
        proxy = self.passing.attested(value, source, target)
        if why := self.ssh.refusal(proxy):
            raise Denied(why, log=f"an address signed by proxy {proxy}: {why}")
        return proxy

    async def _route(self, arrival: Arrival) -> None:
        """Where this connection goes. Owns its socket."""
        found = self._errand(arrival)
        match found.errand:
            case Errand.AUTH:
                _check_first_hop(arrival)
                await self.passing.on(arrival, list(self._auths), AUTH, silent=self._auths.failed)
            case Errand.PROXY:
                await self._to_proxy(arrival, found)
            case Errand.TUNNEL:
                await self.ssh.take_tunnel(arrival)
            case Errand.LEAF:
                await self.ssh.take_leaf(arrival)
            case Errand.LEAF_AUTH:
                moved = await self.ssh.take_leaf_auth(arrival, found.cluster)
                self.meter.add(arrival.peer[0], found.cluster, moved.up, moved.down)
            case Errand.GATE:
                await self.ssh.take_gate(arrival)
            case Errand.WEB:
                shown = self.certificates.show(arrival.opening.sni)
                await self._web.serve(arrival.socket, arrival.peer[0], shown.context)
            case Errand.PLAIN:
                await send_to_https(arrival.socket, self.facts().proxy)
            case Errand.ACME:
                await self._answer_authority(arrival)
            case Errand.JUMP:
                self.ssh.take_jump(arrival)

    def _errand(self, arrival: Arrival) -> Found:
        me, leaf = self._identity, self.ssh.leaves.knows
        return errand(arrival.opening, cluster=me.cluster, own_id=me.host_id, leaf=leaf)

    async def _route_tunnel(self, arrival: Arrival) -> None:
        """On a port of their own: tunnels, and agents on their way to auth."""
        found = self._errand(arrival)
        if found.errand not in (Errand.AUTH, Errand.PROXY, Errand.TUNNEL, Errand.LEAF):
            raise Malformed(f"{found.errand} is not served on the tunnel port")
        await self._route(arrival)

    async def _from_root(self, arrival: Arrival, root: str) -> None:
        """Users of a cluster that we trust, on their way to auth, which is told of it."""
        to = self._auths
        await self.passing.on(arrival, list(to), AUTH, silent=to.failed, root=root)

    async def _to_proxy(self, arrival: Arrival, found: Found) -> None:
        _check_first_hop(arrival)
        other = self._others.get(found.proxy)
        if other is None or not other.address:
            raise Malformed(f"proxy {found.proxy[:64]!a} is not known here, or not alive")
        await self.passing.on(arrival, [other.address], found.proxy)

    async def _answer_authority(self, arrival: Arrival) -> None:
        """A handshake is all it wants to see (RFC 8737 §3)."""
        name = arrival.opening.sni
        context = self._acme.responder(name) if self._acme is not None else None
        if context is None:
            raise Malformed(f"no certificate for {name[:64]!a} is being ordered here")
        await shake_hands(arrival.socket, context)

    # --- chores

    def _report(self) -> None:
        """What was passed on since the last time, to the audit trail."""
        now = self._clock.now().timestamp()
        for facts in self.meter.take():
            self._on_event(AgentEvent(kind=KIND, code=CODE, at=now, outcome="ok", facts=facts))

    def _every(
        self, seconds: float, chore: Callable[[], object], name: str, *, in_thread: bool = True
    ) -> None:
        async def run() -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await asyncio.to_thread(chore) if in_thread else chore()
                except Error as why:
                    log.warning("%s: %s", name, why.message)
                except Exception:
                    log.exception("internal error in a chore of the proxy: %s", name)

        self._chores.append(asyncio.get_running_loop().create_task(run(), name=name))


def _check_first_hop(arrival: Arrival) -> None:
    """Two proxies that are set up to lead to each other would pass it round for ever."""
    if arrival.proxy:
        raise Malformed(f"proxy {arrival.proxy} has passed on to us what is not for us")


def _pins(host_cas: Sequence[str]) -> tuple[str, ...]:
    found = []
    for ca in host_cas:
        with suppress(Error):
            found.append(pin_of(ca))
    return tuple(found)
