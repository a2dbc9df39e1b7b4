"""How often a stranger may guess."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from teleport_lite.ambient import Clock
from teleport_lite.errors import Unavailable
from teleport_lite.model.source import source_of

# Ten failures a minute, twenty at first: a person mistypes, a scanner does not stop.
PER_MINUTE = 10.0
BURST = 20.0
# 65,536 sources cost some 10 MiB; a source forgotten under pressure starts afresh.
MAX_SOURCES = 65_536


class GuessLimit:
    """Counts failures by source address (an IPv6 /64 is one source). Successes cost nothing,

    so that three hundred hosts behind one NAT can join at once. Safe from several threads.
    `what` was tried, for the message: "joins". Each of several auth servers counts for itself,
    and allows its share of what one would.
    """

    def __init__(self, clock: Clock, what: str, servers: Callable[[], int] = lambda: 1) -> None:
        """`servers`: how many auth servers are alive."""
        self._clock, self._what, self._servers = clock, what, servers
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._guard = Lock()  # guards _left

    def check(self, address: str) -> None:
        """Raises Unavailable, with the time to wait, when `address` has used up its guesses."""
        with self._guard:
            left, _ = self._now(source_of(address))
        if left < 1:
            wait = round((1 - left) * 60 * self._share() / PER_MINUTE) + 1
            raise Unavailable(
                f"too many failed {self._what} from {address}",
                hint=f"try again in {wait} s",
                log="rate limit",
            )

    def failed(self, address: str) -> None:
        source = source_of(address)
        with self._guard:
            left, now = self._now(source)
            self._left[source] = (left - 1, now)
            self._left.move_to_end(source)
            if len(self._left) > MAX_SOURCES:
                self._left.popitem(last=False)

    def _now(self, source: str) -> tuple[float, float]:
        now, share = self._clock.monotonic(), self._share()
        left, since = self._left.get(source, (BURST, now))
        return min(BURST / share, left + (now - since) * PER_MINUTE / 60 / share), now

    def _share(self) -> int:
        """Of many servers each allows at least one guess."""
        return max(1, min(self._servers(), round(BURST)))
