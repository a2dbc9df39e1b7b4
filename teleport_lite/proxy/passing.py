"""Passing connections on unopened: to auth, and to other proxies that are meant.

What goes ahead of the bytes is a PROXY header with the real client's address, signed by this
host (pki/attest.py). The proxy sees nothing but how many bytes there were.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

from teleport_lite.agent.identity import Identity
from teleport_lite.ambient import Clock
from teleport_lite.errors import Error, Unavailable
from teleport_lite.net.head import Seldom
from teleport_lite.net.port import Arrival
from teleport_lite.net.proxy_header import Address, plain_address, write_header
from teleport_lite.net.splice import Moved, connect_one, splice
from teleport_lite.pki.attest import ROOT_TLV, TLV, attest, attested
from teleport_lite.proxy.meter import Meter

log = logging.getLogger("teleport_lite.proxy")

# Streams of agents beat every 5 to 15 s and tunnels every 5, so five minutes of silence is death.
IDLE = 300.0
# When auth or the other proxy has closed, as they do with strangers who say nothing more: what is
# still on its way to the client arrives all the same.
LINGER = 10.0
# Of the way on: to auth or to a proxy of the same cluster.
CONNECT = 5.0
# A client that has waited for so long, and gave up, has met a server that hangs.
SILENT = 2.0
AUTH = "auth"


class Passing:
    def __init__(
        self,
        *,
        identity: Callable[[], Identity],
        host_cas: Callable[[], Sequence[str]],
        clock: Clock,
        meter: Meter,
        idle: float = IDLE,
        linger: float = LINGER,
    ) -> None:
        self._identity, self._host_cas = identity, host_cas
        self._clock, self._meter, self._idle, self._linger = clock, meter, idle, linger
        self._seldom = Seldom(log)
        self._to_auth: set[asyncio.Task[object]] = set()
        self._retired = False
        self.open = self.failed = 0  # for /metrics

    def __len__(self) -> int:
        """Connections to other proxies, which may be tunnels with sessions in them."""
        return self.open - len(self._to_auth)

    def retire(self) -> None:
        """End what leads to auth, also what is only about to: who is there comes again, by the
        next process."""
        self._retired = True
        for task in self._to_auth:
            task.cancel()

    def attested(self, value: bytes, source: Address, target: Address) -> str:
        """For the Port: the UUID of the proxy that vouches for `source`. Raises Denied."""
        me = self._identity()
        return attested(
            value,
            source=source,
            target=target,
            host_cas=self._host_cas(),
            cluster=me.cluster,
            now=self._clock.now(),
        )

    async def on(
        self,
        arrival: Arrival,
        addresses: Sequence[str],
        to: str,
        silent: Callable[[str], None] = lambda _: None,
        *,
        root: str = "",
    ) -> None:
        """Pass it on to the first of `addresses` that answers, until it ends. Never raises.

        `root` is the cluster from whose proxies it has come, and says so to auth.

        `to` is what the audit trail calls the other end, AUTH or the UUID of a proxy. `silent`
        hears of an address that has let us in and then said nothing until the client gave up.
        """
        source, begun = arrival.peer, self._clock.monotonic()
        try:
            address, server = await connect_one(addresses, timeout=CONNECT)
            try:
                if to == AUTH and self._retired:
                    raise Unavailable("this proxy starts anew")
                head = self._header(source, server, root)
            except BaseException:
                server.close()
                raise
            moved = await self._splice(arrival.socket, server, head, to)
        except (Error, OSError) as why:
            self.failed += 1
            self._seldom.warning(to, "a connection to %s can not be passed on: %s", to, why)
            arrival.socket.close()
        except BaseException:
            arrival.socket.close()
            raise
        else:
            if not moved.down and self._clock.monotonic() - begun > SILENT:
                silent(address)
            self._meter.add(source[0], to, moved.up, moved.down)

    async def _splice(
        self, client: socket.socket, server: socket.socket, head: bytes, to: str
    ) -> Moved:
        task = asyncio.current_task()
        assert task is not None
        self.open += 1
        if to == AUTH:
            self._to_auth.add(task)
        try:
            return await splice(client, server, idle=self._idle, linger=self._linger, first=head)
        finally:
            self._to_auth.discard(task)
            self.open -= 1

    def _header(self, source: Address, server: socket.socket, root: str) -> bytes:
        host, port = server.getpeername()[:2]
        target, me = (plain_address(host), port), self._identity()
        word = attest(
            me.tls_cert, me.tls_private, source=source, target=target, now=self._clock.now()
        )
        marks = [(ROOT_TLV, root.encode())] if root else []
        return write_header(source, target, [(TLV, word), *marks])
