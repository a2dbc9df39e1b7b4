"""Can this store write? Once it can not, it is read-only for everybody until a probe has written.

    write --well--> the store --fails--> read-only: the disk is full
                                           | refused at once, nobody waits
                        well <--writes-- look, every second

So a full disk costs one failure and not one for each request, reads go on, and it gets well by
itself. Chores of auth call `look`; a store that nobody looks after tries every write.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from teleport_lite.errors import Unavailable

T = TypeVar("T")

# Bytes that stay free on a disk of ours: what a journal needs, and what makes room again.
FLOOR = 1 << 20
# A row of its own, so that a probe really writes.
_PROBE = "store/probe"

Change = Callable[[Any], T]


class StoreHealth:
    """Of one store. From any thread."""

    def __init__(self, free: Callable[[], int | None] = lambda: None) -> None:
        """`free` says how many bytes the disk has left, None if that is not known."""
        self._free = free
        self._guard = threading.Lock()  # guards all below
        self._cause = self._hint = ""
        self._looked_after = False
        self._number = 0
        self.refused = 0  # writes, so far, that were not even tried

    @property
    def trouble(self) -> str:
        """Why nothing can be written: "the disk is full". "" while all is well."""
        return self._cause

    def write(self, inner: Callable[[Change[T]], T], change: Change[T]) -> T:
        """`inner(change)`, which writes, unless that is known to be in vain. Raises Unavailable."""
        with self._guard:
            cause, hint = self._cause, self._hint
            if cause and self._looked_after:
                self.refused += 1
                raise Unavailable(f"auth is read-only: {cause}", hint=hint)
        own: list[BaseException] = []

        def made(tx: Any) -> T:
            try:
                return change(tx)
            except BaseException as why:
                own.append(why)
                raise

        try:
            answer = inner(made)
        except Unavailable as why:
            if not any(why is each for each in own):  # the change may say that itself
                self._fails(why)
            raise
        if self._cause and not self._looked_after:
            self._set("", "")
        return answer

    def look(self, inner: Callable[[Change[None]], None], *, doubt: bool = False) -> str:
        """Is it well, or well again? Returns `trouble`. Called every second or so. `doubt`: who
        reads has met a reason to ask, while it may be long since somebody wrote."""
        self._looked_after = True
        free = self._free()
        if free is not None and free < FLOOR:
            self._set("the disk is full", "df -h")
        elif self._cause or doubt:
            self._probe(inner)
        return self._cause

    def _probe(self, inner: Callable[[Change[None]], None]) -> None:
        self._number += 1
        try:
            inner(lambda tx: tx.set_meta(_PROBE, str(self._number)))
        except Unavailable as why:
            self._fails(why)
        else:
            self._set("", "")

    def _fails(self, why: Unavailable) -> None:
        """The cause is behind the last colon; what is before it names a file or a server."""
        self._set(why.message.rpartition(": ")[2], why.hint)

    def _set(self, cause: str, hint: str) -> None:
        with self._guard:
            self._cause, self._hint = cause, hint
