"""Waiting, and what ends it: time, a wish to renew now, a wish to stop.

The signals are blocked and asked for (sigtimedwait(2)), so none is lost between two waits, no
handler runs in the middle of a write, and nothing is left half done.
"""

import signal
from enum import Enum
from types import TracebackType
from typing import Self

RENEW = frozenset({signal.SIGUSR1, signal.SIGHUP})
STOP = frozenset({signal.SIGTERM, signal.SIGINT})


class Wake(Enum):
    TIME = "time"
    RENEW = "renew now"
    STOP = "stop"


class Signals:
    """A context: inside, the four signals wait until somebody asks. For one thread."""

    def __enter__(self) -> Self:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, RENEW | STOP)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def wait(self, seconds: float) -> Wake:
        came = signal.sigtimedwait(RENEW | STOP, max(0.0, seconds))
        if came is None:
            return Wake.TIME
        return Wake.STOP if came.si_signo in STOP else Wake.RENEW
