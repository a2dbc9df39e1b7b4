"""How much one source may ask of the pages that know secrets. Pure: time comes in by a clock.

Links of invitations hold 128 random bits, so this is not what keeps guessers out. It keeps
them from making auth work for every guess, and from filling its audit trail.
"""

from collections import OrderedDict

from teleport_lite.ambient import Clock
from teleport_lite.model.source import source_of

# A page costs 1 and a refusal 15 more: an office of a hundred people gets its passwords set,
# somebody who guesses has 18 tries in ten minutes.
BUDGET = 300.0
REFUSAL = 15.0
PERIOD = 600.0  # seconds in which an empty budget is full again
# Sources remembered; the one that was quiet for longest goes first.
MOST = 8192


class Throttle:
    """A budget for each source that fills up over time (a token bucket)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()  # amount, when

    def take(self, source: str, cost: float = 1.0) -> bool:
        """Spend `cost`; False when that much is not left, and then nothing is spent."""
        name, now = source_of(source), self._clock.monotonic()
        amount, when = self._spent.pop(name, (0.0, now))
        amount = max(0.0, amount - (now - when) * BUDGET / PERIOD)
        fits = amount + cost <= BUDGET
        self._spent[name] = (amount + cost if fits else amount, now)
        if len(self._spent) > MOST:
            self._spent.popitem(last=False)
        return fits

    def refused(self, source: str) -> None:
        """Whatever it asked for, it was not right. Empties what is left if need be."""
        name = source_of(source)
        if not self.take(source, REFUSAL):
            self._spent[name] = (BUDGET, self._clock.monotonic())
