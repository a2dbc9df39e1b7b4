"""What a tunnel tells, and to whom."""

from typing import TYPE_CHECKING, Protocol

from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.proto.tunnel import Control, Open

if TYPE_CHECKING:
    from teleport_lite.net.mux import Mux


class Owner(Protocol):
    """Who has the tunnel: the registry of a proxy, or the agent. Any of them may raise Error,
    which ends the tunnel and says why."""

    def secured(self, mux: "Mux") -> None:
        """TLS is up; `mux.tls.certificate` says with whom. The place for the hello."""

    def told(self, mux: "Mux", word: Control) -> None: ...

    def opened(self, mux: "Mux", stream: MuxStream, hello: Open) -> None: ...

    def ended(self, mux: "Mux", why: str) -> None:
        """Exactly once, for every tunnel whose connection was made."""
