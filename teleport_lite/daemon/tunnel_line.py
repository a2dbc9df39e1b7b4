"""One tunnel of this host to a proxy, as the end of the mux that hears what becomes of it."""

import asyncio
from typing import TYPE_CHECKING

from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.proto.tunnel import Control, GoingAway, Open, TunnelHello

if TYPE_CHECKING:
    from teleport_lite.daemon.tunnel_role import TunnelRole


class Line:
    """From the dial on (net/mux.Owner)."""

    __slots__ = ("_role", "going", "greeted", "mux", "proxy_id")

    def __init__(self, role: "TunnelRole", proxy_id: str) -> None:
        self._role, self.proxy_id = role, proxy_id
        self.greeted: asyncio.Future[TunnelHello | GoingAway]
        self.greeted = asyncio.get_running_loop().create_future()
        self.going: GoingAway | None = None  # the proxy wants another one
        self.mux: Mux

    def part(self, reason: str) -> None:
        """Open sessions go on, and it ends with the last one."""
        self.mux.say(Control(going_away=GoingAway(reason=reason)))
        self.mux.retire()

    def secured(self, mux: Mux) -> None:
        self._role.check(mux, self.proxy_id)
        mux.say(self._role.hello)
        self._role.line_comes(self)

    def told(self, mux: Mux, word: Control) -> None:
        if word.hello is not None:
            self._role.line_began(self)
            if not self.greeted.done():
                self.greeted.set_result(word.hello)
        elif word.going_away is None:
            raise Malformed("a word of the proxy that says nothing")
        elif mux.greeted:  # in the same packet, perhaps: before the dial has heard the hello
            self.going = word.going_away
            self._role.line_going(self, word.going_away)
        elif not self.greeted.done():
            self.greeted.set_result(word.going_away)
            mux.close("refused")

    def opened(self, mux: Mux, stream: MuxStream, hello: Open) -> None:  # noqa: ARG002
        self._role.incoming(self, stream, hello)

    def ended(self, mux: Mux, why: str) -> None:  # noqa: ARG002
        if not self.greeted.done():
            self.greeted.set_exception(Unavailable(why))
            self.greeted.exception()  # nobody may wait for it any more
        self._role.line_ended(self, why)
