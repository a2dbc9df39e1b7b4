"""How much was moved: the worker tells it at the end of each channel, the trail gets it.

The end of a shell and that of its channel are told by two processes, in any order.
"""

import time
from dataclasses import dataclass

from teleport_lite.node.file_story import tell_scp
from teleport_lite.node.story import Story
from teleport_lite.node.wire import Moved, SessionEnded, SessionStarted

DATA = "T2006I"
# A channel may outlive its shell, if something in the background holds it open.
_PATIENCE = 10.0
# Channels whose end the worker has not told.
_MOST = 1024


@dataclass(frozen=True, slots=True)
class _Late:
    ended: SessionEnded
    reason: str
    until: float


class Counts:
    """Tells the story of each session's end, once, with what was moved if that becomes known."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._sids: dict[int, str] = {}  # by channel
        self._late: dict[str, _Late] = {}
        self._known: dict[str, Moved] = {}
        self._commands: dict[str, str] = {}
        self._up = self._down = 0

    def started(self, session: SessionStarted) -> None:
        """As the broker tells it."""
        if len(self._sids) >= _MOST:
            return  # no more than ten can be open: it makes them up
        self._sids[session.channel] = session.sid
        if session.command is not None:
            self._commands[session.sid] = session.command

    def moved(self, moved: Moved) -> None:
        """As the worker tells it, which belongs to the visitor: it is about their own session."""
        self._up += moved.up
        self._down += moved.down
        sid = self._sids.pop(moved.channel, None)
        if sid is None:
            return
        late = self._late.pop(sid, None)
        if late is None:
            self._known[sid] = moved
        else:
            self._over(late.ended, late.reason, moved)

    def ended(self, ended: SessionEnded, reason: str) -> None:
        """As the broker tells it."""
        moved = self._known.pop(ended.sid, None)
        if moved is None and ended.sid in self._sids.values():
            self._late[ended.sid] = _Late(ended, reason, time.monotonic() + _PATIENCE)
        else:
            self._over(ended, reason, moved)

    def patience(self) -> float | None:
        """Seconds until `tick` has something to do."""
        waiting = [late.until for late in self._late.values()]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def tick(self) -> None:
        for sid, late in list(self._late.items()):
            if time.monotonic() >= late.until:
                del self._late[sid]
                self._over(late.ended, late.reason, None)

    def close(self) -> None:
        """The connection is over."""
        for late in self._late.values():
            self._over(late.ended, late.reason, None)
        self._late.clear()
        if self._up or self._down:
            sums = {"bytes_up": str(self._up), "bytes_down": str(self._down)}
            self._story.tell("session.data", DATA, "ok", **sums)

    def _over(self, ended: SessionEnded, reason: str, moved: Moved | None) -> None:
        command = self._commands.pop(ended.sid, "")
        tell_scp(self._story, sid=ended.sid, command=command, worked=ended.code == 0, moved=moved)
        self._story.ended(ended, reason, moved=moved)
