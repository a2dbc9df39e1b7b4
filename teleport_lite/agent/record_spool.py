"""Recordings of this host that wait for auth, in data_dir/log/records.

    <sid>.part                 being written; its writer holds a lock (flock(2)) on it
    <sid>.cast, <sid>.json     finished: the asciicast, and what is known of the session

A .part that nobody holds was left by a crash. It is finished here, up to its last whole line, and
goes to auth as incomplete. Only root writes to the directory.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.names import UUID
from teleport_lite.pki.keyfile import read_secret, write_secret
from teleport_lite.proto.cast import MAX_WRITTEN_LINE, read_facts
from teleport_lite.proto.codec import read_any
from teleport_lite.proto.recording import MAX_PART, RecordingFacts, UploadBegin, UploadPart

PLACE = Path("log") / "records"
CAST, PART, FACTS = ".cast", ".part", ".json"
# Between the making of a file and the lock on it, or the writing of its facts, lies less.
SETTLED = 10.0
MAX_FACTS = 64 * 1024
# A server waits 20 s for a part: enough for this much on a line of 9 kB/s.
USUAL_PART = 128 * 1024


@dataclass(frozen=True, slots=True)
class Waiting:
    """A finished recording. `parts` reads it again, a bounded piece at a time."""

    path: Path
    begin: UploadBegin

    def parts(self, at: int) -> Iterator[UploadPart]:
        """From byte `at` on, in whole lines. Raises Malformed for a line that no part can hold."""
        with _opened(self.path) as file:
            os.lseek(file, at, os.SEEK_SET)
            rest = b""
            while at < self.begin.size:
                more = os.read(file, min(USUAL_PART, self.begin.size - at - len(rest)))
                rest += more
                end = rest.rfind(b"\n") + 1
                if not end and more and len(rest) <= MAX_PART - USUAL_PART:
                    continue
                if not end:  # or the file has changed under our hands
                    raise Malformed(f"{self.path} has a line longer than a part may be")
                data, rest = rest[:end], rest[end:]
                digest = hashlib.sha256(data).hexdigest()
                yield UploadPart(sid=self.begin.sid, at=at, data=data, digest=digest)
                at += len(data)


class RecordSpool:
    """For one process at a time: whoever holds `taken`."""

    def __init__(self, data_dir: Path) -> None:
        self.place = data_dir / PLACE
        self._guard = Lock()  # guards the next one
        self._held = -1  # the directory, while it is ours

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """False if there is nothing, or another process of this host is at it."""
        try:
            directory = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            yield False
            return
        try:
            ours = _locked(directory)
            with self._guard:
                self._held = directory if ours else -1
            yield ours
        finally:
            with self._guard:
                self._held = -1
                os.close(directory)

    def let_go(self) -> None:
        """From another thread, when the process ends: a child of ours may live on, and would keep
        the next daemon out for as long."""
        with self._guard, suppress(OSError):
            if self._held >= 0:
                fcntl.flock(self._held, fcntl.LOCK_UN)

    def finish_orphans(self, now: float) -> int:
        """Finish what crashed writers have left; how many. `now` is in Unix seconds.

        One that can not be finished now waits: on a full disk the others must go, to make room.
        """
        done = 0
        for path in self._named(PART):
            with suppress(Error, OSError):
                done += now - _changed(path) >= SETTLED and self._finish(path)
        return done

    def waiting(self, now: float) -> list[str]:
        """Ids of finished sessions, the oldest first. Facts whose recording is gone are removed."""
        parts = self._named(PART)  # first: one that is finished meanwhile is seen as the other
        casts = sorted(self._named(CAST), key=lambda path: (_changed(path), path.name))
        there = {path.stem for path in (*parts, *casts)}
        for path in self._named(FACTS):
            if path.stem not in there and now - _changed(path) >= SETTLED:
                path.unlink(missing_ok=True)
        settled = (
            path
            for path in casts
            if path.with_suffix(FACTS).exists() or now - _changed(path) >= SETTLED
        )
        return [path.stem for path in settled]

    def open(self, sid: str) -> Waiting:
        """Raises Malformed for what can not be sent, NotFound, Unavailable."""
        path = self.place / f"{sid}{CAST}"
        size, digest, first = _measured(path)
        if not size:
            raise Malformed(f"{path} holds no whole line")
        facts = self._facts(path, first)
        return Waiting(path, UploadBegin(sid=sid, size=size, digest=digest, facts=facts))

    def remove(self, sid: str) -> None:
        """In this order: facts alone are known to be of no use."""
        for suffix in (CAST, FACTS):
            with _told(self.place):
                (self.place / f"{sid}{suffix}").unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes of the recordings that wait."""
        return sum(path.stat().st_size for path in self._named(CAST))

    def _named(self, suffix: str) -> list[Path]:
        """Regular files of sessions; whatever else may be there is none of ours."""
        found = []
        with _told(self.place), os.scandir(self.place) as entries:
            for entry in entries:
                stem, dot, rest = entry.name.partition(".")
                ours = f"{dot}{rest}" == suffix and UUID.fullmatch(stem)
                if ours and entry.is_file(follow_symlinks=False):
                    found.append(self.place / entry.name)
        return found

    def _finish(self, path: Path) -> bool:
        with _opened(path, os.O_RDWR) as file:
            if not _locked(file) or not _same_file(path, file):
                return False
            size, _, first = _measured(path)
            os.ftruncate(file, size)
            if not size:  # not even the header was written
                path.unlink(missing_ok=True)
                return False
            facts = read_facts(first) | {"complete": False, "ended": os.fstat(file).st_mtime}
            os.fsync(file)
            write_secret(path.with_suffix(FACTS), json.dumps(facts).encode())
            path.rename(path.with_suffix(CAST))
        return True

    def _facts(self, path: Path, first: bytes) -> RecordingFacts:
        """Of the .json; without one, of the header, as incomplete."""
        try:
            raw = read_secret(path.with_suffix(FACTS), limit=MAX_FACTS)
            found = read_any(raw, limit=MAX_FACTS)
        except (NotFound, Malformed, Denied):
            found = None
        if not isinstance(found, dict):
            found = read_facts(first) | {"complete": False}
        ended = _changed(path)
        return RecordingFacts(
            user=_text(found, "user"),
            login=_text(found, "login"),
            command=_text(found, "command"),
            started=_number(found, "started", ended),
            ended=_number(found, "ended", ended),
            complete=found.get("complete") is True,
        )


def _measured(path: Path) -> tuple[int, str, bytes]:
    """Up to the last line feed: bytes, SHA-256; and the first line."""
    digest, size, rest, first = hashlib.sha256(), 0, b"", b""
    with _opened(path) as file, _told(path):
        while chunk := os.read(file, MAX_PART):
            rest += chunk
            end = rest.rfind(b"\n") + 1
            if not first and end:
                first = rest[: rest.find(b"\n")]
            digest.update(rest[:end])
            size, rest = size + end, rest[end:]
            if len(rest) > MAX_WRITTEN_LINE + MAX_PART:
                break  # no line of ours; what is before it can be sent
    return size, digest.hexdigest(), first


@contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Raises NotFound or Unavailable."""
    with _told(path):
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    """The lock goes when the descriptor is closed."""
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _same_file(path: Path, file: int) -> bool:
    """Its writer may have renamed it between our look and our lock."""
    try:
        there = path.stat(follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(file))


def _changed(path: Path) -> float:
    try:
        return path.stat(follow_symlinks=False).st_mtime
    except OSError:  # gone meanwhile
        return 0.0


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as why:
        raise NotFound(f"{path} does not exist") from why
    except OSError as why:
        raise Unavailable(f"{path}: {(why.strerror or str(why)).lower()}") from why


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _number(found: dict[str, Any], key: str, otherwise: float) -> float:
    value = found.get(key)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    return float(value) if usable else otherwise  # type: ignore[arg-type]  # it is a number here
