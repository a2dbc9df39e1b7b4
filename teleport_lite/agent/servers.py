"""Where auth can be asked: addresses as configured, then those it has told of itself.

Whoever worked last is asked first. One that has failed comes last for a while, so that a server
that is switched off is not waited for again and again.
"""

from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

from teleport_lite.ambient import Clock, SystemClock

# After this long a server that has failed is like any other again.
FORGIVE = 60.0
# Told by auth; a cluster has a few.
MAX_LEARNT = 32
# Seconds to wait for one of several servers, and for the only one.
ONE_OF_MANY, THE_ONLY_ONE = 5.0, 15.0


class Servers:
    """Safe from several threads. Iterating gives all of them, the best first."""

    def __init__(self, configured: Sequence[str], clock: Clock | None = None) -> None:
        self.configured = tuple(dict.fromkeys(configured))
        self._clock = clock or SystemClock()
        self._guard = Lock()  # guards all below
        self._learnt: tuple[str, ...] = ()
        self._failed: dict[str, float] = {}  # until when it comes last; in the order of failures
        self._good = ""

    def learn(self, addresses: Iterable[str]) -> None:
        """All that are known now beside the configured ones."""
        found = [each for each in dict.fromkeys(addresses) if each not in self.configured]
        with self._guard:
            self._learnt = tuple(found[:MAX_LEARNT])

    def worked(self, address: str) -> None:
        with self._guard:
            self._good = address
            self._failed.pop(address, None)

    def failed(self, address: str) -> None:
        with self._guard:
            self._failed.pop(address, None)
            self._failed[address] = self._clock.monotonic() + FORGIVE

    @property
    def patience(self) -> float:
        """Seconds to wait for one of them to answer."""
        return ONE_OF_MANY if len(self) > 1 else THE_ONLY_ONE

    def first(self) -> str:
        """Raises IndexError if there is none."""
        return self._ordered()[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ordered())

    def __len__(self) -> int:
        with self._guard:
            return len(self.configured) + len(self._learnt)

    def _ordered(self) -> list[str]:
        now = self._clock.monotonic()
        with self._guard:
            known = [*self.configured, *self._learnt]
            late = {each: at for each, at in self._failed.items() if at > now and each in known}
            self._failed = late
            good, turns = self._good, {each: turn for turn, each in enumerate(late, 1)}
        # Sorting keeps the order of equals: as configured, then as learnt.
        return sorted(known, key=lambda each: (turns.get(each, 0), each != good))


def servers_of(servers: "Sequence[str] | Servers", clock: Clock | None = None) -> Servers:
    return servers if isinstance(servers, Servers) else Servers(servers, clock)
