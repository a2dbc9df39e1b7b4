"""Passwords as auth sees them: which are good enough, and what is kept of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from teleport_lite.ambient import Clock
from teleport_lite.auth.scram import Decoys, make_verifier
from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.model.password import MAX_LENGTH, MIN_LENGTH, Password, Stretching
from teleport_lite.model.token import Verifier
from teleport_lite.pki.passwords import new_stretch, normal, stretch
from teleport_lite.secret import Secret
from teleport_lite.store.protocols import Store

# Each takes 64 MiB and a core for a tenth of a second.
AT_ONCE = 2
PATIENCE = 10.0
# Fewer different characters than this are a pattern, not a password.
MIN_DIFFERENT = 5
# What is left of the commonest passwords (of published lists of leaks) without the digits and
# signs around it. They would be tried first.
_WORDS = """
password passwort passw secret letmein welcome admin administrator root changeme default iloveyou
monkey dragon football baseball basketball sunshine princess superman batman trustno master shadow
michael jennifer computer internet qwerty qwertz azerty asdfgh zxcvbn teleport teleportlite
correcthorsebatterystaple
"""
COMMON = frozenset(_WORDS.split())
# Pieces of these, from either end, are typed with one finger.
_ROWS = (
    "0123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "1q2w3e4r5t6y7u8i9o0p",
)
_NOBODY = "-"  # no user name begins like that
_LEET = str.maketrans("@4013$57", "aaoiesst")
_ANOTHER = "choose another, like four words that do not belong together"


def check_password(password: Secret, user: str) -> None:
    """Raises Malformed, saying which rule it breaks and never what it is."""
    text = normal(password).reveal()
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH:
        raise Malformed(
            f"the password must have {MIN_LENGTH} to {MAX_LENGTH} characters, "
            f"this one has {len(text)}"
        )
    folded = text.casefold()
    if user.casefold() in folded and _core(folded) in ("", _letters(user.casefold())):
        raise Malformed("the password is little more than the user name", hint=_ANOTHER)
    if len(set(folded)) < MIN_DIFFERENT or any(folded in row * 12 for row in _rows()):
        raise Malformed("the password is a pattern that is easy to guess", hint=_ANOTHER)
    if COMMON & {_core(folded), _core(_trimmed(folded).translate(_LEET))}:
        raise Malformed("the password is one of the commonest", hint=_ANOTHER)


class PasswordBook:
    """Makes and finds what is kept of passwords, and passes off decoys as passwords.

    The salts of a name are the same whether or not somebody has it, and stay the same when the
    password changes: `login/start` tells them to anyone, and would tell that as well.
    """

    def __init__(self, *, clock: Clock, store: Store, decoys: Decoys) -> None:
        self._clock, self._store, self._decoys = clock, store, decoys
        self._slots = BoundedSemaphore(AT_ONCE)
        self._somebody = ""  # has a password; see `find`

    def make(self, user: str, password: Secret) -> Password:
        """Raises Malformed for one that is not good enough, Unavailable when too busy."""
        check_password(password, user)
        by = self._new_stretch(user)
        with self._slot():
            key = stretch(password, by)
        return Password(
            user=user,
            stretch=by,
            verifier=make_verifier(key, self._decoys.salt(user, "scram")),
            set_at=self._clock.now(),
        )

    def find(self, user: str) -> tuple[Stretching, Verifier]:
        """Of anybody at all; nobody's proof fits a decoy.

        Reading a password takes 50 us longer than finding that there is none, and enough tries
        would show that. So both are done each time: for a name without one, somebody's is read.
        """
        kept, decoy = self._store.password(user), self._decoys.verifier(user)
        by = self._new_stretch(user)
        if kept is None:
            if self._store.password(self._somebody) is None:
                self._somebody = min(self._store.with_password(), default="")
            return by, decoy
        self._somebody = user
        self._store.password(_NOBODY)
        return kept.stretch, kept.verifier

    def _new_stretch(self, user: str) -> Stretching:
        return new_stretch(self._decoys.salt(user, "stretch"))

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=PATIENCE):
            raise Unavailable("many passwords are being set just now", hint="try again in a minute")
        try:
            yield
        finally:
            self._slots.release()


def _letters(text: str) -> str:
    return "".join(char for char in text if char.isalpha())


def _trimmed(text: str) -> str:
    """Without the digits and signs around it."""
    at = [number for number, char in enumerate(text) if char.isalpha()]
    return text[at[0] : at[-1] + 1] if at else ""


def _core(text: str) -> str:
    """The letters; of a word that is repeated, the word."""
    letters = _letters(text)
    for size in range(3, len(letters) // 2 + 1):
        if len(letters) % size == 0 and letters[:size] * (len(letters) // size) == letters:
            return letters[:size]
    return letters


def _rows() -> Iterator[str]:
    for row in _ROWS:
        yield row
        yield row[::-1]
