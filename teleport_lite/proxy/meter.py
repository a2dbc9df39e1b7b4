"""How much was passed through unopened, for the audit trail. Pure: values in, facts out.

A proxy can not see what it passes on to auth and to other proxies. It can count it: one event
for each source address and minute, however many connections there were.
"""

from dataclasses import dataclass

from teleport_lite.model.source import source_of

KIND, CODE = "session.relay", "TLP01I"
MINUTE = 60.0
# Sources counted by their own name in one minute. The rest share one entry.
MOST = 256
OTHERS = "others"


@dataclass(slots=True)
class _Sum:
    connections: int = 0
    up: int = 0
    down: int = 0


class Meter:
    """Adds up connections that have ended, until `take` is asked for what there was."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sum] = {}
        self.connections = self.up = self.down = 0  # ever since the start, for metrics

    def add(self, source: str, to: str, up: int, down: int) -> None:
        """`to` says where it went: "auth" or the UUID of a proxy. `up` is towards there.

        IPv6 addresses count by their /64: one customer has 2^64 of them to make rows with.
        """
        key = (source_of(source), to)
        if key not in self._sums and len(self._sums) >= MOST:
            key = (OTHERS, "")
        entry = self._sums.setdefault(key, _Sum())
        entry.connections += 1
        entry.up += up
        entry.down += down
        self.connections += 1
        self.up += up
        self.down += down

    def take(self) -> list[dict[str, str]]:
        """Facts of one event for each source and destination; counting begins anew."""
        sums, self._sums = self._sums, {}
        return [
            {
                "addr.remote": source,
                "to": to,
                "connections": str(each.connections),
                "bytes_up": str(each.up),
                "bytes_down": str(each.down),
            }
            for (source, to), each in sums.items()
        ]
