"""Five wrong passwords in a row, and the next half hour is not for guessing at this user.

Whoever knows a name could lock its owner out that way. So every network the user has logged in
from before is counted apart from all others together: strangers lock strangers out, and who
sits where the user sits locks that place alone.

Counted in the store, for all auth servers together, and across restarts. Only a wrong password
writes there:

    take   reads the row, and counts what is being looked at just now in this process as wrong
    wrong  adds one, unless the row is full by now: then the guess was never looked at
    right  in the transaction of the login: refused if the row is full by now, else it is over

So of a hundred guesses at once, at however many servers, those count that are the first five in
the order of the store; the others hear that they came too late, also the right one.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from threading import Lock

from teleport_lite.ambient import Clock
from teleport_lite.errors import Denied
from teleport_lite.model.guess import GUESSES_LAST, MAX_GUESSES, Guesses
from teleport_lite.model.names import USER_NAME
from teleport_lite.model.source import source_of
from teleport_lite.store.protocols import Store, Tx

STRANGERS = ""
_WHOLE = GUESSES_LAST.total_seconds()


@dataclass(frozen=True, slots=True)
class Guess:
    """A try that was counted before it was looked at, so that a hundred at once are not one."""

    user: str
    name: str  # its hash
    source: str  # a place the user has logged in from, or STRANGERS


class Lockout:
    """Safe from several threads, and beside those of other auth servers on the same store."""

    def __init__(self, clock: Clock, store: Store, key: bytes) -> None:
        """`key` is that of the hashes of names (`auth/start.py`)."""
        self._clock, self._store, self._key = clock, store, key
        self._flying: Counter[tuple[str, str]] = Counter()
        self._guard = Lock()  # guards _flying

    def check(self, user: str, address: str) -> None:
        """Raises Denied, with the time to wait, while `user` is locked for who is at `address`."""
        self._refuse_full(self._place(user, address))

    @contextmanager
    def take(self, user: str, address: str) -> Iterator[Guess]:
        """Count a try as wrong until the block ends. Raises Denied as `check` does."""
        guess = self._place(user, address)
        place = (guess.name, guess.source)
        with self._guard:
            self._flying[place] += 1
            flying = self._flying[place]
        try:
            row = self._row(guess)
            if (row.count if row else 0) + flying > MAX_GUESSES:
                raise _locked(guess.user, (self._left(row) if row else 0.0) or _WHOLE)
            yield guess
        finally:
            with self._guard:
                self._flying[place] -= 1
                if not self._flying[place]:
                    del self._flying[place]

    def wrong(self, guess: Guess, *, stranger: bool) -> bool:
        """It was not the password. True if that locks; raises Denied if it was locked by then."""
        now = self._clock.now()
        count = self._store.write(
            lambda tx: tx.count_guess(guess.name, guess.source, stranger=stranger, now=now)
        )
        if not count:
            raise _locked(guess.user, _WHOLE)
        return count >= MAX_GUESSES

    def right(self, tx: Tx, guess: Guess) -> None:
        """It was the password: the row of wrong ones is over, here. Raises Denied if it was full
        by then."""
        if not tx.end_guesses(guess.name, guess.source, now=self._clock.now()):
            raise _locked(guess.user, _WHOLE)

    def forget(self, tx: Tx, user: str) -> bool:
        """Let `user` try again, from everywhere. False if there was nothing to forget."""
        return tx.forget_guesses(self._hash(user))

    def lift(self, user: str) -> bool:
        """An administrator lets `user` try again. False if nothing was locked."""
        locked = bool(self.left([user])[user])
        if self._store.guesses(self._hash(user)):
            self._store.write(lambda tx: self.forget(tx, user))
        return locked

    def left(self, users: Collection[str]) -> dict[str, float]:
        """Seconds for which each of them is still locked for some place; 0 if for none."""
        longest: dict[str, float] = {}
        for row in self._store.guesses():
            longest[row.name] = max(longest.get(row.name, 0.0), self._left(row))
        return {user: longest.get(self._hash(user), 0.0) for user in users}

    def _place(self, user: str, address: str) -> Guess:
        if not USER_NAME.fullmatch(user):  # nobody is called that; one count for all of them
            user = ""
        source = source_of(address)
        known = source in self._store.login_sources(user)
        return Guess(user, self._hash(user), source if known else STRANGERS)

    def _row(self, guess: Guess) -> Guesses | None:
        """That is not over."""
        now = self._clock.now()
        rows = self._store.guesses(guess.name)
        return next((x for x in rows if x.source == guess.source and x.running(now)), None)

    def _refuse_full(self, guess: Guess) -> None:
        row = self._row(guess)
        if row is not None and (left := self._left(row)):
            raise _locked(guess.user, left)

    def _left(self, row: Guesses) -> float:
        """Seconds; longer than half an hour only if the clock was put back."""
        now = self._clock.now()
        if row.count < MAX_GUESSES or not row.running(now):
            return 0.0
        return (row.last_at + GUESSES_LAST - now).total_seconds()

    def _hash(self, user: str) -> str:
        return hmac.digest(self._key, b"guess " + user.encode(), hashlib.sha256).hex()


def _locked(user: str, left: float) -> Denied:
    minutes = ceil(left / 60)
    wait = "1 minute" if minutes == 1 else f"{minutes} minutes"
    return Denied(
        f"{MAX_GUESSES} wrong passwords in a row: login of {user or 'this user'} is locked for "
        f"{wait} more",
        hint=f"wait, or ask an administrator: tctl users unlock {user}".rstrip(),
        log="locked out",
    )
