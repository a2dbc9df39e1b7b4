"""Waiting for the cluster while the daemon starts, where something watches over the start.

A host that was switched on before its auth server, or its network, joins as soon as it can. Who
starts by hand is told at once what is wrong instead.
"""

import logging
import threading
from collections.abc import Callable

from teleport_lite.daemon.notify import Notify
from teleport_lite.errors import Unavailable

log = logging.getLogger("teleport_lite.daemon")

# Seconds between tries; the last one for all that follow.
PAUSES = (1.0, 2.0, 4.0, 8.0)
# Tries begin for so long. Then it is systemd's turn, and whoever waits for `systemctl start` hears
# what is wrong.
PATIENCE = 60.0
# One try asks each server with timeouts of its own.
_ONE_TRY = 90.0


def until_reached(
    attempt: Callable[[], None],
    notify: Notify,
    *,
    pause: Callable[[float], object] | None = None,
) -> None:
    """Call `attempt` until it raises nothing. Raises what it raises, Unavailable after a while."""
    pause = pause or threading.Event().wait
    waited, tries, said = 0.0, 0, ""
    while True:
        notify.wait(said or "joining the cluster", _ONE_TRY)
        try:
            return attempt()
        except Unavailable as why:
            if not notify.there or waited >= PATIENCE:
                raise
            if why.message not in said:
                log.warning("waiting for the cluster: %s", why.message)
            said = f"waiting for the cluster: {why.message}"
        seconds = PAUSES[min(tries, len(PAUSES) - 1)]
        notify.wait(said, seconds + _ONE_TRY)
        pause(seconds)
        waited, tries = waited + seconds, tries + 1
