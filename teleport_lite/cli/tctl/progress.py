"""How far something long has come, for whoever watches a terminal."""

import sys
from types import TracebackType

from teleport_lite.ambient import SystemClock
from teleport_lite.model.size import show_size

_EVERY = 0.2


class Progress:
    """A line on stderr that is written over; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._clock, self._next, self._wrote = SystemClock(), 0.0, False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._wrote:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def bytes(self, count: int) -> None:
        now = self._clock.monotonic()
        if not self._shown or now < self._next:
            return
        self._next, self._wrote = now + _EVERY, True
        sys.stderr.write(f"\r\033[K{show_size(count)}")
        sys.stderr.flush()
