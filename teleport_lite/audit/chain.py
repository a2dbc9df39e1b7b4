"""The hash chain of the trail, and the check of an exported one.

The chain itself is plain arithmetic on events and lives in `model/chain.py`, because stores
keep it in the transaction that records the event and may not import their neighbour.
"""

from collections.abc import Iterable

from teleport_lite.model.chain import GENESIS, canonical, link, link_line, read_line
from teleport_lite.model.event import Event

__all__ = ["GENESIS", "canonical", "first_break", "link", "link_line", "read_line"]


def first_break(
    events: Iterable[tuple[int, Event, str]], *, after: str = GENESIS, start: int = 1
) -> int | None:
    """The first number at which a stretch of trail with hashes does not hold, None if it does.

    `after` is the hash of the event before `start`. A missing end cannot be seen here; ask the
    store (`verify_trail`), which remembers what it wrote last.
    """
    expected = start
    for seq, event, found in events:
        after = link(after, event, expected)
        if seq != expected or found != after:
            return expected
        expected += 1
    return None
