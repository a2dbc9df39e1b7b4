"""One port for everything: look at the first bytes of each connection, then hand it on.

Nothing is taken off but a PROXY header. Who is slow or silent waits for himself alone: there is
a deadline, and a bound on how many may be waited for. When it is reached the oldest one that
has nothing to say makes way, so that silence never keeps a good client out.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from teleport_lite.errors import Denied, Error, Malformed
from teleport_lite.model.source import source_of
from teleport_lite.net.head import Attested, Seldom, check_attested, peek, ready, take_header
from teleport_lite.net.peek import Kind, Opening, look, read
from teleport_lite.net.proxy_header import Address, ProxyHeader, plain_address
from teleport_lite.pki.attest import TLV

log = logging.getLogger("teleport_lite.port")

# Accepted in one go, before those already here get their turn again.
BURST = 64
# How many of the oldest are looked at when one has to make way.
LOOKED_AT = 16
# Out of descriptors: until the next try.
PAUSE = 0.1
ON, OFF, UNSPECIFIED = "on", "off", "unspecified"
UNASKED_FOR = (
    "%s sent a PROXY header and was turned away; if it is your load balancer set "
    "proxy_service.proxy_protocol: on"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLimits:
    """Of connections that have not yet said what they want. Seconds and counts."""

    deadline: float = 10.0
    pending: int = 1024
    # An IPv4 address or IPv6 /64: a balancer, or an office behind NAT, is one. A quarter of
    # all, so that one alone can not make everybody else's first packet hurry.
    per_source: int = 256


@dataclass(frozen=True, slots=True)
class Arrival:
    """A connection that has said what it wants. Its bytes are all still there."""

    opening: Opening
    peer: Address  # the real client, if a PROXY header we believe names it
    local: Address  # where the client believes it has connected to
    socket: socket.socket  # non-blocking, of no event loop yet
    proxy: str = ""  # UUID of the proxy of this cluster that has passed it on and vouches for peer


@dataclass(slots=True, eq=False)
class _Pending:
    wire: socket.socket
    source: str
    wanted: int = 1
    kept: bool = False  # by the route, for good
    task: "asyncio.Task[None] | None" = None


class Port:
    """Hands arrivals to `route`, each in a task of its own.

    `route` owns the socket from then on; if it raises or is cancelled the socket is closed.
    `proxy_protocol`: "on" requires a header of everybody and believes it. "off" and "unspecified"
    believe only what a proxy of this cluster has signed; "unspecified" tells in the log what to
    do about the others.
    `counts`: accepted, ssh, tls, http (routed); refused, silent, shed, unattested, broken
    (closed by us); relayed (came with a header we believed).
    """

    def __init__(
        self,
        *,
        route: Callable[[Arrival], Awaitable[None]],
        kinds: frozenset[Kind] = frozenset(Kind),
        proxy_protocol: str = UNSPECIFIED,
        attested: Attested | None = None,
        limits: PortLimits | None = None,
    ) -> None:
        if proxy_protocol not in (ON, OFF, UNSPECIFIED):
            raise ValueError(f"proxy_protocol {proxy_protocol} is none we know")
        self._route, self._kinds = route, kinds
        self._mode, self._attested = proxy_protocol, attested
        self._limits = limits or PortLimits()
        self._listeners: list[socket.socket] = []
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._pending: dict[_Pending, None] = {}  # oldest first
        self._by_source: dict[str, dict[_Pending, None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._seldom = Seldom(log)
        self.counts: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        """Connections that have not said yet what they want."""
        return len(self._pending)

    @property
    def routed(self) -> int:
        """Connections whose `route` has not returned yet."""
        return len(self._tasks) - len(self._pending)

    def listen(self, listener: socket.socket) -> None:
        """Accept on a listening TCP socket, which is ours from now on."""
        listener.setblocking(False)
        self._listeners.append(listener)
        self._resume(listener)

    def stop_accepting(self) -> None:
        """And turn away who has not said anything. Those handed on go on."""
        for listener in self._listeners:
            number = listener.fileno()
            if (pause := self._pauses.pop(number, None)) is not None:
                pause.cancel()
            # Before it is closed: uvloop would trip over the next socket of that number.
            asyncio.get_running_loop().remove_reader(number)
            listener.close()
        self._listeners.clear()
        for each in list(self._pending):
            self._turn_away(each)

    async def close(self) -> None:
        """Stop accepting, cancel what was routed, and wait for its end."""
        self.stop_accepting()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- accepting

    def _resume(self, listener: socket.socket) -> None:
        self._pauses.pop(listener.fileno(), None)
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(BURST):
            try:
                wire, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as why:  # out of descriptors: pause instead of spinning
                self._pause(listener, why)
                return
            self.counts["accepted"] += 1
            self._admit(wire, (plain_address(address[0]), address[1]))

    def _pause(self, listener: socket.socket, why: OSError) -> None:
        self._seldom.warning("accept", "can not accept connections: %s", why)
        for each in list(self._pending)[:LOOKED_AT]:  # silence holds descriptors as well
            if not ready(each.wire, each.wanted):
                self._shed(each)
        loop, number = asyncio.get_running_loop(), listener.fileno()
        loop.remove_reader(number)
        self._pauses[number] = loop.call_later(PAUSE, self._resume, listener)

    def _admit(self, wire: socket.socket, peer: Address) -> None:
        wire.setblocking(False)
        # Behind a balancer everybody has its address; the header will tell them apart.
        source = "" if self._mode == ON else source_of(peer[0])
        self._make_room(source)
        pending = _Pending(wire, source)
        self._pending[pending] = None
        self._by_source.setdefault(source, {})[pending] = None
        pending.task = asyncio.get_running_loop().create_task(
            self._serve(pending, peer), name=f"port {peer[0]}"
        )
        self._tasks.add(pending.task)
        pending.task.add_done_callback(lambda task: self._over(pending, task))

    def _over(self, pending: _Pending, task: "asyncio.Task[None]") -> None:
        """Here and not in the task: one that is cancelled before it began runs no line of it."""
        self._tasks.discard(task)
        self._forget(pending)
        if not pending.kept:
            pending.wire.close()

    def _make_room(self, source: str) -> None:
        same = self._by_source.get(source, {})
        if source and len(same) >= self._limits.per_source:
            self._shed_oldest(same)
        if len(self._pending) >= self._limits.pending:
            self._shed_oldest(self._pending)

    def _shed_oldest(self, among: dict[_Pending, None]) -> None:
        """If all those looked at have just said something, nobody: they are gone in a moment."""
        for each, _ in zip(among, range(LOOKED_AT), strict=False):
            if not ready(each.wire, each.wanted):
                self._shed(each)
                return

    def _shed(self, pending: _Pending) -> None:
        self.counts["shed"] += 1
        self._turn_away(pending)

    def _turn_away(self, pending: _Pending) -> None:
        self._forget(pending)
        if pending.task is not None:
            pending.task.cancel()

    def _forget(self, pending: _Pending) -> None:
        self._pending.pop(pending, None)
        same = self._by_source.get(pending.source, {})
        same.pop(pending, None)
        if not same:
            self._by_source.pop(pending.source, None)

    # --- one connection

    async def _serve(self, pending: _Pending, peer: Address) -> None:
        try:
            pending.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(self._limits.deadline):
                arrival = await self._arrive(pending, peer)
            self._forget(pending)
            self.counts[arrival.opening.kind] += 1
            await self._route(arrival)
            pending.kept = True
        except TimeoutError:
            self._count(pending, "silent")
        except (Error, OSError) as why:
            self._count(pending, "refused" if isinstance(why, Malformed) else "broken")
            log.debug("connection from %s: %s", peer[0], why)
        except Exception:
            log.exception("internal error in a connection from %s", peer[0])

    def _count(self, pending: _Pending, how: str) -> None:
        """Only what ends here: once handed on, a failure is the route's."""
        if pending in self._pending:
            self.counts[how] += 1

    async def _arrive(self, pending: _Pending, peer: Address) -> Arrival:
        wire = pending.wire
        local = wire.getsockname()
        local = (plain_address(local[0]), local[1])
        header, proxy = await take_header(wire), ""
        if header is not None:
            proxy = self._vouched(header, peer)
            peer, local = header.source or peer, header.target or local
            self._move(pending, source_of(peer[0]))
        elif self._mode == ON:
            raise Malformed("there is no PROXY header, and this port wants one")
        return Arrival(await self._opening(pending), peer, local, wire, proxy)

    async def _opening(self, pending: _Pending) -> Opening:
        """Raises Malformed as soon as it is clear that it can not become one."""
        while True:
            head = await peek(pending.wire, pending.wanted)
            found = read(head)
            if isinstance(found, Opening):
                break
            if len(head) < pending.wanted:
                look(head, final=True)
            pending.wanted = found
        if found.kind not in self._kinds:
            raise Malformed(f"this port does not speak {found.kind.upper()}")
        return found

    def _vouched(self, header: ProxyHeader, peer: Address) -> str:
        """Who vouches for a header that is believed. Raises Denied for one that is not."""
        try:
            _, proxy = check_attested(header, self._attested)
        except Denied as why:
            if self._mode != ON:
                self._tell(header, peer, why)
                raise
            proxy = ""
        self.counts["relayed"] += 1
        return proxy

    def _tell(self, header: ProxyHeader, peer: Address, why: Denied) -> None:
        self.counts["unattested"] += 1
        if header.tlv(TLV) is not None:
            self._seldom.warning(
                "signature", "%s relays a connection: %s: %s", peer[0], why.message, why.log
            )
        elif self._mode == UNSPECIFIED:
            self._seldom.warning("header", UNASKED_FOR, peer[0])

    def _move(self, pending: _Pending, source: str) -> None:
        """Count it for whom it really is, and make it the youngest of those."""
        if pending not in self._pending:
            return
        self._forget(pending)
        self._make_room(source)
        pending.source = source
        self._pending[pending] = None
        self._by_source.setdefault(source, {})[pending] = None
