"""The scribe: a process for each recorded session, which turns what a terminal shows into a file.

    worker --o, r, g, e (net/ssh_tap.py)--> scribe --> <sid>.part
    monitor --ToScribe--> begin, and room for so many bytes more
    monitor <--FromScribe-- room, trouble, done

What a session shows was chosen by strangers, and a disk may be slow: so neither is the monitor's.
The scribe runs as the worker does: it has the file, two lines, and nothing else. It outlives both
to write what it has got. When it is killed, every line of the file but the last is whole.
"""

import os
import select
import socket
import time
from typing import Any

from teleport_lite.audit.cast import CastWriter
from teleport_lite.net.ssh_tap import COUNT, END, GAP, MAX_PACKET, OUTPUT, RESIZE, SIZE
from teleport_lite.node.wire import Link
from teleport_lite.proto.codec import Message

# A write to the file after so many bytes or seconds, whichever comes first.
_BATCH = 64 * 1024
_PAUSE = 1.0
# What is asked for at once grows with the session: most are short.
_FIRST_ROOM, _MOST_ROOM = 64 * 1024, 4 * 1024 * 1024
# How often a recording at best effort looks whether there is room again.
_RETRY = 5.0
# The monitor looks at a directory and answers; one that is silent so long is gone.
_ANSWER_TIME = 30.0


class Begin(Message, frozen=True):
    """The header of the recording (`CastWriter.header`)."""

    columns: int
    rows: int
    term: str
    shell: str
    title: str
    started: float  # Unix seconds
    facts: dict[str, Any]


class ToScribe(Message, frozen=True):
    begin: Begin | None = None
    room: int | None = None  # bytes more that may be written
    none: str | None = None  # there is no room, and why


class Written(Message, frozen=True):
    """The recording is on the disk."""

    size: int
    lines: int
    missing: int  # bytes of output that are not in it
    whole: bool  # it ends where the session did


class FromScribe(Message, frozen=True):
    room: int | None = None  # bytes that are wanted
    trouble: str | None = None  # output is not recorded now, and why
    done: Written | None = None


class Scribe:
    """`strict`: the first trouble is the end of it."""

    def __init__(self, *, line: socket.socket, monitor: Link, file: int, strict: bool) -> None:
        self._line, self._monitor, self._file = line, monitor, file
        self._strict = strict
        self._writer = CastWriter()
        self._batch: list[bytes] = []
        self._bytes = self._raw = 0  # of the batch: to be written, and of output
        self._size = self._lines = self._missing = self._unsaid = 0
        self._room, self._step = 0, _FIRST_ROOM
        self._began = self._due = 0.0
        self._retry: float | None = None
        self._told = self._broken = self._ended = False

    def run(self) -> None:
        begin = self._wait_for_begin()
        if begin is None:
            return  # the shell did not start
        self._monitor.set_timeout(_ANSWER_TIME)
        self._began = time.monotonic()
        self._put(self._header(begin))
        self._flush()
        while not self._broken and self._turn():
            pass
        self._end()

    def _wait_for_begin(self) -> Begin | None:
        """The worker may be far ahead of the broker, which tells the monitor what has started."""
        try:
            return self._monitor.receive(ToScribe).begin
        except EOFError:
            return None

    def _header(self, begin: Begin) -> bytes:
        return self._writer.header(
            columns=begin.columns,
            rows=begin.rows,
            started=begin.started,
            facts=begin.facts,
            title=begin.title,
            env={"TERM": begin.term, "SHELL": begin.shell},
        )

    def _turn(self) -> bool:
        """False when the session is over."""
        now = time.monotonic()
        if self._batch and now >= self._due:
            self._flush()
        wait = max(0.0, self._due - now) if self._batch else None
        if not select.select([self._line], [], [], wait)[0]:
            return True
        try:
            packet = self._line.recv(MAX_PACKET)
        except OSError:
            packet = b""
        if packet:
            self._take(packet)
        return bool(packet)

    def _take(self, packet: bytes) -> None:
        """What is no packet of ours comes from a worker that lies, about its own session."""
        at, kind, body = time.monotonic() - self._began, packet[:1], packet[1:]
        if self._retry is not None and not self._try_again(at):
            self._unsaid += len(body) if kind == OUTPUT else 0
        elif kind == OUTPUT:
            self._put(self._writer.output(at, body), len(body))
        elif kind == RESIZE and len(body) == SIZE.size:
            self._put(self._writer.resized(at, *SIZE.unpack(body)))
        elif kind == GAP and len(body) == COUNT.size:
            missing = COUNT.unpack(body)[0]
            self._missing += missing
            self._put(self._writer.gap(at, missing))
        elif kind == END:
            self._ended = True

    def _put(self, lines: bytes, raw: int = 0) -> None:
        if not self._batch:
            self._due = time.monotonic() + _PAUSE
        self._batch.append(lines)
        self._bytes += len(lines)
        self._raw += raw
        if self._bytes >= _BATCH:
            self._flush()

    # --- the file

    def _flush(self) -> None:
        batch, raw = b"".join(self._batch), self._raw
        self._batch, self._bytes, self._raw = [], 0, 0
        if not batch or self._broken:
            return
        trouble = self._get_room(len(batch)) or self._write(batch)
        if trouble:
            self._in_trouble(trouble, raw)
        else:
            self._lines += batch.count(b"\n")

    def _get_room(self, size: int) -> str:
        """ "" or why there is none. One that has lost its monitor soon loses its session too."""
        if size <= self._room:
            return ""
        step = max(size, self._step)
        self._step = min(4 * self._step, _MOST_ROOM)
        reason = self._ask(step)
        return self._ask(size) if reason and step > size else reason

    def _ask(self, size: int) -> str:
        try:
            self._monitor.send(FromScribe(room=size))
            answer = self._monitor.receive(ToScribe)
        except EOFError:
            return ""
        self._room += answer.room or 0
        return answer.none or ""

    def _write(self, batch: bytes) -> str:
        """ "" or why it was not written: then nothing of it is in the file."""
        try:
            rest = memoryview(batch)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as why:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            return (why.strerror or "can not be written").lower()
        self._size += len(batch)
        self._room = max(0, self._room - len(batch))
        return ""

    def _in_trouble(self, why: str, raw: int) -> None:
        self._unsaid += raw
        self._retry = time.monotonic() + _RETRY
        self._broken = self._strict
        if not self._told:
            self._told = True
            self._tell(FromScribe(trouble=why[:200]))

    def _try_again(self, at: float) -> bool:
        """Is there room again? Then the gap is told first."""
        if self._retry is None or time.monotonic() < self._retry:
            return False
        missing, self._unsaid, self._retry = self._unsaid, 0, None
        self._put(self._writer.gap(at, missing))
        self._flush()
        if self._retry is None:
            self._missing += missing
        else:
            self._unsaid = missing
        return self._retry is None

    def _end(self) -> None:
        at = time.monotonic() - self._began
        if self._retry is not None:
            self._retry = 0.0
            self._try_again(at)
        self._put(self._writer.end(at))
        self._flush()
        missing = self._missing + self._unsaid
        os.fsync(self._file)
        # A worker that was killed, or could not wait for us any longer, has said no end.
        whole = self._ended and not self._broken and not missing
        self._tell(
            FromScribe(
                done=Written(size=self._size, lines=self._lines, missing=missing, whole=whole)
            )
        )

    def _tell(self, said: FromScribe) -> None:
        try:
            self._monitor.send(said)
        except EOFError:
            return  # the file tells
