"""Backups of a running cluster: one moment of the store, handed out piece by piece.

Nothing is put down on the disk of auth, which may be full. The moment is held by a read
transaction, for as long as somebody asks for pieces of it.
"""

import base64
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from teleport_lite import __version__
from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Entry, Trail
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.life import LIFE, read_kept
from teleport_lite.auth.shelf import Shelf
from teleport_lite.auth.start import NAME
from teleport_lite.errors import Conflict, Malformed, NotFound, Unavailable
from teleport_lite.proto.backup import MAX_PIECE, BackupBegin, BackupEnd, BackupRead
from teleport_lite.proto.backup_file import Draft, Header
from teleport_lite.proto.resource import moment
from teleport_lite.store.protocols import Snapshot, Store

log = logging.getLogger("teleport_lite.auth")

# Each holds a transaction open, and SQLite's journal grows meanwhile.
MAX_OPEN = 2
# Whoever has not asked for so long has gone, or has lost the line.
IDLE = 60.0
BEGIN_AGAIN = "tctl backup create FILE"

Doc = dict[str, Any]
# The bytes of a recording; raises NotFound if its file is not here.
Read = Callable[[str], Iterator[bytes]]


@dataclass(slots=True)
class _Job:
    owner: str
    snapshot: Snapshot
    parts: Iterator[bytes]
    asked: float  # monotonic
    turn: threading.RLock = field(default_factory=threading.RLock)  # guards what follows
    at: int = 0  # where the next piece begins
    last: tuple[int, bytes] = (-1, b"")  # the one before, for an answer that was lost
    over: bool = False

    def piece(self, at: int) -> tuple[bytes, int | None]:
        if at == self.last[0] and at != self.at:
            return self.last[1], self.at
        if at != self.at:
            raise Malformed(f"the next piece of this backup begins at {self.at}, not at {at}")
        found = bytearray()
        for part in self.parts:
            found += part
            if len(found) >= MAX_PIECE:
                break
        else:
            self.over = True
        self.last = at, bytes(found)
        self.at += len(found)
        return self.last[1], None if self.over else self.at


class BackupDesk:
    """Safe from several threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        store: Store,
        trail: Trail,
        cluster: str,
        shelf: Shelf | None,
    ) -> None:
        self._clock, self._chance, self._store, self._trail = clock, chance, store, trail
        self._cluster, self._shelf = cluster, shelf
        self._guard = threading.Lock()  # guards the next one
        self._jobs: dict[str, _Job] = {}

    def begin(self, caller: Caller, asked: BackupBegin) -> Doc:
        """Raises Conflict when there are too many already, Unavailable.

        Its event is written before the moment that is taken, so a restored trail ends with it.
        """
        facts = {"user": caller.label, "addr.remote": caller.address}
        with self._trail.attempt("backup.create", ok="TLB00I", refused="TLB00E", **facts) as entry:
            entry.facts["recordings"] = "yes" if asked.recordings else "no"
            self.tidy()
            with self._guard:
                self._check_room()
            self._note(caller, entry)
            snapshot = self._store.snapshot()
            try:
                header = header_of(
                    snapshot,
                    cluster=self._cluster,
                    made=moment(self._clock.now()) or "",
                    origin="backup",
                    recordings=asked.recordings,
                )
                read = self._shelf.raw if asked.recordings and self._shelf is not None else None
                id = self._keep(caller, snapshot, parts(snapshot, header, read))
            except BaseException:
                snapshot.close()
                raise
        rows = sum(table.rows for table in header.tables.values())
        return {
            "id": id,
            "cluster": header.cluster,
            "rows": rows,
            "recordings": header.recordings,
            "recordings_size": header.recordings_size,
        }

    def read(self, caller: Caller, asked: BackupRead) -> Doc:
        """A piece: `data` in base64, and where the `next` begins, or null. Raises NotFound,
        Malformed for another `at`, Unavailable."""
        job = self._job(caller, asked.id)
        with job.turn:
            try:
                data, following = job.piece(asked.at)
            except Malformed:
                raise
            except BaseException:
                self._drop(asked.id)
                raise
            job.asked = self._clock.monotonic()
        return {"data": base64.b64encode(data).decode(), "next": following}

    def end(self, caller: Caller, asked: BackupEnd) -> Doc:
        """What is not there need not be ended."""
        with self._guard:
            job = self._jobs.get(asked.id)
        if job is not None and job.owner == caller.label:
            self._drop(asked.id)
        return {}

    def tidy(self) -> None:
        """Let go of those that nobody asks for any more."""
        with self._guard:
            jobs = list(self._jobs.items())
        for id, job in jobs:
            if not job.turn.acquire(blocking=False):
                continue  # a piece of it is being read
            try:
                if self._clock.monotonic() - job.asked >= IDLE:
                    self._drop(id)
            finally:
                job.turn.release()

    def _note(self, caller: Caller, entry: Entry) -> None:
        """A full disk is no time to go without a backup: root of this host, who could copy the
        database, gets one; the log has it. Nobody else does without an event. Raises Unavailable.
        """
        try:
            self._store.write(entry.commit)
        except Unavailable as why:
            if caller.kind is not Kind.ADMIN:
                raise
            log.warning("a backup is taken, and the trail can not have it: %s", why.message)
            entry.durable = True

    def _check_room(self) -> None:
        """Under the guard. Raises Conflict."""
        if len(self._jobs) >= MAX_OPEN:
            raise Conflict(
                f"{len(self._jobs)} backups are being taken, which is the most at once",
                hint=f"{BEGIN_AGAIN}, in a minute",
            )

    def _keep(self, caller: Caller, snapshot: Snapshot, found: Iterator[bytes]) -> str:
        id = self._chance.token(16)
        with self._guard:
            self._check_room()  # again: others began meanwhile
            self._jobs[id] = _Job(caller.label, snapshot, found, self._clock.monotonic())
        return id

    def _job(self, caller: Caller, id: str) -> _Job:
        with self._guard:
            job = self._jobs.get(id)
        if job is None or job.owner != caller.label:
            raise NotFound(
                "this backup is not under way: nobody asked for it for a minute, auth was started "
                "again, or another auth server was asked",
                hint=BEGIN_AGAIN,
            )
        return job

    def _drop(self, id: str) -> None:
        with self._guard:
            job = self._jobs.pop(id, None)
        if job is not None:
            with job.turn:  # not in the middle of a piece
                job.snapshot.close()


def header_of(
    snapshot: Snapshot, *, cluster: str, made: str, origin: str, recordings: bool
) -> Header:
    """Raises Unavailable."""
    kept = [size for _, size in _recordings(snapshot)] if recordings else []
    return Header(
        cluster=cluster,
        version=__version__,
        schema=snapshot.schema,
        made=made,
        origin=origin,
        keys=tuple(sorted(snapshot.sealed_under())),
        tables=snapshot.tables,
        recordings=len(kept),
        recordings_size=sum(kept),
        life=read_kept(_meta(snapshot, LIFE)),
    )


def parts(snapshot: Snapshot, header: Header, read: Read | None) -> Iterator[bytes]:
    """The file, up to its `end`; recordings by `read`, none without it. Raises Unavailable."""
    draft, missing = Draft(), 0
    yield draft.header(header)
    for table in snapshot.tables:
        yield from draft.rows(table, snapshot.rows(table))
    for sid, _ in _recordings(snapshot) if header.recordings else ():
        at = 0
        try:
            for data in read(sid) if read is not None else ():
                yield draft.piece(sid, at, data)
                at += len(data)
        except NotFound:
            pass  # removed since, or kept by another auth server
        if not at:
            missing += 1
    yield draft.end(snapshot.vouch(draft.digest), missing=missing)


def cluster_of(snapshot: Snapshot) -> str:
    """The name that stands in it. Raises Unavailable for a store without a cluster."""
    name = _meta(snapshot, NAME)
    if name is None:
        raise Unavailable("the store holds no cluster yet", hint="teleport-lite start")
    return name


def _meta(snapshot: Snapshot, wanted: str) -> str | None:
    for key, value in _columns(snapshot, "meta", "key", "value"):
        if key == wanted and isinstance(value, str):
            return value
    return None


def _recordings(snapshot: Snapshot) -> Iterator[tuple[str, int]]:
    for sid, size in _columns(snapshot, "recordings", "sid", "stored"):
        assert isinstance(size, int)
        yield str(sid), size


def _columns(snapshot: Snapshot, table: str, *names: str) -> Iterator[list[object]]:
    if table not in snapshot.tables:  # the schema is an older one
        return
    columns = snapshot.tables[table].columns
    wanted = [columns.index(name) for name in names]
    for row in snapshot.rows(table):
        yield [row[at] for at in wanted]
