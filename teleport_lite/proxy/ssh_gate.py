"""ALPN teleport-proxy-ssh: TLS, one line that says which node, then that node's bytes.

`proto/reach.py` draws the conversation. This is what `tsh proxy ssh` speaks, as the
ProxyCommand of OpenSSH. Inside is SSH, encrypted between the client and the node.
"""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

from teleport_lite.agent.identity import Identity
from teleport_lite.ambient import Clock
from teleport_lite.errors import Error, Unauthenticated
from teleport_lite.model.source import source_of
from teleport_lite.net.ssh_listen import KEEPALIVE
from teleport_lite.net.tls import server_context
from teleport_lite.pki.verify import peer_identity
from teleport_lite.proto.alpn import SSH
from teleport_lite.proto.ca_digest import digest_of
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.reach import MAX_REQUEST, ReachAnswer, ReachRequest
from teleport_lite.proto.stream import Knowledge
from teleport_lite.proxy.access import Caller
from teleport_lite.proxy.line import Line
from teleport_lite.proxy.reach import Client
from teleport_lite.proxy.sessions import Session, Sessions

_log = logging.getLogger("teleport_lite.proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds, and how many may be at the door, not yet known by a certificate and a line."""

    handshake: float = 10.0
    line: float = 10.0
    goodbye: float = 5.0  # for a refusal to be read
    waiting: int = 1024
    waiting_per_source: int = 128


class SshGate:
    """Serves connections whose first packet asked for it. `show` first."""

    def __init__(
        self, *, sessions: Sessions, clock: Clock, cluster: str, limits: Limits | None = None
    ) -> None:
        self._sessions, self._clock, self._cluster = sessions, clock, cluster
        self._limits = limits or Limits()
        self._identity: Identity | None = None
        self._user_cas: tuple[str, ...] = ()
        self._cas = ""
        self._context: Any = None  # of ssl, which is not ours to import
        self._waiting: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.turned_away = 0  # for /metrics: too many at the door

    def show(self, identity: Identity) -> None:
        """The certificate that clients see, from now on."""
        self._identity = identity
        self._user_cas = self._user_cas or identity.user_cas
        self._renew_context()

    def learn(self, known: Knowledge) -> None:
        """CAs may have changed."""
        self._cas = digest_of(known.host_cas, known.ssh_host_cas)
        if tuple(known.user_cas) != self._user_cas:
            self._user_cas = tuple(known.user_cas)
            self._renew_context()

    async def serve(self, sock: Any, client: Client) -> None:
        """A TCP connection of which nothing has been read, from `client`. Owns the socket and
        returns when it is over; raises nothing but CancelledError."""
        task = asyncio.current_task()
        assert task is not None
        source = source_of(client[0])
        if self._context is None or self._full(source):
            self.turned_away += 1
            sock.close()
            return
        self._tasks.add(task)
        self._waiting[source] += 1
        door = _Door(source, self._waiting)
        try:
            await self._serve(sock, client, door)
        finally:
            door.leave()
            self._tasks.discard(task)

    def _full(self, source: str) -> bool:
        limits, waiting = self._limits, self._waiting
        return waiting.total() >= limits.waiting or waiting[source] >= limits.waiting_per_source

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, sock: Any, client: Client, door: "_Door") -> None:
        conversation = Line()
        try:
            transport = await self._shake_hands(sock, conversation)
        except (OSError, TimeoutError) as why:  # ssl.SSLError is an OSError
            _log.debug("TLS handshake with %s failed: %s", client[0], why)
            sock.close()
            return
        try:
            await self._talk(transport, conversation, client, door)
        except (EOFError, OSError):
            pass  # they have gone
        finally:
            _drop(transport)

    async def _shake_hands(self, sock: Any, conversation: Line) -> asyncio.Transport:
        sock.setblocking(False)
        for option in KEEPALIVE:  # a client that is cut off without a word
            sock.setsockopt(*option)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: conversation,
            sock,
            ssl=self._context,
            ssl_handshake_timeout=self._limits.handshake,
            ssl_shutdown_timeout=self._limits.goodbye,
        )
        return transport

    async def _talk(
        self,
        transport: asyncio.Transport,
        conversation: Line,
        client: Client,
        door: "_Door",
    ) -> None:
        try:
            user_cas, caller = self._user_cas, self._identify(transport)
            async with asyncio.timeout(self._limits.line):
                line = await conversation.line
            if self._user_cas is not user_cas:  # a CA may have been retired meanwhile
                caller = self._identify(transport)
            request = read(ReachRequest, line, limit=MAX_REQUEST)
            door.leave()
            session = await self._sessions.open(request, caller, client)
        except TimeoutError:
            return
        except Error as why:
            _log.debug("refused %s: %s", client[0], why.log or why.message)
            await self._refuse(transport, conversation, why)
            return
        await self._carry(transport, conversation, session)

    def _identify(self, transport: asyncio.Transport) -> Caller:
        """Raises Unauthenticated or Denied. The handshake has proved who has the key."""
        tls = transport.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True)
        if shown is None:
            raise Unauthenticated("a user certificate is needed to reach nodes", hint="tsh login")
        peer = peer_identity(shown, host_cas=(), user_cas=self._user_cas, now=self._clock.now())
        if peer.cluster != self._cluster:
            raise Unauthenticated(f"the certificate is for cluster {peer.cluster}")
        return Caller.of(peer)

    async def _carry(
        self, transport: asyncio.Transport, conversation: Line, session: Session
    ) -> None:
        route = session.reached.route
        if conversation.gone:
            session.abandon()
            return
        answer = ReachAnswer(
            ok=True,
            host_id=route.id,
            host_name=route.name,
            cas="" if session.reached.leaf else self._cas,
        )
        transport.write(write(answer) + b"\n")
        await session.carry(transport, conversation.rest)

    async def _refuse(self, transport: asyncio.Transport, conversation: Line, why: Error) -> None:
        answer = ReachAnswer(ok=False, code=why.code, message=why.message, hint=why.hint)
        transport.write(write(answer) + b"\n")
        transport.close()
        await asyncio.wait([conversation.over], timeout=self._limits.goodbye)

    def _renew_context(self) -> None:
        """Open connections keep theirs. No certificate is no failed handshake: people who are
        logged out shall read a sentence, not an alert."""
        if self._identity is None:
            return
        mine = self._identity
        context = server_context(mine.serve_tls, mine.tls_private, self._user_cas)
        context.set_alpn_protocols([SSH])
        self._context = context


class _Door:
    """One that waits at the door, until it is known."""

    def __init__(self, source: str, waiting: Counter[str]) -> None:
        self._source, self._waiting, self._left = source, waiting, False

    def leave(self) -> None:
        if self._left:
            return
        self._left = True
        self._waiting[self._source] -= 1
        if self._waiting[self._source] <= 0:
            del self._waiting[self._source]


def _drop(transport: asyncio.Transport) -> None:
    # Python 3.11.2 (Debian 12): a TLS transport that has ended raises it.
    try:
        transport.abort()
    except AttributeError:
        return
