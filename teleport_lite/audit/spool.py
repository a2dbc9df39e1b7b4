"""Audit events that nobody takes right now, on disk until somebody does.

    monitors, and a daemon that stops --put--> segments --take--> the next daemon --done--> gone

Each process takes the lock for a moment; there is no other talk between them. Segments are small,
so that a crash of who takes them tells few events twice. None is told never.
"""

import fcntl
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from teleport_lite.ambient import Clock
from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.pki.keyfile import make_private_dir
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.stream import AgentEvent

# Below data_dir.
PLACE = Path("log") / "events"
# Bytes in all; what comes after is counted and not kept: an intruder must not be able to push
# out the beginning of the story by making more of it.
MOST = 16 << 20
SEGMENT = 64 << 10
_MAX_EVENT = 64 << 10
# Tries for the lock, which is never held for longer than a read or a write takes. Three seconds: on
# a busy machine who holds it may wait for a processor, and who gives up has lost an event.
_TRIES, _PAUSE = 150, 0.02
_LOCK, _LOST, _NEW = "lock", "lost", "new"
_OPEN, _TAKEN = ".events", ".taken"
# The event that says how many are missing.
LOST_KIND, LOST_CODE = "session.lost", "TSL01W"


@dataclass(frozen=True, slots=True)
class Taken:
    """A segment: its events in order, and its name for `done`."""

    name: str
    events: list[AgentEvent]


class Spool:
    """Any number of processes may have one on the same directory."""

    def __init__(self, data_dir: Path, clock: Clock, *, most: int = MOST) -> None:
        self.place, self._clock, self._most = data_dir / PLACE, clock, most

    def put(self, event: AgentEvent) -> bool:
        """Keep an event. Never raises: False if there is no room, which is counted if it can be."""
        line = write(event) + b"\n"
        kept = len(line) <= _MAX_EVENT and self._kept(line)
        if not kept:
            self.count_lost(1)
        return kept

    def offer(self, event: AgentEvent) -> bool:
        """The same for a caller who will try again: False is not counted. One that is too long
        for ever is counted, and done with. Never raises."""
        line = write(event) + b"\n"
        if len(line) <= _MAX_EVENT:
            return self._kept(line)
        self.count_lost(1)
        return True

    def _kept(self, line: bytes) -> bool:
        try:
            with self._locked() as there:
                return self._append(there, line)
        except (Error, OSError):
            return False  # the disk is full or broken, and there is nobody else to tell

    def put_first(self, events: list[AgentEvent], *, instead: Taken | None) -> bool:
        """Before all others, in place of a segment that was taken. Never raises: False if there is
        no room, and nothing has changed."""
        lines = b"".join(write(event) + b"\n" for event in events)
        try:
            with self._locked() as there:
                old = instead.name if instead is not None else ""
                name = old if old.endswith(_TAKEN) else _before(_segments(there))
                with _opened(there, _NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
                    if os.write(file, lines) != len(lines):
                        return False
                os.rename(_NEW, name, src_dir_fd=there, dst_dir_fd=there)
                if instead is not None and old != name:
                    _forget(there, instead)
                return True
        except (Error, OSError):
            return False

    def count_lost(self, more: int) -> None:
        """So many could not be kept. Never raises."""
        with suppress(Error, OSError), self._locked() as there:
            self._count_lost(there, more)

    def waiting(self) -> bool:
        """Is there anything to take? Cheap enough to ask every second."""
        try:
            names = [each.name for each in self.place.iterdir()]
        except OSError:
            return False
        return any(name.endswith((_OPEN, _TAKEN)) or name == _LOST for name in names)

    def take(self) -> Taken | None:
        """The oldest segment, which nobody writes to any more; None if there is nothing.

        It comes again until it is `done`. Raises OSError, Denied for an unsafe directory, or
        Unavailable if somebody holds the lock.
        """
        if not self.waiting():
            return None
        with self._locked() as there:
            names = _segments(there)
            if not names:
                return self._taken_lost(there)
            name = names[0]
            if name.endswith(_OPEN):
                taken = name.removesuffix(_OPEN) + _TAKEN
                os.rename(name, taken, src_dir_fd=there, dst_dir_fd=there)
                name = taken
            events, odd = _events(_content(there, name))
            if odd:
                self._count_lost(there, odd)
            return Taken(name, events)

    def done(self, taken: Taken) -> None:
        """It has been handed on. Never raises: what can not be removed now comes again."""
        with suppress(Error, OSError), self._locked() as there:
            _forget(there, taken)

    def _append(self, there: int, line: bytes) -> bool:
        names = _segments(there)
        sizes = {name: os.stat(name, dir_fd=there).st_size for name in names}
        if sum(sizes.values()) + len(line) > self._most:
            return False
        last = names[-1] if names else ""
        if not last.endswith(_OPEN) or sizes[last] + len(line) > SEGMENT:
            last = f"{_number(last) + 1:016d}{_OPEN}"
        with _opened(there, last, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            if os.write(file, line) == len(line):
                return True
            os.ftruncate(file, sizes.get(last, 0))  # the disk is full: no half of an event
            return False

    def _count_lost(self, there: int, more: int) -> None:
        with _opened(there, _LOST, os.O_RDWR | os.O_CREAT) as file:
            os.pwrite(file, b"%020d" % (_count(os.pread(file, 20, 0)) + more), 0)

    def _taken_lost(self, there: int) -> Taken | None:
        try:
            count = _count(_content(there, _LOST))
        except FileNotFoundError:
            return None
        event = AgentEvent(
            kind=LOST_KIND,
            code=LOST_CODE,
            at=self._clock.now().timestamp(),
            outcome="failed",
            facts={"events": str(count), "reason": "events lost: nobody took them for too long"},
        )
        return Taken(_LOST, [event])

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The directory, ours alone for now. Raises what `take` raises."""
        make_private_dir(self.place.parent)
        make_private_dir(self.place)
        there = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _opened(there, _LOCK, os.O_RDWR | os.O_CREAT) as lock:
                for _ in range(_TRIES):
                    with suppress(BlockingIOError):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    select.select([], [], [], _PAUSE)
                else:
                    raise Unavailable(f"{self.place} is locked by somebody else")
                yield there
        finally:
            os.close(there)


@contextmanager
def _opened(there: int, name: str, flags: int) -> Iterator[int]:
    safe = flags | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, safe, 0o600, dir_fd=there)
    try:
        yield file
    finally:
        os.close(file)


def _content(there: int, name: str) -> bytes:
    with _opened(there, name, os.O_RDONLY) as file:
        return os.pread(file, os.fstat(file).st_size, 0)


def _forget(there: int, taken: Taken) -> None:
    """What was counted since it was taken is still to be told."""
    if taken.name == _LOST:
        told = sum(_count(each.facts["events"].encode()) for each in taken.events)
        if (left := _count(_content(there, _LOST)) - told) > 0:
            with _opened(there, _LOST, os.O_WRONLY) as file:
                os.pwrite(file, b"%020d" % left, 0)
            return
    os.unlink(taken.name, dir_fd=there)


def _segments(there: int) -> list[str]:
    return sorted(name for name in os.listdir(there) if name.endswith((_OPEN, _TAKEN)))


def _before(names: list[str]) -> str:
    """A name that sorts first. Raises OSError if there is none left."""
    number = _number(names[0]) - 1 if names else 1
    if number < 0:
        raise FileExistsError
    return f"{number:016d}{_TAKEN}"


def _number(name: str) -> int:
    digits = name.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def _count(text: bytes) -> int:
    return int(text[:20]) if text.isdigit() else 0


def _events(content: bytes) -> tuple[list[AgentEvent], int]:
    """Those that can be read, and how many can not: a power cut leaves holes."""
    events, odd = [], 0
    for line in content.splitlines():
        try:
            events.append(read(AgentEvent, line, limit=_MAX_EVENT))
        except Malformed:
            odd += 1
    return events, odd
