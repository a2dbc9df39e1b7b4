"""The end of the audit trail: where the next event goes, and what it is chained to.

The head record names the last event and its hash under a MAC, so that an end that was cut off
shows, and so does a chain that somebody computed anew without our keyring.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from teleport_lite.model.chain import GENESIS, canonical, link_line
from teleport_lite.model.event import Event
from teleport_lite.store.dialect import Database

# Stands for the hash before an event that follows a head we did not write. No event has it, so
# the break stays visible for ever instead of being chained over.
_BROKEN = "f" * 64


class Head(NamedTuple):
    seq: int
    hash: str


START = Head(0, GENESIS)


@dataclass(slots=True)
class TrailEnd:
    """Belongs to the writer thread."""

    key: bytes
    head: Head = START
    saved: Head = START

    def load(self, db: Database) -> None:
        """Go on after the recorded head, or visibly apart from a trail that does not fit it."""
        [last] = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        found = read_head(db, self.key)
        if found is None or found.seq < last:
            found = Head(last, _BROKEN)
        self.head = self.saved = found

    def go_on(self, db: Database, row: Sequence[Any] | None) -> None:
        """After whoever wrote last, in this process or another. `row`: seq, hash and mac of the
        recorded head, as of now, and the number of the last event."""
        found = None if row is None else _checked(self.key, row)
        if found is None or row is None or found.seq < row[3]:
            self.load(db)
        else:
            self.head = self.saved = found

    def append(self, db: Database, event: Event) -> None:
        line, seq = canonical(event), self.head.seq + 1
        digest = link_line(self.head.hash, line, seq)
        db.execute("INSERT INTO events (seq, line, hash) VALUES (?, ?, ?)", (seq, line, digest))
        self.head = Head(seq, digest)

    def save(self, db: Database) -> None:
        """Write the head of what was appended since; part of the same transaction."""
        if self.head != self.saved:
            write_head(db, self.key, self.head)

    def settle(self, *, durable: bool) -> None:
        """The transaction is over."""
        if durable:
            self.saved = self.head
        else:
            self.head = self.saved


def write_head(db: Database, key: bytes, head: Head) -> None:
    db.execute(
        "INSERT INTO trail_head (id, seq, hash, mac) VALUES (1, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET seq=excluded.seq, hash=excluded.hash, mac=excluded.mac",
        (head.seq, head.hash, _mac(key, head)),
    )


def read_head(db: Database, key: bytes) -> Head | None:
    """None when there is none, or when its MAC says that somebody else wrote it."""
    row = db.execute("SELECT seq, hash, mac FROM trail_head WHERE id = 1").fetchone()
    return None if row is None else _checked(key, row)


def _checked(key: bytes, row: Sequence[Any]) -> Head | None:
    if not isinstance(row[2], bytes):
        return None
    head = Head(row[0], row[1])
    return head if hmac.compare_digest(_mac(key, head), row[2]) else None


def verify(db: Database, key: bytes) -> tuple[int, int | None]:
    """How many events hold, and the number of the first that does not.

    A cut end is named by the first event that is missing. When only the head record is wrong
    (missing, forged, or of another chain), the last event is named: nothing vouches for it.
    """
    before, last = GENESIS, 0
    for seq, line, found in db.execute("SELECT seq, line, hash FROM events ORDER BY seq"):
        if seq != last + 1 or not isinstance(line, bytes):
            return last, last + 1
        before = link_line(before, line, seq)
        if found != before:
            return last, last + 1
        last = seq
    head = read_head(db, key)
    if head is None or (head.seq == last and head.hash != before):
        return max(last - 1, 0), max(last, 1)
    if head.seq != last:
        return min(last, head.seq), min(last, head.seq) + 1
    return last, None


def _mac(key: bytes, head: Head) -> bytes:
    return hmac.digest(key, f"{head.seq} {head.hash}".encode(), hashlib.sha256)
