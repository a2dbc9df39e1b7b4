"""The tunnels that hosts hold to this proxy, by host.

Who a host is, only its certificate says. A host has one tunnel here; when it brings another:

- from the same process, or the old one is silent: the new one takes over, open sessions of the
  old one go on;
- from another process: the newest wins and the old one is cut. A machine that lost its power
  comes back like this long before its old connection is known to be dead;
- from a process that was here before and has been taken over: that is no restart. Two machines
  use one identity and would throw each other out for ever, so the one that came back is sent
  away, and the log and the counters say so.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from teleport_lite import __version__
from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.model.system_role import AUTH, BOT, PROXY
from teleport_lite.model.trust import LEAF_ROLE
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_heart import Heart
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.net.mux_tls import Context
from teleport_lite.net.tunnel_wire import accept
from teleport_lite.pki.verify import Peer, peer_identity
from teleport_lite.proto.stream import Knowledge
from teleport_lite.proto.tunnel import (
    MAX_REASON,
    VERSION,
    Control,
    GoingAway,
    Open,
    TunnelHello,
)
from teleport_lite.proxy.tunnel import Counters, Tunnel

log = logging.getLogger("teleport_lite.tunnel")

# Connections that have not said who they are. Each is given ten seconds; the oldest makes way.
MAX_ARRIVING = 4096
# Seconds until somebody who was refused may try again: locks and removals last.
REFUSED_DELAY = 60.0
# Processes of a host that are remembered, to tell a restart from a clone.
MEMORY = 4
# Seconds. Certificates are looked at this often, beside every change of locks.
TIDY = 60.0
# Seconds after a CA was retired. A host has renewed long before, and brings a tunnel that shows it
# within `RETURN`; its old one is left to the sessions in it. From `NO_MORE` on nobody is sent down
# a tunnel that was made with the old certificate. Who has brought no other by `LAST` was left
# behind by the rotation, and is cut.
RETURN, NO_MORE, LAST = 2.0, 5.0, 30.0
# Roles that have nothing to be reached through a tunnel.
_NOTHING_BEHIND = {AUTH, PROXY, BOT, LEAF_ROLE}
_ROTATED = "the CA of its certificate was rotated away"


@dataclass(slots=True)
class Arriving:
    mux: Mux
    address: tuple[str, int]
    via: str = ""
    peer: Peer | None = None
    host_cas: tuple[str, ...] = ()  # that its certificate was held against


class Tunnels:
    """Runs in the loop it is used in. It is the `Owner` of all its muxes."""

    def __init__(
        self,
        *,
        cluster: str,
        host_cas: Sequence[str],
        clock: Clock,
        chance: Chance,
        refuse: Callable[[Peer], str] = lambda _: "",
        on_change: Callable[[str, bool], None] = lambda _id, _up: None,
        heart: Heart | None = None,
    ) -> None:
        """`refuse` says why a host may have no tunnel (locked, removed), "" if it may.

        `on_change` is told a host's UUID and whether it is there now.
        """
        self._cluster, self._host_cas = cluster, tuple(host_cas)
        self._clock, self._chance = clock, chance
        self._refuse, self._on_change = refuse, on_change
        self._heart = heart or Heart()
        self._boot_id = chance.token(8)
        self._arriving: dict[Mux, Arriving] = {}  # oldest first
        self._tunnels: dict[Mux, Tunnel] = {}  # all of them, also those that only end
        self._by_host: dict[str, Tunnel] = {}
        self._seen: dict[str, deque[str]] = {}  # processes of hosts that changed theirs
        self._said: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closing: GoingAway | None = None
        self._empty = asyncio.Event()
        self.counters = Counters()

    def __len__(self) -> int:
        """Hosts that can be reached."""
        return len(self._by_host)

    @property
    def count(self) -> int:
        return len(self._by_host)

    @property
    def streams(self) -> int:
        """Open now."""
        return sum(len(mux) for mux in self._tunnels)

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes to hosts and from hosts, ever."""
        return (
            self.counters.up + sum(mux.sent for mux in self._tunnels),
            self.counters.down + sum(mux.received for mux in self._tunnels),
        )

    def get(self, host_id: str) -> Tunnel | None:
        """The way to a host, None if there is none (any more)."""
        tunnel = self._by_host.get(host_id)
        return tunnel if tunnel is not None and tunnel.alive else None

    def all(self) -> list[Tunnel]:
        """One for each host that can be reached."""
        return list(self._by_host.values())

    async def accept(
        self, wire: socket.socket, peer: tuple[str, int], context: Context, *, via: str = ""
    ) -> None:
        """Take a connection meant to be a tunnel; `context` is `tunnel_wire.proxy_context`, `via`
        the proxy that has passed it on to us.

        Returns as soon as it is under way: it has ten seconds to say who it is. Never raises.
        """
        if self._timer is None:
            self._tidy()
        while len(self._arriving) >= MAX_ARRIVING:
            oldest = next(iter(self._arriving))
            del self._arriving[oldest]
            oldest.die("too many at once")
        try:
            mux = await accept(wire, context, owner=self, heart=self._heart)
        except Unavailable as why:
            log.debug("%s", why.message)
            return
        if mux.alive:
            arriving = self._arriving.setdefault(mux, Arriving(mux, peer))
            arriving.address, arriving.via = peer, via

    def cut(self, host_id: str, why: str) -> int:
        """End all tunnels of a host, with what is in them. Returns how many there were."""
        found = [mux for mux, tunnel in self._tunnels.items() if tunnel.host_id == host_id]
        for mux in found:
            self._send_away(mux, why)
        return len(found)

    def recheck(self, knowledge: Knowledge | None = None) -> None:
        """Locks, hosts or CAs have changed: every tunnel is judged again."""
        if knowledge is not None and tuple(knowledge.host_cas) != self._host_cas:
            self._host_cas = tuple(knowledge.host_cas)
            self._look_for_outdated()
        now = self._clock.now()
        for mux, tunnel in list(self._tunnels.items()):
            why = self._refuse(tunnel.peer)
            if why:
                self.counters.refused += 1
                self._send_away(mux, why)
            elif now >= tunnel.peer.not_after and not tunnel.going:
                # Its host has a new certificate by now. Sessions are checked by themselves.
                self._ask_to_return(mux, tunnel, GoingAway(reason="the certificate has expired"))

    def retire(self, delay: float = 0.0) -> None:
        """Ask everybody to come back within `delay` seconds. Open sessions go on, and each tunnel
        ends with its last one."""
        if self._closing is not None:
            return
        self._closing = GoingAway(delay=delay, reason="the proxy stops")
        for arriving in list(self._arriving):
            arriving.die("the proxy stops")
        for mux, tunnel in list(self._tunnels.items()):
            self._ask_to_return(mux, tunnel, self._closing)
            mux.retire()

    async def close(self, delay: float = 0.0, *, drain: float = 0.0) -> None:
        """Ask everybody to come back within `delay` seconds, and end.

        Sessions are given `drain` seconds; no new ones are opened.
        """
        self.retire(delay)
        if self._timer is not None:
            self._timer.cancel()
        try:
            async with asyncio.timeout(drain):
                while self._tunnels:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for mux in list(self._tunnels):
                mux.close("the proxy stops")
        # The last words need a turn of the loop.
        for _ in range(3):
            await asyncio.sleep(0)

    # --- what muxes tell (net/mux.Owner)

    def secured(self, mux: Mux) -> None:
        arriving = self._arriving.get(mux)
        if arriving is None:  # the first packet can be read before `accept` has returned
            name = mux.fact("peername", None) or ("", 0)
            arriving = self._arriving[mux] = Arriving(mux, name[:2])
        self._know(mux, arriving)

    def told(self, mux: Mux, word: Control) -> None:
        tunnel = self._tunnels.get(mux)
        if word.hello is not None:
            arriving = self._arriving.pop(mux, None)
            if arriving is None or arriving.peer is None:
                raise Malformed("a hello from nobody")
            if arriving.host_cas is not self._host_cas:  # a CA was retired between the two
                self._know(mux, arriving)
            self._admit(arriving, arriving.peer, word.hello)
        elif tunnel is not None:  # the host says goodbye; open sessions go on
            tunnel.retire()
            self._leave(tunnel)

    def opened(self, mux: Mux, stream: MuxStream, hello: Open) -> None:
        """A host can not ask us to reach anything."""
        tunnel = self._tunnels[mux]
        self.counters.violations += 1
        self._say("host %s asked its proxy for service %a", tunnel.host_id, hello.service)
        stream.abort("only proxies open streams")

    def ended(self, mux: Mux, why: str) -> None:
        self._arriving.pop(mux, None)
        tunnel = self._tunnels.pop(mux, None)
        if tunnel is not None:
            self.counters.lost += 1
            self.counters.up += mux.sent
            self.counters.down += mux.received
            log.info("tunnel of host %s has ended: %s", tunnel.host_id, why)
            self._leave(tunnel)
        if not self._tunnels:
            self._empty.set()

    # --- admission

    def _know(self, mux: Mux, arriving: Arriving) -> None:
        """Raises Denied, and has told the host."""
        arriving.host_cas = self._host_cas
        try:
            arriving.peer = self._who(mux)
        except Denied as why:
            self.counters.refused += 1
            self._say("tunnel from %s refused: %s", arriving.address[0], why.log or why.message)
            mux.say(_away(REFUSED_DELAY, why.message))
            raise

    def _who(self, mux: Mux) -> Peer:
        peer = peer_identity(
            mux.tls.certificate, host_cas=self._host_cas, user_cas=(), now=self._clock.now()
        )
        if peer.kind != "host" or peer.cluster != self._cluster:
            raise Denied("only hosts of this cluster have tunnels", log=f"{peer.kind} {peer.name}")
        if not set(peer.roles) - _NOTHING_BEHIND:
            raise Denied("this host has nothing to reach", log=f"roles {peer.roles}")
        if why := self._refuse(peer):
            raise Denied(why, log=f"host {peer.name}: {why}")
        return peer

    def _admit(self, arriving: Arriving, peer: Peer, hello: TunnelHello) -> None:
        mux, address = arriving.mux, arriving.address
        if self._closing is not None:
            mux.say(Control(going_away=self._closing))
            raise Unavailable(self._closing.reason)
        old = self._by_host.get(peer.name)
        if old is not None:
            self._take_over(mux, old, hello)
        tunnel = Tunnel(mux, peer, address, hello, since=self._clock.now(), counters=self.counters)
        self._tunnels[mux] = self._by_host[peer.name] = tunnel
        self.counters.accepted += 1
        mux.say(Control(hello=self._hello(arriving.via)))
        log.info("host %s has a tunnel from %s", peer.name, address[0])
        if old is None:
            self._on_change(peer.name, True)

    def _hello(self, via: str) -> TunnelHello:
        return TunnelHello(version=VERSION, program=__version__, boot_id=self._boot_id, via=via)

    def _take_over(self, mux: Mux, old: Tunnel, hello: TunnelHello) -> None:
        """Raises Denied for the clone that comes back. Who shows a certificate of a retired CA is
        nobody's clone, and keeps nobody out."""
        patience = 1.5 * self._heart.pace.interval + 1
        is_outdated = old.outdated_at is not None
        if hello.boot_id == old.boot_id or not old.alive or old.silent() > patience or is_outdated:
            self.counters.replaced += 1
            old.retire()
            return
        before = self._seen.setdefault(old.host_id, deque(maxlen=MEMORY))
        if hello.boot_id in before:
            self.counters.clones += 1
            why = "another machine uses the identity of this host"
            self._say("two machines use the identity of host %s", old.host_id)
            mux.say(_away(REFUSED_DELAY, why))
            raise Denied(why)
        before.append(old.boot_id)
        self.counters.replaced += 1
        old.close("the host has brought another tunnel")

    def _leave(self, tunnel: Tunnel) -> None:
        if self._by_host.get(tunnel.host_id) is tunnel:
            del self._by_host[tunnel.host_id]
            self._on_change(tunnel.host_id, False)

    # --- the end of tunnels

    def _look_for_outdated(self) -> None:
        """Tunnels of a CA that was rotated away. Sessions in them are not for us to end."""
        if self._closing is not None:  # their hosts come to the next process
            return
        now, outdated = self._clock.monotonic(), False
        for mux, tunnel in list(self._tunnels.items()):
            if self._is_trusted(mux, tunnel):
                tunnel.outdated_at = None
                continue
            outdated = True
            if tunnel.outdated_at is None:
                tunnel.outdated_at = now
                if not tunnel.going:
                    self._ask_to_return(mux, tunnel, GoingAway(delay=RETURN, reason=_ROTATED))
        if outdated:
            loop = asyncio.get_running_loop()
            for seconds in (NO_MORE, LAST):
                loop.call_later(seconds, self._part_from_outdated)

    def _is_trusted(self, mux: Mux, tunnel: Tunnel) -> bool:
        """By its CA alone: that it has expired since is another matter."""
        now = min(self._clock.now(), tunnel.peer.not_after)
        try:
            peer_identity(mux.tls.certificate, host_cas=self._host_cas, user_cas=(), now=now)
        except Denied:
            return False
        return True

    def _part_from_outdated(self) -> None:
        if self._closing is not None:
            return
        now = self._clock.monotonic()
        # By process, too: an old key may have passed for a host that has renewed.
        renewed = {
            (each.host_id, each.boot_id)
            for each in self._tunnels.values()
            if each.outdated_at is None
        }
        for mux, tunnel in list(self._tunnels.items()):
            if tunnel.outdated_at is None:
                continue
            is_behind = (tunnel.host_id, tunnel.boot_id) not in renewed
            if now - tunnel.outdated_at >= LAST and is_behind:
                self.counters.refused += 1
                self._send_away(mux, f"{_ROTATED}, and this host has not renewed")
            elif now - tunnel.outdated_at >= NO_MORE:
                self._leave(tunnel)

    def _send_away(self, mux: Mux, why: str) -> None:
        mux.say(_away(REFUSED_DELAY, why))
        mux.close(why)

    def _ask_to_return(self, mux: Mux, tunnel: Tunnel, word: GoingAway) -> None:
        tunnel.going = True
        mux.say(Control(going_away=word))

    def _tidy(self) -> None:
        self.recheck()
        self._seen = {id: seen for id, seen in self._seen.items() if id in self._by_host}
        self._timer = asyncio.get_running_loop().call_later(TIDY, self._tidy)

    def _say(self, text: str, *values: object) -> None:
        """One line a second of each kind: strangers must not fill our disk."""
        now = self._clock.monotonic()
        if now - self._said.get(text, -1.0) >= 1.0:
            self._said[text] = now
            log.warning(text, *values)


def _away(delay: float, reason: str) -> Control:
    return Control(going_away=GoingAway(delay=delay, reason=reason[:MAX_REASON]))
