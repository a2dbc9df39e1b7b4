"""An auth server that can not reach the database, while another one can, sends its hosts there.

Here nothing is known of what the other one does, locks above all, and nobody gets anything done.
While the database is away for all of them, everybody stays: a stream is worth more than none.
"""

import logging
from collections.abc import Callable, Mapping

from teleport_lite.ambient import Clock
from teleport_lite.errors import Error, Unavailable

log = logging.getLogger("teleport_lite.auth")

# Seconds between looks.
LOOK_EVERY = 2.0
# A database that restarts is back sooner than that, in seconds.
PATIENCE = 10.0
# So often in a row another one has to be well: one that is back is not noticed by all at once.
SURE = 3
PATH = "/v1/auth/store"


class SendOn:
    """`tick` every LOOK_EVERY seconds, from any one thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        trouble: Callable[[], str],
        others: Callable[[], Mapping[str, str]],
        ask: Callable[[str], str],
        send: Callable[[Error], None],
    ) -> None:
        """`trouble` with the store; `others` are auth servers that are alive, with addresses, and
        `ask` an address for its trouble (raises Error). `send` ends the streams of all hosts."""
        self._clock, self._trouble, self._others = clock, trouble, others
        self._ask, self._send = ask, send
        self._known: Mapping[str, str] = {}
        self._since: float | None = None
        self._well = 0

    def tick(self) -> None:
        now = self._clock.monotonic()
        if not self._trouble():
            self._known, self._since, self._well = self._others(), None, 0
            return
        self._since = now if self._since is None else self._since
        if now - self._since < PATIENCE:
            return
        address = next((each for each in self._known.values() if self._is_well(each)), "")
        self._well = self._well + 1 if address else 0
        if self._well < SURE or not self._trouble():
            return
        if self._well == SURE:
            log.warning("hosts are sent to auth server %s, which can reach the database", address)
        self._send(
            Unavailable(f"this auth server can not reach the database, the one at {address} can")
        )

    def _is_well(self, address: str) -> bool:
        try:
            return not self._ask(address)
        except Error:
            return False
