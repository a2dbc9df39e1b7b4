"""Waiting for the cluster while the daemon starts, where something watches over the start.

A host that was switched on before its auth server, or its network, joins as soon as it can. Who
starts by hand is told at once what is wrong instead.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from teleport_lite.agent.identity import FILE
from teleport_lite.agent.rotation import BEHIND
from teleport_lite.daemon.notify import Notify
from teleport_lite.errors import Denied, NotFound, Unauthenticated, Unavailable
from teleport_lite.model.system_role import AUTH

log = logging.getLogger("teleport_lite.daemon")

# Seconds between tries; the last one for all that follow.
PAUSES = (1.0, 2.0, 4.0, 8.0)
# Tries begin for so long. Then it is systemd's turn, and whoever waits for `systemctl start` hears
# what is wrong.
PATIENCE = 60.0
# Opening the store of auth: after a power cut all of it is read, and an upgrade may rewrite it.
OPENING = 900.0
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
            if why.log == BEHIND:  # only a token helps, and a hundred hosts may be in its place
                seconds = PATIENCE
        notify.wait(said, seconds + _ONE_TRY)
        pause(seconds)
        waited, tries = waited + seconds, tries + 1


def has_served(data_dir: Path, roles: tuple[str, ...]) -> bool:
    """Whether there is nothing to join any more: auth never does, and others have done it."""
    return AUTH in roles or (data_dir / FILE).exists()


@contextmanager
def not_for_good() -> Iterator[None]:
    """Refusals become Unavailable: systemd starts us again after that, and not after a refusal.

    For a host that has served. What refuses it may be a clock that is not set yet, a disk that is
    not there yet, or an auth server that was not itself; and this may be the only way to the host.
    """
    try:
        yield
    except (Denied, NotFound, Unauthenticated) as why:
        raise Unavailable(why.message, hint=why.hint, log=why.log) from why
