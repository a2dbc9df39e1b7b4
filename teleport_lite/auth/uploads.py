"""Recordings on their way from hosts: one for each host, in parts, checked as they are stored.

What has come of an upload is in memory and in a draft on the disk. If auth restarts in between,
the host begins again: it has everything until auth says that the recording is durable.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from teleport_lite.ambient import Clock
from teleport_lite.audit.trail import Entry, Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.sessions import EXAMPLE, SessionDesk
from teleport_lite.auth.shelf import NO_ROOM, Draft, Shelf, no_room, packed
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.names import UUID, checked
from teleport_lite.model.recording import Recording
from teleport_lite.proto.cast import Header
from teleport_lite.proto.cast_check import CastCheck
from teleport_lite.proto.recording import (
    MAX_PART,
    UploadBegin,
    UploadEnd,
    UploadPart,
    UploadState,
)
from teleport_lite.proto.resource import moment
from teleport_lite.store.protocols import Store, Tx

log = logging.getLogger("teleport_lite.auth")

# Hosts that send at once: after auth was away, a fleet takes turns.
MAX_UPLOADS = 64
# A host that has sent nothing for this long gives way to another.
IDLE = 120.0
# Hosts ask again every two minutes while there is no room; the trail is told once an hour.
TELL_FULL = 3600.0
# Text of terminals becomes a tenth. What would not fit if it became this much less is not begun.
BEST_PACKED = 20
# Bytes of one recording. A terminal that shows 1 MB/s for an hour fits.
MAX_SIZE = 4 * 1024 * 1024 * 1024


@dataclass(slots=True, eq=False)
class _Upload:
    host_id: str
    begun: UploadBegin
    draft: Draft
    check: CastCheck
    touched: float
    received: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    over: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)  # guards all of the above


class UploadDesk:
    """Safe from several threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        trail: Trail,
        sessions: SessionDesk,
        shelf: Shelf | None,
        quota: int,
        me: Callable[[], str] = str,
    ) -> None:
        """Without a `shelf` nothing is kept. `quota` is in bytes; 0 leaves it to the disk. `me` is
        the UUID of this auth server."""
        self._me = me
        self._clock, self._store, self._trail = clock, store, trail
        self._sessions, self._shelf, self._quota = sessions, shelf, quota
        self._guard = threading.Lock()  # guards the three below
        self._uploads: dict[str, _Upload] = {}  # by host
        self._used = shelf.used() if shelf is not None else 0
        self._told_full = -TELL_FULL
        self._beginning = threading.Lock()  # one at a time: a host has one upload
        self._ending = threading.Lock()  # one at a time: a session has one recording

    def begin(self, caller: Caller, asked: UploadBegin) -> UploadState:
        """Raises Denied for sessions of other hosts, Conflict if there is another recording of
        the session, Unavailable if there is no room now, Malformed."""
        shelf = self._checked(asked)
        try:
            if self._kept(caller, asked):
                return UploadState(received=asked.size, durable=True)
        except (Denied, Conflict) as why:
            self._refused(caller, asked.sid, why)
            raise
        with self._beginning:
            return self._begin(shelf, caller, asked)

    def _begin(self, shelf: Shelf, caller: Caller, asked: UploadBegin) -> UploadState:
        with self._guard:
            going_on = self._uploads.get(caller.name)
        if going_on is not None and _same(going_on.begun, asked):
            with _turn(going_on):
                if not going_on.over:
                    going_on.touched = self._clock.monotonic()
                    return UploadState(received=going_on.received)
        if going_on is not None:
            self._drop(going_on)
        self._check_room(caller, asked.sid, asked.size // BEST_PACKED)
        self._make_room_for_one()
        facts = self._facts(caller, asked)
        draft = shelf.begin(asked.sid, caller.name)
        fresh = _Upload(caller.name, asked, draft, CastCheck(facts), self._clock.monotonic())
        with self._guard:
            self._uploads[caller.name] = fresh
        return UploadState(received=0)

    def part(self, caller: Caller, asked: UploadPart) -> UploadState:
        """Raises NotFound if no upload has begun, Malformed, Unavailable if there is no room, or
        another call is at work on it."""
        upload = self._upload(caller, asked.sid)
        if not 0 < len(asked.data) <= MAX_PART:
            raise Malformed(f"a part of a recording has 1 to {MAX_PART} bytes")
        if hashlib.sha256(asked.data).hexdigest() != asked.digest:
            raise Malformed("a part of a recording has changed on its way")
        with _turn(upload):
            if upload.over:
                raise _not_begun(asked.sid)
            upload.touched = self._clock.monotonic()
            if asked.at != upload.received:
                return UploadState(received=upload.received)
            try:
                self._add(caller, upload, asked.data)
            except BaseException:
                self._forget(upload)  # what was read of a part is not unread
                raise
            return UploadState(received=upload.received)

    def end(self, caller: Caller, asked: UploadEnd) -> UploadState:
        """Durable, with its event, when this returns. Raises NotFound, Malformed, Conflict,
        Unavailable."""
        kept = self._store.recording(checked(UUID, asked.sid, "session id", example=EXAMPLE))
        if kept is not None and kept.host_id == caller.name:  # the answer was lost
            with suppress(NotFound, Unavailable):
                self._drop(self._upload(caller, asked.sid))
            return UploadState(received=kept.size, durable=True)
        upload = self._upload(caller, asked.sid)
        with _turn(upload):
            if upload.over:
                raise _not_begun(asked.sid)
            if upload.received != upload.begun.size or not upload.received:
                return UploadState(received=upload.received)
            try:
                self._end(caller, upload)
            finally:
                self._forget(upload)
        return UploadState(received=upload.received, durable=True)

    def forget_file(self, sid: str) -> bool:
        """Of a recording that was taken out of the index. False, and it stays, if one of its
        session stands there: the host may have sent it anew. Raises Unavailable."""
        with self._ending:
            if self._store.recording(sid) is not None:
                return False
            freed = self._shelf.remove(sid) if self._shelf is not None else 0
        with self._guard:
            self._used -= freed
        return True

    def tidy(self) -> None:
        """Drop uploads that do not go on. Called now and then."""
        for upload in self._idle():
            with suppress(Unavailable):
                self._drop(upload)

    def _add(self, caller: Caller, upload: _Upload, data: bytes) -> None:
        if upload.received + len(data) > upload.begun.size:
            raise Malformed("a recording is longer than its host has said")
        lines = packed(upload.check.feed(data))
        self._check_room(caller, upload.begun.sid, len(lines))
        upload.draft.add(lines)
        upload.received += len(data)
        upload.digest.update(data)

    def _end(self, caller: Caller, upload: _Upload) -> None:
        sid, said = upload.begun.sid, upload.begun.facts
        recording = self._recording(upload)
        facts = {
            "sid": sid,
            "user": said.user[:128],
            "login": said.login[:64],
            "server_id": caller.name,
            "addr.remote": caller.address,
            "size": str(upload.received),
            "complete": str(recording.complete).lower(),
        }
        trail = self._trail.attempt("session.upload", ok="T2005I", refused="T2005E", **facts)
        with trail as entry:
            if upload.digest.hexdigest() != upload.begun.digest:
                raise Malformed(f"recording {sid} is not the one that was announced")
            upload.draft.sync()  # the slow part, which others need not wait for
            with self._ending:
                self._keep(caller, upload, recording, entry)
        with self._guard:
            self._used += recording.stored

    def _keep(self, caller: Caller, upload: _Upload, recording: Recording, entry: Entry) -> None:
        self._kept(caller, upload.begun)
        upload.draft.finish()

        def put(tx: Tx) -> None:
            if not tx.add_recording(recording):
                raise Conflict(f"there is a recording of session {recording.sid} already")
            entry.commit(tx)

        try:
            self._store.write(put)
        except Error:
            self._take_back(recording.sid)
            raise

    def _take_back(self, sid: str) -> None:
        """A file that no row knows; what this leaves, the next start removes."""
        assert self._shelf is not None
        with suppress(Error):
            if self._store.recording(sid) is None:
                self._shelf.remove(sid)

    def _recording(self, upload: _Upload) -> Recording:
        check, said, now = upload.check, upload.begun.facts, self._clock.now()
        header = check.header or Header()
        started = _moment(said.started, now)
        return Recording(
            sid=upload.begun.sid,
            host_id=upload.host_id,
            host_name=self._host_name(upload.host_id),
            user=said.user[:128],
            login=said.login[:64],
            command=said.command[:1024],
            started=started,
            ended=max(started, _moment(said.ended, now)),
            complete=said.complete and not check.dropped,
            size=upload.received,
            stored=upload.draft.stored,
            events=check.events,
            dropped=check.dropped,
            width=header.width,
            height=header.height,
            digest=upload.begun.digest,
            stored_at=now,
            kept_by=self._me(),
        )

    def _facts(self, caller: Caller, asked: UploadBegin) -> dict[str, object]:
        """For the header of the file: what the index says, for whoever gets the file alone."""
        said, now = asked.facts, self._clock.now()
        return {
            "sid": asked.sid,
            "user": said.user[:128],
            "login": said.login[:64],
            "command": said.command[:1024],
            "host_id": caller.name,
            "host_name": self._host_name(caller.name),
            "started": moment(_moment(said.started, now)),
        }

    def _checked(self, asked: UploadBegin) -> Shelf:
        checked(UUID, asked.sid, "session id", example=EXAMPLE)
        if not 0 < asked.size <= MAX_SIZE:
            raise Malformed(f"a recording has 1 to {MAX_SIZE} bytes, not {asked.size}")
        if self._shelf is None:
            raise Unavailable("this auth service keeps no recordings")
        return self._shelf

    def _kept(self, caller: Caller, asked: UploadBegin) -> bool:
        """Is it here already? Raises Denied or Conflict for what may not be sent."""
        seen, kept = self._sessions.known(asked.sid), self._store.recording(asked.sid)
        owner = kept.host_id if kept else seen or caller.name
        if owner != caller.name:
            raise Denied(f"session {asked.sid} is of another host")
        if kept is not None and kept.digest != asked.digest:
            raise Conflict(f"there is another recording of session {asked.sid} already")
        return kept is not None

    def _refused(self, caller: Caller, sid: str, why: Error) -> None:
        facts = {"sid": sid, "server_id": caller.name, "addr.remote": caller.address}
        self._trail.note("session.upload", "T2005E", why.code, **facts, reason=why.message)

    def _check_room(self, caller: Caller, sid: str, more: int) -> None:
        """Raises Unavailable, which is told in the trail now and then."""
        assert self._shelf is not None
        with self._guard:
            drafts = sum(each.draft.stored for each in self._uploads.values())
            used = self._used + drafts + more
        try:
            if self._quota and used > self._quota:
                raise no_room(f"auth_service.recording_quota is {self._quota} bytes")
            self._shelf.check_disk(more)
        except Unavailable as why:
            if why.message.startswith(NO_ROOM) and self._tells_full():
                log.warning("%s; hosts keep their recordings until there is", why.message)
                self._refused(caller, sid, why)
            raise

    def _tells_full(self) -> bool:
        now = self._clock.monotonic()
        with self._guard:
            tells = now - self._told_full >= TELL_FULL
            self._told_full = now if tells else self._told_full
        return tells

    def _make_room_for_one(self) -> None:
        with self._guard:
            many = len(self._uploads) >= MAX_UPLOADS
        if many and not (idle := self._idle()):
            raise Unavailable("too many hosts send recordings, wait for your turn")
        if many:
            self._drop(min(idle, key=lambda each: each.touched))

    def _idle(self) -> list[_Upload]:
        since = self._clock.monotonic() - IDLE
        with self._guard:
            return [each for each in self._uploads.values() if each.touched < since]

    def _upload(self, caller: Caller, sid: str) -> _Upload:
        with self._guard:
            upload = self._uploads.get(caller.name)
        if upload is None or upload.begun.sid != sid:
            raise _not_begun(sid)
        return upload

    def _drop(self, upload: _Upload) -> None:
        """Raises Unavailable if another call is at work on it."""
        with _turn(upload):
            self._forget(upload)

    def _forget(self, upload: _Upload) -> None:
        """Whoever calls holds its turn. After `finish` there is no draft left to drop, and after
        the first time its name may be that of the next one."""
        if upload.over:
            return
        upload.over = True
        upload.draft.drop()
        with self._guard:
            if self._uploads.get(upload.host_id) is upload:
                del self._uploads[upload.host_id]

    def _host_name(self, host_id: str) -> str:
        known = self._store.host(host_id)
        return known[0].name if known else ""


@contextmanager
def _turn(upload: _Upload) -> Iterator[None]:
    """Hosts send one part after the other. Nobody waits: one that sends many at once must not keep
    all threads of auth. Raises Unavailable."""
    if not upload.turn.acquire(blocking=False):
        raise Unavailable(f"another call is at work on recording {upload.begun.sid}")
    try:
        yield
    finally:
        upload.turn.release()


def _same(one: UploadBegin, other: UploadBegin) -> bool:
    return (one.sid, one.size, one.digest) == (other.sid, other.size, other.digest)


def _not_begun(sid: str) -> NotFound:
    return NotFound(f"no upload of recording {sid[:64]!a} has begun")


def _moment(said: float, now: datetime) -> datetime:
    """Not from the future; a time that is none is now."""
    try:
        return min(max(datetime.fromtimestamp(said, UTC), now - timedelta(days=36_500)), now)
    except (ValueError, OverflowError, OSError):
        return now
