"""Asking auth something in the name of this proxy: its own certificate, one call at a time."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from teleport_lite.agent.identity import Identity
from teleport_lite.agent.servers import Servers, servers_of
from teleport_lite.errors import Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.net.way import Way
from teleport_lite.proto.codec import Message

# Invitations are opened now and then; auth takes half a second of argon2 for each.
THREADS = 4
WAITING = 64
TIMEOUT = 15.0


class AuthDoor:
    """Calls run in threads: a connection to auth blocks."""

    def __init__(
        self,
        servers: "Sequence[str] | Servers",
        *,
        identity: Callable[[], Identity],
        host_cas: Callable[[], Sequence[str]],
    ) -> None:
        """`servers` are auth, and no proxies."""
        self._servers = servers_of(servers)
        self._identity, self._host_cas = identity, host_cas
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ask-auth")
        self._asking, self._closed = 0, False

    async def ask(self, path: str, message: Message) -> Any:
        """Raises what auth said, or Unavailable."""
        if self._closed:
            raise Unavailable("this proxy starts anew", hint="try again in a few seconds")
        if self._asking >= WAITING:
            raise Unavailable("too many people are asking at the same time")
        self._asking += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._ask, path, message)
        finally:
            self._asking -= 1

    def close(self) -> None:
        """Who waits for a thread is cancelled; who comes now is refused."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, path: str, message: Message) -> Any:
        """The first auth server that can be reached answers."""
        me = self._identity()
        causes = []
        timeout = min(TIMEOUT, self._servers.patience)
        for address in self._servers:
            context = client_context(me.tls_cert, me.tls_private, self._host_cas())
            try:
                connection = Connection.tls(Way(address), context, timeout=timeout)
            except (Unavailable, OSError) as why:  # ssl.SSLError is one
                self._servers.failed(address)
                causes.append(f"{address}: {why}")
                continue
            self._servers.worked(address)
            with connection:
                return connection.ask(path, message)
        raise Unavailable("auth can not be reached right now", log="; ".join(causes))
