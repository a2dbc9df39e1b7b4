"""Which life of the cluster has told this host last (auth/life.py says what that is good for)."""

import logging
from contextlib import suppress
from pathlib import Path

from teleport_lite.agent import knowledge as lessons
from teleport_lite.ambient import Clock
from teleport_lite.errors import Error
from teleport_lite.proto.stream import Knowledge

log = logging.getLogger("teleport_lite.agent")


class Lives:
    """For one thread. Without a directory nothing is known from before."""

    def __init__(self, clock: Clock, data_dir: Path | None = None) -> None:
        self._clock, self._data_dir = clock, data_dir
        self._read = data_dir is None
        self.last = ""  # its word; "" if none was told
        self._heard_at = 0.0  # monotonic

    def before(self) -> tuple[str, float]:
        """Who told us last, and how many seconds ago."""
        if not self._read:
            self._read = True
            self._look()
        return self.last, max(0.0, self._clock.monotonic() - self._heard_at)

    def heard(self) -> None:
        """The one that is connected has said something."""
        self._heard_at = self._clock.monotonic()

    def learnt(self, known: Knowledge, address: str) -> None:
        """Another one than before is said once, each time. An older auth says nothing."""
        before, _ = self.before()
        if not known.life:
            return
        if before and before != known.life:
            log.warning(
                "auth server %s is life %s of cluster %s, and life %s has told this host before: "
                "a backup was restored. If the old auth server still runs, they are two clusters "
                "(try: tctl status)",
                address,
                known.life,
                known.cluster,
                before,
            )
        self.last = known.life
        self.heard()

    def _look(self) -> None:
        assert self._data_dir is not None
        with suppress(Error, OSError):
            known = lessons.load(self._data_dir)
            if known is not None and known.life:
                at = (self._data_dir / lessons.FILE).stat().st_mtime
                ago = max(0.0, self._clock.now().timestamp() - at)
                self.last, self._heard_at = known.life, self._clock.monotonic() - ago
