"""How much one stream of a tunnel may have under way to us. Pure: times are numbers.

A stream that is alone may fill the line. Beside others it must not: what is under way stands in
a queue before the next keystroke, somewhere we can not look into. But the time a PING takes goes
through the same queue and tells how long it is. So the window shrinks while answers come late,
and grows while they do not, as in RFC 6817, and a fast line with a long way is still used.
"""

from teleport_lite.net.mux_frames import INITIAL_WINDOW

# Of a stream that is alone; of one among others at first. All together never more than the budget.
LARGE = 1024 * 1024
START = 256 * 1024
BUDGET = 16 * 1024 * 1024
# Seconds that an answer may be late before somebody who types would notice.
LATE = 0.05
# Seconds between two looks while bytes are coming in.
LOOK = 0.2
_STEP = 64 * 1024
_SHRINK = 0.7
# The way may have become longer: what was shortest once is forgotten slowly.
_FORGET = 1.002


class Window:
    """Of each stream of one tunnel."""

    __slots__ = ("_shared", "_shortest")

    def __init__(self) -> None:
        self._shared = START
        self._shortest = 0.0

    def answered(self, took: float, *, busy: bool) -> None:
        """A PING has come back after `took` seconds; `busy`: several streams are open."""
        if not self._shortest or took < self._shortest:
            self._shortest = took
        self._shortest *= _FORGET
        if not busy:
            return
        if took > self._shortest + LATE:
            self._shared = max(INITIAL_WINDOW, int(self._shared * _SHRINK))
        else:
            self._shared = min(LARGE, self._shared + _STEP)

    def of(self, streams: int) -> int:
        """Bytes for each of so many streams."""
        if streams < 2:
            return LARGE
        return max(INITIAL_WINDOW, min(self._shared, BUDGET // streams))
