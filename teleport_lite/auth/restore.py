"""What a backup holds, looked at closely; and a store made of it.

look    reads all of it: digests, counts, every seal, the chain of the trail
Loader  puts it into an empty store, recordings first, the store in one transaction
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from teleport_lite.auth.life import LIFE, kept
from teleport_lite.auth.shelf import Draft, Shelf
from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.model.chain import GENESIS, link_line
from teleport_lite.model.event import Event
from teleport_lite.model.life import Life
from teleport_lite.model.names import UUID, checked
from teleport_lite.proto.backup_file import (
    SEAL_PURPOSE,
    End,
    Header,
    Part,
    Piece,
    Reader,
    Row,
    Rows,
    SealedKeyring,
    Value,
)
from teleport_lite.store.dump import Filling
from teleport_lite.store.protocols import Sealer
from teleport_lite.store.sealed import purpose_of

PAGE = "docs/backup.md"
_EXAMPLE = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"


@dataclass(slots=True, kw_only=True)
class Found:
    """What a file turned out to hold."""

    header: Header
    vouched: bool | None = None  # made with this keyring? None: nobody could look
    opened: int = 0  # secrets that open with this keyring
    recordings: int = 0
    missing: int = 0  # recordings whose files were not there
    events: int = 0
    broken_at: int | None = None  # the first event of the trail that does not fit
    digest: bytes = b""  # of all that auth has sent
    keyring: bytes | None = None  # sealed under a passphrase

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.header.tables.values())


def look(
    reader: Reader, sealer: Sealer | None, each: Callable[[Part], None] | None = None
) -> Found:
    """Read it to its end; `each` is handed every part once that was looked at.

    Raises Malformed for a file that is not whole, Denied for one that this keyring does not open
    or that somebody without it has made.
    """
    found, trail = Found(header=reader.header), _Chain()
    sids: set[str] = set()
    for part in reader.parts():
        if isinstance(part, Rows):
            columns = reader.header.tables[part.table].columns
            found.opened += _opened(part, columns, sealer)
            trail.take(part, columns)
        elif isinstance(part, Piece):
            checked(UUID, part.sid, "session id", example=_EXAMPLE)
            sids.add(part.sid)
        elif isinstance(part, End):
            found.vouched = _vouched(part, sealer)
            found.missing, found.digest = part.missing, part.digest
        elif isinstance(part, SealedKeyring):
            found.keyring = part.text
        if each is not None:
            each(part)
    found.recordings, found.events, found.broken_at = len(sids), trail.last, trail.broken_at
    return found


def _opened(part: Rows, columns: Sequence[str], sealer: Sealer | None) -> int:
    """How many secrets there are in it. One that nobody can open must not become part of a store:
    it would be found out in the hour in which it is needed."""
    count = 0
    for row in part.rows if sealer is not None else ():
        sealed = purpose_of(part.table, columns, row)
        if sealed is None:
            return 0
        try:
            assert sealer is not None
            sealer.unseal(*sealed)
        except ValueError as why:
            raise Denied(
                f"a row of {part.table} does not open with this keyring: {why}", hint=PAGE
            ) from None
        count += 1
    return count


def _vouched(end: End, sealer: Sealer | None) -> bool | None:
    if sealer is None:
        return None
    if not end.seal:
        return False
    try:
        digest = sealer.unseal(end.seal, SEAL_PURPOSE)
    except ValueError:
        digest = b""
    if not hmac.compare_digest(digest, end.digest):
        raise Denied("the backup was changed by somebody who does not have the keyring", hint=PAGE)
    return True


class _Chain:
    """The trail of a backup: each event fits the one before, and the last is where it should end.

    Its MAC is for the store to check; who has changed both rows and head has broken the seal."""

    def __init__(self) -> None:
        self.last, self._hash = 0, GENESIS
        self.broken_at: int | None = None

    def take(self, part: Rows, columns: Sequence[str]) -> None:
        if part.table not in ("events", "trail_head"):
            return
        for row in part.rows:
            said = dict(zip(columns, row, strict=True))
            if part.table == "events":
                self._event(said)
            elif (said.get("seq"), said.get("hash")) != (self.last, self._hash):
                self._break(min(self.last, _whole(said.get("seq"))) + 1)

    def _event(self, said: Mapping[str, Value]) -> None:
        seq, line = said.get("seq"), said.get("line")
        if seq != self.last + 1 or not isinstance(line, bytes):
            self._break(self.last + 1)
            return
        self.last, self._hash = self.last + 1, link_line(self._hash, line, self.last + 1)
        if said.get("hash") != self._hash:
            self._break(self.last)

    def _break(self, at: int) -> None:
        self.broken_at = at if self.broken_at is None else min(at, self.broken_at)


@dataclass(slots=True, kw_only=True)
class Loader:
    """Puts a backup into a filling. `load` once.

    A backup is of the past: join tokens good for one machine, and links for one person, may have
    been used since, and would be good a second time. Unless `uses`, they stay behind.
    """

    event: Callable[[Mapping[str, str]], Event]
    life: Callable[[str], Life]  # of the store that is made; asked for once, with that of the file
    digest: bytes = b""  # of the file that was looked at before; b"": of none
    shelf: Shelf | None = None  # where recordings go; None: they stay in the file
    uses: bool = False
    told: Callable[[Part], None] | None = None  # for the one who waits
    dropped: dict[str, int] = field(default_factory=dict)  # table → rows that stayed behind
    recordings: int = 0
    _draft: Draft | None = None
    _sid: str = ""

    def load(self, reader: Reader, sealer: Sealer, filling: Filling) -> None:
        """Raises what `look` raises, and Unavailable; then nothing may be kept of the filling."""

        def each(part: Part) -> None:
            if isinstance(part, Rows):
                self._rows(part, reader.header.tables[part.table].columns, filling)
            elif isinstance(part, Piece) and self.shelf is not None:
                self._piece(part, self.shelf)
            elif isinstance(part, End):
                self._finish()
            if self.told is not None:
                self.told(part)

        try:
            found = look(reader, sealer, each)
        finally:
            if self._draft is not None:
                self._draft.drop()
        if self.digest and found.digest != self.digest:
            raise Malformed("the backup is another one than a moment ago, somebody has changed it")
        life = self.life(reader.header.life)
        filling.insert("meta", ("key", "value"), [kept(life)])
        facts = {f"dropped_{name}": str(count) for name, count in self.dropped.items()}
        facts |= {"life": life.word, "life_before": reader.header.life}
        filling.record(self.event(facts))

    def _rows(self, part: Rows, columns: Sequence[str], filling: Filling) -> None:
        rows = [row for row in part.rows if not _of_life(part.table, columns, row)]
        if not self.uses:
            there = len(rows)
            rows = [row for row in rows if not _used_up(part.table, columns, row)]
            if gone := there - len(rows):
                self.dropped[part.table] = self.dropped.get(part.table, 0) + gone
        filling.insert(part.table, columns, rows)

    def _piece(self, part: Piece, shelf: Shelf) -> None:
        if part.sid != self._sid:
            self._finish()
            self._sid, self._draft = part.sid, shelf.begin(part.sid, "restored")
        assert self._draft is not None
        self._draft.add(part.data)

    def _finish(self) -> None:
        if self._draft is not None:
            self._draft.finish()
            self._draft, self._sid = None, ""
            self.recordings += 1


def _of_life(table: str, columns: Sequence[str], row: Row) -> bool:
    return table == "meta" and dict(zip(columns, row, strict=True)).get("key") == LIFE


def _used_up(table: str, columns: Sequence[str], row: Row) -> bool:
    """May it have been used since, and is it good for one use only?"""
    said: dict[str, Any] = dict(zip(columns, row, strict=True))
    return table == "invites" or (
        table == "tokens" and bool(said.get("once")) and said.get("spent_at") is None
    )


def _whole(value: Value) -> int:
    return value if isinstance(value, int) else 0


def check_fits(header: Header, *, cluster: str, keys: Sequence[str], where: str) -> None:
    """Does the backup belong to who is configured here? Raises Malformed, Denied."""
    if header.cluster != cluster:
        raise Malformed(
            f"{where} is of cluster {header.cluster}, the configuration says {cluster}",
            hint=f"set auth_service.cluster_name to {header.cluster}",
        )
    missing = [key for key in header.keys if key not in keys]
    if missing:
        raise Denied(
            f"{where} is sealed under key {missing[0]}, which the keyring here does not have",
            hint="put the keyring of the cluster in its place: docs/backup.md",
        )


def must_be_whole(found: Found, where: str) -> None:
    """Raises Unavailable for a backup that nobody vouches for."""
    if found.vouched is False:
        raise Unavailable(
            f"{where} was made without the keyring, so nobody can say that it was not changed",
            hint="--unsealed takes it all the same",
        )
