"""The connection that writes to PostgreSQL, one batch of changes at a time.

    BEGIN  lock the head of the trail  changes ...  note the batch  NOTIFY  COMMIT

Whoever has the head is alone, so the rules are those of a single writer, however many auth
servers there are. When the answer to COMMIT is lost, a fresh connection looks whether the batch
is noted: nobody is told that something is kept when it is not, or the other way round.
"""

from collections.abc import Sequence
from typing import Any

import psycopg

from teleport_lite.errors import Unavailable
from teleport_lite.store.dialect import Answer
from teleport_lite.store.head import TrailEnd
from teleport_lite.store.postgres_link import PATIENCE, POSTGRES, Link, Session, unavailable

# How long the fate of a batch is looked for.
DOUBT = 10.0

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
# The number of the last event may be older than the head, if we had to wait: never newer.
_LOCK = (
    "SELECT seq, hash, mac, (SELECT coalesce(max(seq), 0) FROM events) "
    "FROM trail_head WHERE id = 1 FOR UPDATE OF trail_head"
)
_NOTE = (
    "INSERT INTO batches (writer, number) VALUES (?, ?) "
    "ON CONFLICT (writer) DO UPDATE SET number = excluded.number, noted_at = now()"
)
_TELL = " RETURNING pg_notify(?, ?)"
# Who has not written for a day has long been told how it ended.
_NEW_WRITER = (
    "WITH gone AS (DELETE FROM batches WHERE noted_at < now() - interval '1 day') "
    "INSERT INTO batches (writer, number) VALUES (?, ?) ON CONFLICT (writer) DO NOTHING"
)
# Waits for the transaction in doubt, if it still runs.
_LOOK = "SELECT number FROM batches WHERE writer = ? FOR UPDATE"


class PostgresLedger:
    """Connects when it has to. `writer` names this store among all that share the database."""

    dialect = POSTGRES

    def __init__(self, link: Link, *, trail: TrailEnd, writer: str, channel: str) -> None:
        self._link, self._trail, self._writer, self._channel = link, trail, writer, channel
        self._db: Session | None = None
        self._batch = 0

    def begin(self) -> None:
        """A connection that died while nobody wrote is replaced: nothing is in it yet."""
        if self._db is not None:
            try:
                self._lock(self._db)
                return
            except psycopg.Error:
                if not self._db.lost:
                    raise
                self._drop()
        self._lock(self._connected(PATIENCE))

    def execute(self, statement: str, values: Any = (), /) -> Answer:
        return self._session.execute(statement, values)

    def script(self, *statements: str) -> None:
        self._session.script(*statements)

    def commit(self, topics: Sequence[str]) -> None:
        db, self._batch = self._session, self._batch + 1
        if topics:
            told = f"{self._writer} {','.join(topics)}"
            db.execute(_NOTE + _TELL, (self._writer, self._batch, self._channel, told))
        else:
            db.execute(_NOTE, (self._writer, self._batch))
        try:
            ended = db.raw.execute("COMMIT", prepare=False).statusmessage
        except psycopg.Error as why:
            if not db.lost:
                raise
            self._drop()
            self._look_up(why)
            return
        if ended != "COMMIT":  # of a transaction that had failed already
            raise Unavailable(
                f"cannot write database {self._link.where}: it was rolled back", log=str(ended)
            )

    def rollback(self) -> None:
        if self._db is not None and not self._db.lost:
            self._db.script("ROLLBACK")
        if self._db is not None and self._db.lost:
            self._drop()

    def close(self) -> None:
        self._drop()

    @property
    def _session(self) -> Session:
        assert self._db is not None, "no batch was begun"
        return self._db

    def _lock(self, db: Session) -> None:
        # The savepoint comes after the lock: to roll back to it would give that away.
        rows = db.script(_BEGIN, _LOCK, "SAVEPOINT change")
        self._trail.go_on(db, rows[0] if rows else None)

    def _connected(self, patience: float) -> Session:
        """A fresh connection, on which this writer is known."""
        self._db = self._link.connect_soon("writer", patience=patience)
        self._db.execute(_NEW_WRITER, (self._writer, self._batch))
        return self._db

    def _look_up(self, why: psycopg.Error) -> None:
        """Returns if the batch was kept; raises Unavailable if it was not, or nobody can say."""
        in_doubt = Unavailable(
            f"cannot write database {self._link.where}: the connection was lost at the end, and it "
            "may or may not be kept",
            log=str(why),
        )
        try:  # and not: make ourselves known there, which would look like a batch that was kept
            self._db = self._link.connect_soon("writer", patience=DOUBT)
            found = self._db.execute(_LOOK, (self._writer,)).fetchone()
        except (psycopg.Error, Unavailable) as also:
            self._drop()
            raise in_doubt from also
        if found is None or found[0] < self._batch - 1:  # another database, or an older state of it
            self._drop()
            raise in_doubt
        if found[0] < self._batch:
            raise unavailable(self._link.where, "write", why)

    def _drop(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
