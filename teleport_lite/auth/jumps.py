"""Clocks that jump: what was seen ten seconds ago stays so, whatever the wall says by now."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock

from teleport_lite.ambient import Clock
from teleport_lite.model.host import Report

log = logging.getLogger("teleport_lite.auth")

# A clock that is slewed (adjtime(3)) moves by half a millisecond a second; this is somebody's hand.
JUMP = timedelta(seconds=2)


class JumpWatch:
    """Compares the wall with the clock that only runs forward. From any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guard = Lock()  # guards the one below
        self._offset = self._now()

    def jump(self) -> timedelta:
        """How far the wall was put since this was last asked: ahead, back (below zero) or not."""
        with self._guard:
            before, self._offset = self._offset, self._now()
            jump = self._offset - before
        if abs(jump) < JUMP:
            return timedelta()
        way = "ahead" if jump > timedelta() else "back"
        log.warning("the clock of this host was put %s by %s", way, abs(jump))
        return jump

    def _now(self) -> datetime:
        """The time at which the other clock was zero, by this one."""
        return self._clock.now() - timedelta(seconds=self._clock.monotonic())


def shift_own(reports: dict[str, Report], *, me: str, by: timedelta) -> set[str]:
    """Have what was seen at `me` told by a clock that was put. The hosts it is about."""
    own = {host_id: report for host_id, report in reports.items() if report.via in ("", me)}
    for host_id, report in own.items():
        if report.last_seen is not None:
            reports[host_id] = replace(report, last_seen=report.last_seen + by)
    return set(own)
