"""Asking another auth server of the cluster, in the name of this one."""

import ssl
from collections.abc import Callable
from typing import Any

from teleport_lite.agent.identity import Identity
from teleport_lite.errors import Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context
from teleport_lite.net.way import Way
from teleport_lite.proto.codec import Message

# For somebody who waits for an answer of ours.
TIMEOUT = 5.0


class OtherAuths:
    """From any thread; each question has a connection of its own."""

    def __init__(
        self,
        *,
        identity: Callable[[], Identity | None],
        host_cas: Callable[[], list[str]],
        place: Callable[[str], tuple[str, str]],
    ) -> None:
        """`place` says what an auth server is called and where it listens, by UUID."""
        self._identity, self._host_cas, self._place = identity, host_cas, place

    def ask(self, host_id: str, path: str, message: Message) -> Any:
        """Raises what it answers, NotFound if there is no such auth server, or Unavailable."""
        name, address = self._place(host_id)
        away = f"this is kept by auth server {name} ({address}), which can not be reached now"
        return self.ask_at(address, path, message, away)

    def ask_at(self, address: str, path: str, message: Message, away: str) -> Any:
        """The same where the address is known; `away` is said when it can not be reached."""
        me = self._identity()
        if me is None:
            raise Unavailable(away)
        try:
            context = client_context(me.tls_cert, me.tls_private, self._host_cas())
            wire = Connection.tls(Way(address), context, timeout=TIMEOUT)
        except (Unavailable, ssl.SSLError) as why:
            raise Unavailable(away, hint="tctl get auth_servers", log=str(why)) from why
        with wire:
            return wire.ask(path, message)
