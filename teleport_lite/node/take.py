"""One session on a terminal, as the monitor keeps it (`recorder.py`)."""

import socket
import time
from dataclasses import dataclass, field

from teleport_lite.node.wire import Link, Session, SessionStarted


@dataclass(slots=True, kw_only=True)
class Take:
    """A session on a terminal."""

    sid: str
    asked: Session
    control: socket.socket | None  # to the worker's tap
    strict: bool
    scribe: Link | None = None
    file: int | None = None  # ours keeps the lock while the scribe has ended and it is not finished
    wanted: bool = False  # it was to be recorded
    facts: dict[str, object] = field(default_factory=dict)
    started: SessionStarted | None = None
    ended: float | None = None
    until: float | None = None  # it has to be over: by then the worker lets go of it, or is cut

    def patience(self) -> float | None:
        """Seconds until then."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())
