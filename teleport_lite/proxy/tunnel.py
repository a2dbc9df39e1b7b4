"""One tunnel as the proxy's other parts see it: a host's way in."""

from dataclasses import dataclass
from datetime import datetime

from teleport_lite.errors import Denied
from teleport_lite.model.system_role import NODE
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.pki.verify import Peer
from teleport_lite.proto.tunnel import SSH, Open, TunnelHello


@dataclass(slots=True)
class Counters:
    """For /metrics; they only grow. `up` is from people to hosts."""

    accepted: int = 0
    refused: int = 0
    replaced: int = 0
    lost: int = 0
    clones: int = 0
    streams: int = 0
    violations: int = 0  # of hosts that asked for what only proxies may
    up: int = 0  # bytes through tunnels that have ended; `Tunnels.moved` has all
    down: int = 0


class Tunnel:
    """`open` is what it is for."""

    __slots__ = (
        "_counters",
        "_mux",
        "address",
        "boot_id",
        "going",
        "outdated_at",
        "peer",
        "program",
        "since",
    )

    def __init__(
        self,
        mux: Mux,
        peer: Peer,
        address: tuple[str, int],
        hello: TunnelHello,
        *,
        since: datetime,
        counters: Counters,
    ) -> None:
        self._mux, self.peer, self.address, self.since = mux, peer, address, since
        self._counters = counters
        self.boot_id, self.program = hello.boot_id, hello.program
        self.going = False  # asked to come again, or said goodbye itself
        # Monotonic seconds: since when the CA of its certificate is not trusted any more.
        self.outdated_at: float | None = None

    @property
    def host_id(self) -> str:
        return self.peer.name

    @property
    def streams(self) -> int:
        return len(self._mux)

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes to the host, and from it."""
        return self._mux.sent, self._mux.received

    @property
    def alive(self) -> bool:
        return self._mux.alive

    def silent(self) -> float:
        """Seconds since anything was heard from the host."""
        return self._mux.silent()

    def retire(self) -> None:
        """Open sessions go on, and the tunnel ends with the last one."""
        self.going = True
        self._mux.retire()

    def close(self, why: str) -> None:
        self._mux.close(why)

    def open(self, client: tuple[str, int], service: str = SSH) -> MuxStream:
        """A stream to the SSH service of the host, which is the only thing tunnels of hosts lead
        to. Those of leaf clusters have other services.

        At once and without waiting: a host that does not want it resets the stream. Raises
        Denied for a host without such a service, Unavailable if the tunnel is going away.
        """
        if service == SSH and NODE not in self.peer.roles:
            raise Denied("the host has no SSH service")
        ip, port = client
        stream = self._mux.open(Open(service=service, client_ip=ip, client_port=port))
        self._counters.streams += 1
        return stream
