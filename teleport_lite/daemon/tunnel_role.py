"""The tunnels of this host to every live proxy, and what comes down them.

Runs in the daemon's event loop. The proxies are not believed: whatever one asks for, it gets the
SSH service of this host or nothing.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from teleport_lite import __version__
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.rotation import SPREAD, same_signer
from teleport_lite.agent.tunnels import Attempt, Dial, Tunnelling
from teleport_lite.ambient import Chance, Clock
from teleport_lite.daemon.health import Health, State
from teleport_lite.daemon.tunnel_line import Line
from teleport_lite.errors import Denied, Error, Unavailable
from teleport_lite.model.system_role import PROXY
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_heart import Heart, Pace
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.net.relay import Held, relay
from teleport_lite.net.tunnel_wire import NOBODY, agent_context, dial
from teleport_lite.pki.verify import peer_identity
from teleport_lite.proto.alpn import TUNNEL
from teleport_lite.proto.stream import ProxyPlace
from teleport_lite.proto.tunnel import SSH, VERSION, Control, GoingAway, Open, TunnelHello

log = logging.getLogger("teleport_lite.tunnel")

Address = tuple[str, int]
# Seconds for the last words when this process stops.
GOODBYE = 1.0
# The first failure of a proxy in a row is told, then every so many.
TELL_EVERY = 20
FORGOTTEN = "auth knows this proxy no more"


@dataclass(slots=True)
class Counters:
    """For /metrics; they only grow."""

    connected: int = 0
    failed: int = 0
    lost: int = 0
    streams: int = 0
    violations: int = 0  # streams that a proxy asked for and may not have


class TunnelRole:
    """`start` it in the loop, `learn` the proxies, `close` it."""

    def __init__(
        self,
        *,
        identity: Identity,
        clock: Clock,
        chance: Chance,
        take: Callable[[socket.socket, Address, Address], None],
        shared: Sequence[str] = (),
        on_change: Callable[[list[str]], None] = lambda _: None,
        health: Health | None = None,
        pace: Pace | None = None,
    ) -> None:
        """`take(socket, peer, local)` is our SSH listener's door. `shared` are addresses of
        proxies that the agent was configured with. `on_change` is told what `held` says."""
        self._clock, self._take, self._on_change = clock, take, on_change
        self._health, self._heart = health, Heart(pace)
        self._boot_id = chance.token(8)
        self._plan = Tunnelling(chance=chance, shared=shared, me=identity.host_id)
        self._lines: dict[str, Line] = {}  # the tunnel that is in use, by proxy
        self._all: set[Line] = set()  # also those that only end
        self._coming: set[Line] = set()  # from the certificates to the proxy's word
        self._failed: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions: set[asyncio.Task[None]] = set()  # of those
        self._wake = asyncio.Event()
        self._told: list[str] = []
        self._closing = False
        self.counters = Counters()
        self.identity = identity
        self._show_certificate()

    async def start(self) -> None:
        """Nothing, for one that was closed before it came to that."""
        if self._closing:
            return
        self._spawn(self._run(), "tunnels")
        self._show()

    def learn(self, proxies: Sequence[ProxyPlace]) -> None:
        """The proxies that are alive, as auth says. In the loop's thread, like all the rest."""
        self._plan.learn(proxies, self._clock.monotonic())
        self._wake.set()
        self._show()

    def renewed(self, identity: Identity) -> None:
        """New tunnels show the new certificate; when it is of another CA, all become new ones."""
        before, self.identity = self.identity, identity
        self._show_certificate()
        if not same_signer(before, identity):
            self._plan.renewed(SPREAD[1], self._clock.monotonic())
            self._wake.set()

    def _show_certificate(self) -> None:
        me = self.identity
        self._context = agent_context(me.tls_cert, me.tls_private, me.host_cas)
        self._direct = agent_context(me.tls_cert, me.tls_private, me.host_cas, direct=True)

    def held(self) -> list[str]:
        """UUIDs of the proxies through which this host is reached now."""
        return self._plan.held()

    def words(self) -> str:
        """For people: how many of how many."""
        return f"{len(self.held())} of {len(self._plan.known())} proxies"

    @property
    def relayed(self) -> int:
        """Sessions that are in the tunnels now."""
        return len(self._sessions)

    async def retire(self) -> None:
        """Tell the proxies, and dial no more. Open sessions go on, and each tunnel ends with its
        last one."""
        if self._closing:
            return
        self._closing = True
        for line in self._all:
            line.part("the host stops")
        await _cancelled(self._tasks - self._sessions)

    async def close(self) -> None:
        """Tell the proxies, and end all streams."""
        await self.retire()
        for line in self._all:
            line.mux.close("the host stops")
        await _cancelled(self._sessions)
        try:
            async with asyncio.timeout(GOODBYE):
                while self._all:
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            for line in list(self._all):
                line.mux.die("the host stops")

    # --- dialling

    async def _run(self) -> None:
        while True:
            now = self._clock.monotonic()
            for proxy_id in self._plan.given_up(now):
                self._give_up(proxy_id)
            for each in self._plan.due(now):
                self._spawn(self._dial(each), f"tunnel to {each.proxy_id}")
            at = self._plan.next_at()
            self._wake.clear()
            try:
                async with asyncio.timeout(None if at is None else max(0.0, at - now)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _dial(self, asked: Dial) -> None:
        delay = 0.0
        why: Error = Unavailable("it has no address that we know")
        try:
            for attempt in asked.attempts:
                try:
                    refusal = await self._try(asked, attempt)
                except Error as failed:
                    why = failed
                    continue
                if refusal is None:
                    return
                why, delay = Unavailable(ascii(refusal.reason)[1:-1]), refusal.delay
                break
            self._tell_failure(asked, why)
            now, nobody = self._clock.monotonic(), why.log == NOBODY
            self._plan.failed(asked, now, delay=delay, nobody=nobody)
            if asked.proxy_id in self.held() and asked.proxy_id not in self._lines:
                self._lost(asked.proxy_id, "the proxy has ended it")  # for one that never was
        finally:
            self._wake.set()

    async def _try(self, asked: Dial, attempt: Attempt) -> GoingAway | None:
        """None if there is a tunnel now, else what the proxy said. Raises Unavailable."""
        line = Line(self, asked.proxy_id)
        try:
            line.mux = await dial(
                attempt.address,
                self._direct if asked.better else self._context,
                proxy_id=asked.proxy_id,
                timeout=attempt.timeout,
                owner=line,
                heart=self._heart,
            )
        except BaseException:  # in a busy loop it can be late, and the certificates through
            self._coming.discard(line)
            raise
        try:
            word = await line.greeted
        except Error as why:
            raise Unavailable(f"{attempt.address}: {why.message}") from why
        except asyncio.CancelledError:
            line.mux.die("the host stops")
            raise
        finally:
            self._coming.discard(line)
        if isinstance(word, GoingAway):
            return word
        if not line.mux.alive:  # its end was told before its word was heard
            raise Unavailable(f"{attempt.address}: it ended at once")
        if asked.proxy_id not in self._plan.known():  # given up meanwhile
            line.part(FORGOTTEN)
            return None
        self._use(line, asked, attempt, ascii(word.via)[1:-1])
        return None

    def _use(self, line: Line, asked: Dial, attempt: Attempt, via: str) -> None:
        """From now on. If there was another tunnel, the proxy ends it with its last session; we
        do not, for one may be on its way to us."""
        self._plan.connected(asked, attempt, self._clock.monotonic(), via=via)
        self._lines[asked.proxy_id] = line
        self._failed.pop(asked.proxy_id, None)
        self.counters.connected += 1
        way = f", by way of proxy {via}" if via else ""
        log.info("tunnel to proxy %s through %s%s", asked.proxy_id, attempt.address, way)
        self._show()
        if line.going is not None:  # said with its hello
            self.line_going(line, line.going)

    def _tell_failure(self, asked: Dial, why: Error) -> None:
        proxy_id = asked.proxy_id
        if asked.better:
            log.debug("no better tunnel to proxy %s: %s", proxy_id, why.message)
            return
        self.counters.failed += 1
        count = self._failed[proxy_id] = self._failed.get(proxy_id, 0) + 1
        if count % TELL_EVERY == 1:
            log.warning("no tunnel to proxy %s: %s", proxy_id, why.message)

    def _give_up(self, proxy_id: str) -> None:
        line = self._lines.pop(proxy_id, None)
        self._failed.pop(proxy_id, None)
        if line is not None:
            line.part(FORGOTTEN)
        self._show()

    # --- what happens to tunnels

    def line_going(self, line: Line, word: GoingAway) -> None:
        """The old one goes on until the proxy ends it: there is no gap while we dial."""
        if self._lines.get(line.proxy_id) is line:
            del self._lines[line.proxy_id]
            log.info("proxy %s asks for another tunnel: %s", line.proxy_id, ascii(word.reason))
            self._plan.going_away(line.proxy_id, word.delay, self._clock.monotonic())
            self._changed()

    def line_ended(self, line: Line, why: str) -> None:
        self._all.discard(line)
        self._coming.discard(line)
        if self._lines.get(line.proxy_id) is line:
            del self._lines[line.proxy_id]
            # If another one is on its way, the proxy has it by now, and its word comes in a moment.
            if all(each.proxy_id != line.proxy_id for each in self._coming):
                self._lost(line.proxy_id, why)
        self._changed()

    def _lost(self, proxy_id: str, why: str) -> None:
        self.counters.lost += 1
        level = logging.DEBUG if self._closing else logging.WARNING
        log.log(level, "tunnel to proxy %s has ended: %s", proxy_id, why)
        self._plan.lost(proxy_id, self._clock.monotonic())
        self._changed()

    def line_comes(self, line: Line) -> None:
        self._coming.add(line)

    def line_began(self, line: Line) -> None:
        self._all.add(line)

    def incoming(self, line: Line, stream: MuxStream, hello: Open) -> None:
        """Somebody comes down a tunnel: to the SSH service, or not at all."""
        if hello.service != SSH:
            self.counters.violations += 1
            log.warning("proxy %s asked for service %a, refused", line.proxy_id, hello.service)
            stream.abort("this host serves ssh and nothing else")
            return
        self.counters.streams += 1
        task = self._spawn(self._serve(stream, hello), f"session from {hello.client_ip}")
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)

    async def _serve(self, stream: MuxStream, hello: Open) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as why:
            log.warning("can not serve a session from a tunnel: %s", why.strerror)
            stream.abort("the host is out of descriptors")
            return
        ours.setblocking(False)
        name = stream.get_extra_info("sockname") or ("", 0)
        try:
            self._take(theirs, (hello.client_ip, hello.client_port), (name[0], name[1]))
        except BaseException:
            theirs.close()
            ours.close()
            stream.abort("the host can not serve it")
            raise
        try:
            near, _ = await asyncio.get_running_loop().connect_accepted_socket(Held, ours)
        except BaseException:
            ours.close()
            stream.abort("the host can not serve it")
            raise
        await relay(stream, near)

    def _changed(self) -> None:
        self._wake.set()
        self._show()

    def _show(self) -> None:
        held = self._plan.held()
        if self._health is not None:
            all_up = held and len(held) == len(self._plan.known())
            self._health.set("tunnels", State.OK if all_up else State.RECOVERING, self.words())
        if held != self._told:
            self._told = held
            self._on_change(held)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("internal error in %s", task.get_name(), exc_info=task.exception())

    @property
    def hello(self) -> Control:
        return Control(
            hello=TunnelHello(version=VERSION, program=__version__, boot_id=self._boot_id)
        )

    def check(self, mux: Mux, proxy_id: str) -> None:
        """Is this really that proxy? TLS has checked its name already. Raises Denied."""
        if mux.tls.alpn != TUNNEL:
            raise Denied("it does not take tunnels")
        me = self.identity
        peer = peer_identity(
            mux.tls.certificate, host_cas=me.host_cas, user_cas=(), now=self._clock.now()
        )
        if peer.name != proxy_id or peer.cluster != me.cluster or PROXY not in peer.roles:
            raise Denied("it is not the proxy that was asked for")


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    waited_for = list(tasks)
    for task in waited_for:
        task.cancel()
    await asyncio.gather(*waited_for, return_exceptions=True)
