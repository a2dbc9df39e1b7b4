"""The jump host: `ssh -J alice@proxy:3023 root@web-1` with nothing but OpenSSH.

Strangers are met by processes of the node package's kind in its other mode (node/jump.py); here
arrive the wishes of those who have shown a good certificate. A wish becomes a session as one of
`SshGate` does, and the answer is one end of a socketpair, whose other end is relayed.
"""

import asyncio
import logging
import socket
from collections.abc import Callable

from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import Error
from teleport_lite.net.ssh_limits import Limits
from teleport_lite.net.ssh_listen import Counters, Forks, SshListener, Wish
from teleport_lite.proto.reach import ReachRequest
from teleport_lite.proto.stream import AgentEvent
from teleport_lite.proxy.access import Caller
from teleport_lite.proxy.paused import paused
from teleport_lite.proxy.sessions import Session, Sessions

# Before a refusal is told: else somebody with a certificate could fill the trail with them.
_PACE = 0.2

_log = logging.getLogger("teleport_lite.proxy")
Address = tuple[str, int]


class JumpHost:
    """Give it connections that begin with "SSH-". Runs in the event loop it is started in."""

    def __init__(
        self,
        *,
        zygote: Forks,
        sessions: Sessions,
        clock: Clock,
        chance: Chance,
        on_event: Callable[[AgentEvent], None],
        on_lost: Callable[[], None] = lambda: None,
        limits: Limits | None = None,
    ) -> None:
        """`zygote` was started with Settings(jump=True). `on_lost`: it has ended, and nobody
        can be served any more."""
        self._sessions = sessions
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = SshListener(
            sockets=[],
            zygote=zygote,
            on_event=on_event,
            clock=clock,
            chance=chance,
            on_lost=on_lost,
            on_wish=self._wish,
            limits=limits,
        )

    @property
    def counters(self) -> Counters:
        return self._listener.counters

    async def start(self) -> None:
        await self._listener.start()

    def take(self, sock: socket.socket, peer: Address, local: Address) -> None:
        """A connection of which nothing has been read. Owns the socket. `peer` is the client."""
        self._listener.take(sock, peer=peer, local=local)

    def recheck(self) -> None:
        """Locks have changed; `Sessions.recheck` is for the ways that are open."""
        self._listener.recheck()

    def retire(self) -> None:
        """Take no more connections, and let the zygote end. Open ways go on; the monitors of
        their connections keep their lines to us."""
        self._listener.retire()

    async def close(self) -> None:
        """Ends all connections: their ways lead through this process."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.close()

    def _wish(self, wish: Wish) -> None:
        task = asyncio.get_running_loop().create_task(
            self._serve(wish), name=f"way for {wish.wanted.user}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, wish: Wish) -> None:
        wanted = wish.wanted
        caller = Caller(
            user=wanted.user,
            roles=tuple(wanted.roles),
            traits={name: tuple(values) for name, values in wanted.traits.items()},
            bot_id=wanted.bot_id,
            cluster=wanted.cluster,
        )
        try:
            request = ReachRequest(host=wanted.host, port=wanted.port)
            session = await self._sessions.open(request, caller, wish.client)
        except Error as why:
            await asyncio.sleep(_PACE)
            wish.refuse(f"{why.message} ({why.hint})" if why.hint else why.message)
            return
        except Exception:
            _log.exception("internal error on the way to a node")
            wish.refuse("internal error")
            return
        try:
            await self._carry(wish, session)
        finally:
            session.abandon()  # where it was not carried to its end

    async def _carry(self, wish: Wish, session: Session) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as why:
            wish.refuse(f"this proxy can not serve more connections: {why.strerror}")
            return
        with theirs:
            ours.setblocking(False)
            left, _ = await paused(ours)
            granted = wish.grant(theirs)
        if granted:
            await session.carry(left)
        else:
            left.abort()
