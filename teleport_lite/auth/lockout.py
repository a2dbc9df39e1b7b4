"""Five wrong passwords in a row, and the next half hour is not for guessing at this user.

Whoever knows a name could lock its owner out that way. So every network the user has logged in
from before is counted apart from all others together: strangers lock strangers out, and who
sits where the user sits locks that place alone.

Kept in memory. A restart forgives what was counted, which is five guesses more for a guesser
who can not bring a restart about; the places a user logs in from are in the store.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import ceil
from threading import Lock

from teleport_lite.ambient import Clock
from teleport_lite.errors import Denied
from teleport_lite.model.names import USER_NAME
from teleport_lite.model.source import source_of

# As Teleport has it. 240 guesses a day find no password that our rules let pass.
MAX_FAILURES = 5
LOCKED_FOR = 30 * 60.0
# Names that do not exist are counted too, or a lock would tell which do. 65,536 of them cost
# 20 MiB; who makes us forget a name by guessing at that many others gets five guesses for it.
MAX_NAMES = 65_536
STRANGERS = ""


@dataclass(frozen=True, slots=True)
class Guess:
    """A try that was counted before it was looked at, so that a hundred at once are not one."""

    user: str
    source: str  # a place the user has logged in from, or STRANGERS
    last: bool  # of the five


@dataclass(slots=True)
class _Count:
    failures: int
    at: float  # of the last one


class Lockout:
    """Safe from several threads. `known` gives the sources a user has logged in from."""

    def __init__(self, clock: Clock, known: Callable[[str], Collection[str]]) -> None:
        self._clock, self._known = clock, known
        self._counts: OrderedDict[str, dict[str, _Count]] = OrderedDict()
        self._guard = Lock()  # guards _counts

    def check(self, user: str, address: str) -> None:
        """Raises Denied, with the time to wait, while `user` is locked for who is at `address`."""
        if not self._counts:  # a quiet day
            return
        user, source = self._place(user, address)
        with self._guard:
            left = self._left(user, source)
        _refuse(user, left)

    def take(self, user: str, address: str) -> Guess:
        """Count a try as wrong until `right` says otherwise. Raises Denied as `check` does."""
        user, source = self._place(user, address)
        with self._guard:
            left = self._left(user, source)
            if not left:
                count = self._counts.setdefault(user, {}).setdefault(source, _Count(0, 0.0))
                count.failures += 1
                count.at = self._clock.monotonic()
                last = count.failures >= MAX_FAILURES
                self._counts.move_to_end(user)
                if len(self._counts) > MAX_NAMES:
                    self._counts.popitem(last=False)
        _refuse(user, left)
        return Guess(user, source, last)

    def right(self, guess: Guess) -> None:
        """It was the password: the row of wrong ones is over, here."""
        with self._guard:
            places = self._counts.get(guess.user, {})
            places.pop(guess.source, None)
            if not places:
                self._counts.pop(guess.user, None)

    def lift(self, user: str) -> bool:
        """An administrator lets `user` try again, from everywhere. False if nothing was locked."""
        with self._guard:
            locked = any(self._left(user, source) for source in self._counts.get(user, {}).copy())
            self._counts.pop(user, None)
            return locked

    def left(self, user: str) -> float:
        """Seconds for which `user` is still locked for some place; 0 if for none."""
        with self._guard:
            places = list(self._counts.get(user, ()))
            return max((self._left(user, source) for source in places), default=0.0)

    def _place(self, user: str, address: str) -> tuple[str, str]:
        if not USER_NAME.fullmatch(user):  # nobody is called that; one count for all of them
            user = ""
        source = source_of(address)
        return user, source if source in self._known(user) else STRANGERS

    def _left(self, user: str, source: str) -> float:
        """Seconds; a row of failures that is half an hour old is forgotten."""
        places = self._counts.get(user, {})
        count = places.get(source)
        if count is None:
            return 0.0
        left = count.at + LOCKED_FOR - self._clock.monotonic()
        if left <= 0:
            del places[source]
            return 0.0
        return left if count.failures >= MAX_FAILURES else 0.0


def _refuse(user: str, left: float) -> None:
    if left:
        whose = user or "this user"
        minutes = ceil(left / 60)
        wait = "1 minute" if minutes == 1 else f"{minutes} minutes"
        raise Denied(
            f"{MAX_FAILURES} wrong passwords in a row: login of {whose} is locked for {wait} more",
            hint=f"wait, or ask an administrator: tctl users unlock {user}".rstrip(),
            log="locked out",
        )
