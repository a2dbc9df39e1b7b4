"""Recordings that auth keeps: who may see them, and when they go. How they come is uploads.py."""

import base64
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from teleport_lite.ambient import Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.sessions import EXAMPLE, SessionDesk
from teleport_lite.auth.shelf import Shelf
from teleport_lite.auth.uploads import UploadDesk
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.event import Event
from teleport_lite.model.names import UUID, checked
from teleport_lite.model.recording import Recording
from teleport_lite.proto.codec import Message
from teleport_lite.proto.recording import RecordingList, RecordingRead, RecordingRemove
from teleport_lite.proto.resource import moment, read_moment
from teleport_lite.store.protocols import Store, Tx

MAX_LIST = 1000
# Each word is looked for in each recording.
MAX_SEARCH = 1024
_PAGE = 500
# A person who plays a recording reads it in pieces; that is one access, not a hundred.
ONE_ACCESS = 3600.0
MAX_ACCESSES = 16_384
_BEGINNING = datetime.min.replace(tzinfo=UTC)
# Removed in one transaction.
_BATCH = 100

Doc = dict[str, Any]
# An auth server, by UUID; a path; what is asked. Raises Unavailable, or what it answers.
Ask = Callable[[str, str, Message], Doc]
PIECE, DROPPED = "/v1/auth/recordings/piece", "/v1/auth/recordings/dropped"


class RecordingDesk:
    """Safe from several threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        trail: Trail,
        sessions: SessionDesk,
        uploads: UploadDesk,
        shelf: Shelf | None,
        retention: timedelta,
        me: Callable[[], str] = str,
        ask: Ask | None = None,
    ) -> None:
        """Recordings are removed `retention` after they were stored; zero keeps them for ever. `me`
        is the UUID of this auth server, `ask` asks others."""
        self._me, self._ask = me, ask
        self._clock, self._store, self._trail = clock, store, trail
        self._sessions, self._uploads, self._shelf = sessions, uploads, shelf
        self._retention = retention
        self._guard = threading.Lock()  # guards the next one
        self._reading: dict[tuple[str, str], float] = {}  # (who, sid): since when
        if shelf is not None:
            shelf.tidy(lambda sid: store.recording(sid) is not None)

    def listing(self, caller: Caller, asked: RecordingList, *, everything: bool) -> Doc:
        """The latest first; without `everything` those of the caller's own sessions. Raises
        Malformed, NotFound for an `after` that is gone."""
        if not 1 <= asked.limit <= MAX_LIST:
            raise Malformed(f"limit must be between 1 and {MAX_LIST}")
        if len(asked.search) > MAX_SEARCH:
            raise Malformed(f"a search has at most {MAX_SEARCH} characters")
        user = asked.user if everything else caller.name
        if not everything and asked.user not in ("", caller.name):
            return {"recordings": []}
        since = read_moment(asked.since, "since") if asked.since else None
        until = read_moment(asked.until, "until") if asked.until else None
        words, before = asked.search.lower().split(), self._after(asked.after)
        found: list[Recording] = []
        while len(found) < asked.limit:
            page = self._store.recordings(
                since=since, until=until, user=user, before=before, limit=_PAGE
            )
            found += [each for each in page if _has(each, words)]
            if len(page) < _PAGE:
                break
            before = page[-1]
        return {"recordings": [_doc(each) for each in found[: asked.limit]]}

    def read(self, caller: Caller, asked: RecordingRead, *, everything: bool) -> Doc:
        """A piece of one: `data` in base64, and where the `next` piece begins, or null.

        Who begins to read is in the trail before the first byte is answered. Raises NotFound,
        Conflict for a session that goes on, Denied, Unavailable.
        """
        kept = self._known(asked.sid)
        facts = {
            "sid": kept.sid,
            "user": caller.label,
            "addr.remote": caller.address,
            "owner": kept.user,
            "server_id": kept.host_id,
        }
        if not everything and kept.user != caller.name:
            why = "no role allows read on session, and it is not a session of yours"
            self._trail.note("recording.access", "T2012E", Denied.code, **facts, reason=why)
            raise Denied(why, hint="tctl get roles shows what each allows")
        if self._shelf is None:
            raise Unavailable("this auth service keeps no recordings")
        if self._begins(caller, asked):
            self._trail.note("recording.access", "T2012I", **facts)
        return _doc(kept) | self._piece(kept, asked)

    def piece(self, asked: RecordingRead) -> Doc:
        """For another auth server, which has decided who may. Raises as `read`."""
        kept = self._known(asked.sid)
        if not self._is_here(kept):
            raise NotFound(f"recording {kept.sid} is not kept here")
        return self._piece(kept, asked)

    def dropped(self, asked: RecordingRemove) -> Doc:
        """Another auth server has removed it from the index: the file goes. Raises Conflict if it
        stands there."""
        checked(UUID, asked.sid, "session id", example=EXAMPLE)
        if not self._uploads.forget_file(asked.sid):
            raise Conflict(f"recording {asked.sid} is in the index")
        return {"sid": asked.sid}

    def _piece(self, kept: Recording, asked: RecordingRead) -> Doc:
        if not self._is_here(kept):
            assert self._ask is not None
            there: Doc = self._ask(kept.kept_by, PIECE, asked)
            return {"data": there.get("data", ""), "next": there.get("next")}
        assert self._shelf is not None
        data, following = self._shelf.read(kept.sid, asked.at)
        return {"data": base64.b64encode(data).decode(), "next": following}

    def _is_here(self, kept: Recording) -> bool:
        """One of before there were several, and one whose file was moved here, is read here."""
        if self._ask is None or kept.kept_by in ("", self._me()):
            return True
        return self._shelf is not None and self._shelf.has(kept.sid)

    def remove(self, caller: Caller, asked: RecordingRemove) -> Doc:
        """Raises NotFound."""
        facts = {"sid": asked.sid[:64], "user": caller.label, "addr.remote": caller.address}
        with self._trail.attempt(
            "recording.delete", ok="TSR01I", refused="TSR01E", **facts
        ) as entry:
            kept = self._known(asked.sid)
            entry.facts |= {"owner": kept.user, "server_id": kept.host_id, "cause": "asked"}

            def gone(tx: Tx) -> None:
                if not tx.remove_recording(kept.sid):
                    raise NotFound(f"recording {kept.sid} is gone already")
                entry.commit(tx)

            self._store.write(gone)
        self._off_the_disk(kept)
        return {"sid": kept.sid}

    def sweep(self) -> int:
        """Remove what is older than the retention, each with its event. How many."""
        self._uploads.tidy()
        gone = 0
        now = self._clock.now()
        # Whoever writes 999999d means for ever.
        ends = self._retention and self._retention < now - _BEGINNING
        while ends and self._shelf is not None:
            old = self._store.old_recordings(now - self._retention, limit=_BATCH)

            def remove(tx: Tx, old: list[Recording] = old) -> list[Recording]:
                removed = [each for each in old if tx.remove_recording(each.sid)]
                for each in removed:
                    tx.record(self._retired(each))
                return removed

            removed = self._store.write(remove) if old else []
            for each in removed:
                self._off_the_disk(each)
            gone += len(removed)
            if len(old) < _BATCH:
                break
        return gone

    def _retired(self, kept: Recording) -> Event:
        facts = {
            "sid": kept.sid,
            "owner": kept.user,
            "server_id": kept.host_id,
            "cause": "retention",
        }
        return Event(
            kind="recording.delete",
            code="TSR01I",
            at=self._clock.now(),
            outcome="ok",
            facts=facts,
        )

    def _off_the_disk(self, kept: Recording) -> None:
        """A crash before this leaves a file that no row knows; the next start removes it. So it
        does with the file of another auth server that can not be asked now."""
        if not self._is_here(kept):
            assert self._ask is not None
            with suppress(Error):
                self._ask(kept.kept_by, DROPPED, RecordingRemove(sid=kept.sid))
            return
        self._uploads.forget_file(kept.sid)

    def _known(self, sid: str) -> Recording:
        checked(UUID, sid, "session id", example=EXAMPLE)
        kept = self._store.recording(sid)
        if kept is not None:
            return kept
        if self._sessions.live(sid) is not None:
            raise Conflict(f"session {sid} still goes on", hint=f"tsh join {sid}")
        if self._sessions.known(sid) is not None:
            raise Unavailable(
                f"the recording of session {sid} has not come from its host yet",
                hint="tsh recordings ls, in a minute",
            )
        raise NotFound(f"there is no recording of session {sid}", hint="tsh recordings ls")

    def _after(self, sid: str) -> Recording | None:
        return self._known(sid) if sid else None

    def _begins(self, caller: Caller, asked: RecordingRead) -> bool:
        """Is this an access of its own, or does it go on with one that was told?"""
        who, now = (caller.label, asked.sid), self._clock.monotonic()
        with self._guard:
            since = self._reading.get(who)
            if asked.at and since is not None and now - since < ONE_ACCESS:
                return False
            if len(self._reading) >= MAX_ACCESSES:
                self._reading.clear()
            self._reading[who] = now
        return True


def _doc(kept: Recording) -> Doc:
    return {
        "sid": kept.sid,
        "kind": "ssh",
        "user": kept.user,
        "login": kept.login,
        "host_id": kept.host_id,
        "host_name": kept.host_name,
        "command": kept.command,
        "started": moment(kept.started),
        "ended": moment(kept.ended),
        "complete": kept.complete,
        "size": kept.size,
        "width": kept.width,
        "height": kept.height,
    }


def _has(kept: Recording, words: list[str]) -> bool:
    texts = (kept.sid, kept.user, kept.login, kept.host_name, kept.host_id, kept.command)
    text = "\n".join(texts).lower()
    return all(word in text for word in words)
