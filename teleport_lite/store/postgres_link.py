"""How we reach PostgreSQL, and what its failures mean in our words.

By psycopg and the libpq of the system (https://www.psycopg.org/psycopg3/docs/).
A connection is used by one thread at a time. Transactions are ours to begin and end.
"""

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.secret import Secret
from teleport_lite.store.dialect import Answer, Dialect

Connection = psycopg.Connection[tuple[Any, ...]]

PAGE = "docs/storage.md"
_CLOCK = SystemClock()
# The oldest that its makers still care for when this was written.
_OLDEST = 13
# What we set, unless the conn_string does. A peer that is gone without a word is noticed after
# some 10 s, whether we wait for it (keepalives) or talk to it (tcp_user_timeout, milliseconds).
_USUAL: dict[str, str] = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
# Milliseconds. Nobody may hold the trail for longer than the last: an auth server that was stopped
# in the middle of a change loses it, and the others, who wait a little longer, go on.
_LIMITS = {
    "statement_timeout": 9_000,
    "lock_timeout": 7_000,
    "idle_in_transaction_session_timeout": 5_000,
}
# To open it, or to read all of it, may take longer: rows may have to be counted or brought forward.
_PATIENT = {
    "statement_timeout": 0,
    "lock_timeout": 60_000,
    "idle_in_transaction_session_timeout": 0,
}
# Seconds until a server that says nothing at all, not even that it took too long, is given up.
_SILENCE = 11.0
# Seconds; how soon a ^C is noticed.
_LOOK = 0.1
# For so long a server that restarts is waited for; then everybody is refused at once until it is
# back. Half of what a client takes for an error.
PATIENCE = 1.0
_PAUSE = 0.1
# A commit is on the disk of the server when it returns, and of its synchronous standbys if it
# has any. Only remote_apply waits for more than that.
_SETTLE = (
    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') "
    "WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false), "
    "set_config('default_transaction_read_only', %s, false), "
    + "".join(f"set_config('{name}', %s, false), " for name in _LIMITS)
    + "pg_is_in_recovery(), current_setting('server_version_num')::int / 10000, current_schema()"
)
UNFIT = "text with a NUL, or with half a character, can not be kept in PostgreSQL"
_VALUE = re.compile(r"\?|:([a-z_0-9]+)")


@cache
def translated(statement: str) -> str:
    """Our `?` and `:name` as psycopg wants them. No text of ours has any of these in it."""
    return _VALUE.sub(lambda found: f"%({found[1]})s" if found[1] else "%s", statement)


def _unverified(given: Mapping[str, Any]) -> bool:
    """Could somebody on the way to the server pose as it?"""
    hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
    near = all(each in ("", "localhost") or each[0] in "/@" or _is_loopback(each) for each in hosts)
    return not near and given.get("sslmode") not in ("verify-full", "verify-ca")


def _holds_password(given: Mapping[str, Any]) -> bool:
    """Does what we show of it begin in the middle of a password that was not escaped?"""
    hosts = str(given.get("host") or "").split(",")
    ports = str(given.get("port") or "0").replace(",", "0")
    in_host = any("@" in each[1:] and each[0] != "/" for each in hosts)
    return in_host or "@" in str(given.get("dbname") or "") or not ports.isdecimal()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Session:
    """A connection, as a `Database`. For one thread at a time."""

    def __init__(self, raw: Connection) -> None:
        self.raw = raw

    def execute(self, statement: str, values: Any = (), /) -> Answer:
        """Raises Malformed for text that PostgreSQL does not take; nothing was sent then."""
        try:
            return self.raw.execute(translated(statement), values or None)
        except UnicodeError as why:
            raise Malformed(UNFIT, log=type(why).__name__) from why
        except psycopg.DataError as why:
            if why.sqlstate is not None:
                raise
            raise Malformed(UNFIT, log=str(why)) from why

    def script(self, *statements: str) -> list[Any]:
        """Several statements without values, in one go; the rows of the last that has any."""
        rows: list[Any] = []
        cursor = self.raw.execute("; ".join(statements), prepare=False)
        while True:
            if cursor.description is not None:
                rows = cursor.fetchall()
            if not cursor.nextset():
                return rows

    @property
    def lost(self) -> bool:
        return bool(self.raw.closed or self.raw.broken)

    def close(self) -> None:
        with suppress(psycopg.Error):
            self.raw.close()


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """One that does not wait for ever. What the server ends by its own limits, it ends before."""

    silence: float | None = _SILENCE

    def wait(self, gen: Any, interval: float = _LOOK, timeout: float | None = None) -> Any:
        """All that waits for the server comes by here."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.silence)
        except errors._WaitTimeout as why:
            self.pgconn.finish()  # in the middle of an answer it is of no more use
            raise psycopg.OperationalError("timeout expired") from why


class Link:
    """Where the database is, and how to get there. From any thread."""

    def __init__(self, conn_string: Secret) -> None:
        """Raises Malformed, without showing it: there may be a password in it."""
        try:
            given = conninfo_to_dict(conn_string.reveal())
        except psycopg.Error as why:
            raise Malformed(
                "teleport.storage.conn_string is not a connection string of PostgreSQL",
                hint="postgresql://teleport@db.example.com/teleport?sslmode=verify-full",
            ) from why
        if _holds_password(given):
            raise Malformed(
                "teleport.storage.conn_string: a part of the password would be taken for another",
                hint="in a password write %40 for @, %2F for /, %3A for :",
            )
        self._words: dict[str, Any] = _USUAL | given
        hosts = str(given.get("host") or given.get("hostaddr") or "")
        if "," in hosts:  # of several servers the one that takes writes
            self._words.setdefault("target_session_attrs", "read-write")
        self.unverified = _unverified(given)
        self.where = f"{given.get('dbname') or 'postgres'} on {hosts or 'this host'}"
        self._lost_at: float | None = None  # since when there is no connection to be had
        self._why = Unavailable("")  # what was said last, since then
        self._asking = threading.Lock()  # held by the one who asks for all
        self._closing = threading.Event()

    def close(self) -> None:
        """Nobody goes on trying."""
        self._closing.set()

    def connect_soon(
        self, purpose: str, *, reading: bool = False, patience: float = PATIENCE
    ) -> Session:
        """As `connect`, but tries for as long as there was no connection for anybody. After that
        one asks for all, and the others are told what it was told last."""
        while self._lost_for() <= patience:
            try:
                return self.connect(purpose, reading=reading)
            except Unavailable:
                if self._closing.wait(_PAUSE):
                    raise
        if not self._asking.acquire(blocking=False):
            why = self._why
            raise Unavailable(why.message, hint=why.hint, log=why.log)
        try:
            return self.connect(purpose, reading=reading)
        finally:
            self._asking.release()

    @property
    def lost(self) -> bool:
        """Was there no connection to be had, for whoever asked last?"""
        return self._lost_at is not None

    def _lost_for(self) -> float:
        lost_at = self._lost_at
        return 0.0 if lost_at is None else _CLOCK.monotonic() - lost_at

    def connect(self, purpose: str, *, reading: bool = False, patient: bool = False) -> Session:
        """A connection that may be relied on. Raises Unavailable. `patient`: it has no limits."""
        words = self._words | {"application_name": f"teleport-lite {purpose}"}
        try:
            db = _Connection.connect(**words, client_encoding="utf8", autocommit=True)
            if patient:
                db.silence = None
            try:
                self._settle(db, reading, _PATIENT if patient else _LIMITS)
            except BaseException:
                db.close()
                raise
        except psycopg.Error as why:
            raise self._away(unavailable(self.where, "open", why)) from why
        except Unavailable as refused:
            raise self._away(refused) from None
        self._lost_at = None
        return Session(db)

    def _away(self, why: Unavailable) -> Unavailable:
        self._why, self._lost_at = why, self._lost_at or _CLOCK.monotonic()
        return why

    def _settle(self, db: Connection, reading: bool, limits: Mapping[str, int]) -> None:
        values = ("on" if reading else "off", *map(str, limits.values()))
        row = db.execute(_SETTLE, values, prepare=False).fetchone()
        assert row is not None  # a SELECT without FROM
        standby, version, schema = row[-3:]
        if version < _OLDEST:
            raise Unavailable(
                f"database {self.where} is PostgreSQL {version}, {_OLDEST} or newer is needed",
                hint=PAGE,
            )
        if standby:
            raise Unavailable(
                f"cannot open database {self.where}: the server is a standby, it takes no writes",
                hint="name the primary in teleport.storage.conn_string, or all servers: "
                "host=one,two",
            )
        if schema is None:
            raise Unavailable(
                f"cannot open database {self.where}: the search_path names no schema that is there",
                hint=PAGE,
            )


def unavailable(where: str, verb: str, why: BaseException) -> Unavailable:
    """What a failure of PostgreSQL means to the one who waits. `verb`: read, write, open."""
    state = getattr(why, "sqlstate", None) or ""
    cause, hint = _CAUSES.get(state, _CAUSES.get(state[:2])) or _by_words(why)
    return Unavailable(f"cannot {verb} database {where}: {cause}", hint=hint, log=_for_log(why))


_AWAY = ("the connection was lost", "")
# https://www.postgresql.org/docs/current/errcodes-appendix.html; classes by two characters.
_CAUSES: dict[str, tuple[str, str]] = {
    "08": _AWAY,
    "25006": ("it is read-only", ""),
    "25P03": ("a change took too long", ""),
    "28": ("the server refuses the user or the password", PAGE),
    "3D000": ("there is no such database", PAGE),
    "42501": ("the user may not do that there", PAGE),
    "42P01": ("a table is missing", PAGE),
    "53100": ("the disk of the database server is full", "df -h"),
    "53200": ("the database server is out of memory", ""),
    "53300": ("the database server has no connection left", PAGE),
    "55P03": ("another auth server holds it", ""),
    "57014": ("it took too long", ""),
    "57P01": ("the database server is shutting down", ""),
    "57P02": ("the database server has crashed", ""),
    "57P03": ("the database server is starting", ""),
    "58030": ("disk I/O error at the database server", ""),
    "XX001": ("it is damaged", PAGE),
    "XX002": ("it is damaged", PAGE),
}
# A refused connection has no code, only words.
_WORDS: tuple[tuple[str, tuple[str, str]], ...] = (
    ("password authentication failed", _CAUSES["28"]),
    ("no password supplied", _CAUSES["28"]),
    ("no pg_hba.conf entry", _CAUSES["28"]),
    ("starting up", _CAUSES["57P03"]),
    ("shutting down", _CAUSES["57P01"]),
    ("remaining connection slots", _CAUSES["53300"]),
    ("too many clients", _CAUSES["53300"]),
    ("session is read-only", _CAUSES["25006"]),
    ("server closed the connection", _AWAY),
    ("connection is lost", _AWAY),
    ("connection is closed", _AWAY),
    ("consuming input failed", _AWAY),
    ("timeout expired", ("the database server does not answer", "")),
    ("Connection refused", ("nobody listens there", "systemctl status postgresql")),
    ("No such file or directory", ("nobody listens there", "systemctl status postgresql")),
)


def _by_words(why: BaseException) -> tuple[str, str]:
    text = " ".join(str(why).split())
    for words, meaning in _WORDS:
        if words in text:
            return meaning
    last = text.rpartition("FATAL: ")[2].strip().rstrip(".")
    return last.replace(": ", ", ")[:200] or type(why).__name__, ""


def _for_log(why: BaseException) -> str:
    if isinstance(why, Error):
        return why.log or why.message
    return f"{type(why).__name__}: {' '.join(str(why).split())[:300]}"


# Too large a row (54000) is that of one change. A missing table or right concerns everybody.
_BUGS = (psycopg.IntegrityError, psycopg.DataError, psycopg.NotSupportedError)
_OF_ALL = ("42501", "42P01")


def _is_bug(why: Exception) -> bool:
    state = getattr(why, "sqlstate", None) or ""
    if isinstance(why, psycopg.ProgrammingError):
        return state not in _OF_ALL
    return isinstance(why, _BUGS) or state.startswith("54")


POSTGRES = Dialect(error=psycopg.Error, is_bug=_is_bug, unavailable=unavailable)
