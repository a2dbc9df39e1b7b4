"""The file of a backup: a cluster as of one moment, for any store.

    teleport-lite backup v1
    {"cluster": ..., "version": ..., "tables": {"users": {"columns": [...], "rows": 12}}, ...}
    {"part": "rows", "table": "users", "rows": 12, "size": 345}      then `size` bytes
    {"part": "recording", "sid": ..., "at": 0, "size": 1048576}      then `size` bytes
    {"part": "end", "sha256": ..., "seal": ...}                      what auth has sent, all of it
    {"part": "keyring", "size": 512}                                 then `size` bytes, or not there
    sha256 <hex>                                                     of every byte before this line

Rows are deflated (RFC 1950) lines of JSON, one row each, as they stand in the store: text,
numbers, null, and {"b": base64} for bytes. What is secret in them stays sealed. `seal` is the
digest of `end`, sealed under the keyring of the cluster: nobody else can make one.
"""

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from teleport_lite.errors import Malformed

Value = str | int | float | bytes | None
Row = Sequence[Value]

TITLE = b"teleport-lite backup v1\n"
# A header of a hundred tables of twenty columns.
MAX_LINE = 64 * 1024
# Rows of one part before they are deflated; a single larger row is a part of its own.
PART = 1024 * 1024
# A heartbeat of 1 MiB, as text of escapes in a text of escapes.
MAX_PART = 32 * 1024 * 1024
# Of more than one row. A hundred times as much memory is what a stranger's empty rows take.
MAX_ROWS = 4 * PART
SEAL_PURPOSE = "backup"
_LEVEL = 6
_HINT = "tctl backup verify FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the file claims to hold; `Reader` sees to it that it does."""

    cluster: str
    version: str  # of the program that made it
    schema: int  # of the store
    made: str  # RFC 3339
    origin: str  # "backup", of a running cluster; "export", of one that has stopped
    keys: tuple[str, ...]  # ids of those that something in it is sealed under
    tables: Mapping[str, Table]
    recordings: int = 0  # how many the file should have
    recordings_size: int = 0  # bytes
    life: str = ""  # of the cluster (model/life.py); "" if the program or the store knew of none


@dataclass(frozen=True, slots=True)
class Rows:
    table: str
    rows: list[list[Value]]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a recording; those of one follow each other."""

    sid: str
    at: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Everything of auth was there. `missing`: recordings whose files were not."""

    digest: bytes
    seal: bytes  # b"" if it was made without the keyring
    missing: int = 0


@dataclass(frozen=True, slots=True)
class SealedKeyring:
    text: bytes


Part = Rows | Piece | End | SealedKeyring


# --- writing


@dataclass(slots=True)
class Draft:
    """Bytes of a file, in their order, and the digest of them."""

    _sum: Any = field(default_factory=hashlib.sha256)

    def header(self, header: Header) -> bytes:
        tables = {
            name: {"columns": list(each.columns), "rows": each.rows}
            for name, each in header.tables.items()
        }
        said = {
            "cluster": header.cluster,
            "version": header.version,
            "schema": header.schema,
            "made": header.made,
            "origin": header.origin,
            "keys": list(header.keys),
            "tables": tables,
            "recordings": header.recordings,
            "recordings_size": header.recordings_size,
            "life": header.life,
        }
        return self.passed(TITLE + _line(said))

    def rows(self, table: str, rows: Iterable[Row]) -> Iterator[bytes]:
        """Some parts, each of about PART bytes before they are deflated."""
        lines: list[bytes] = []
        size = 0
        for row in rows:
            line = _line([_plain(value) for value in row])
            if lines and size + len(line) > PART:
                yield self._rows(table, lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            yield self._rows(table, lines)

    def _rows(self, table: str, lines: list[bytes]) -> bytes:
        data = zlib.compress(b"".join(lines), _LEVEL)
        head = {"part": "rows", "table": table, "rows": len(lines), "size": len(data)}
        return self.passed(_line(head) + data)

    def piece(self, sid: str, at: int, data: bytes) -> bytes:
        head = {"part": "recording", "sid": sid, "at": at, "size": len(data)}
        return self.passed(_line(head) + data)

    @property
    def digest(self) -> bytes:
        return bytes(self._sum.digest())

    def end(self, seal: bytes, *, missing: int = 0) -> bytes:
        said = {
            "part": "end",
            "sha256": self.digest.hex(),
            "seal": base64.b64encode(seal).decode(),
            "missing": missing,
        }
        return self.passed(_line(said))

    def keyring(self, text: bytes) -> bytes:
        return self.passed(_line({"part": "keyring", "size": len(text)}) + text)

    def passed(self, data: bytes) -> bytes:
        """Take note of bytes that somebody else has made."""
        self._sum.update(data)
        return data

    def last_line(self) -> bytes:
        return b"sha256 " + self.digest.hex().encode() + b"\n"


# --- reading


class Reader:
    """Reads a file once, from its beginning to its end, and believes nothing.

    `parts` ends without an error only if every byte is accounted for: the digests fit, every
    table has the rows that the header says, every recording its bytes. Raises Malformed.
    """

    def __init__(self, file: BinaryIO, where: str, *, whole: bool = True) -> None:
        """`where` names the file in messages. Not `whole`: what auth sends, up to its `end`."""
        self._file, self._where, self._whole = file, where, whole
        self._sum = hashlib.sha256()
        self._counted: dict[str, int] = {}
        self._recordings: dict[str, int] = {}
        self._ended = False
        if self._take(len(TITLE)) != TITLE:
            raise Malformed(f"{where} is not a backup of teleport-lite, or of a newer version")
        self.header = self._header(self._object("its header"))

    def parts(self) -> Iterator[Part]:
        while True:
            before = self._sum.copy()
            line = self._line("a part")
            if line.startswith(b"sha256 "):
                if not self._whole or not self._ended:
                    raise self._wrong("it ends too early")
                if line != b"sha256 " + before.hexdigest().encode() + b"\n":
                    raise self._wrong("its digest is another one, bytes of it were changed")
                if self._file.read(1):
                    raise self._wrong("something follows its end")
                return
            part = self._part(self._read(line), before.digest())
            yield part
            if self._ended and not self._whole:
                return

    def _part(self, said: dict[str, Any], before: bytes) -> Part:
        kind = said.get("part")
        if self._ended and kind != "keyring":
            raise self._wrong("something follows its end")
        if kind == "rows":
            return self._rows(said)
        if kind == "recording":
            return self._piece(said)
        if kind == "end":
            return self._end(said, before)
        if kind == "keyring" and self._ended:
            return SealedKeyring(self._take(self._size(said)))
        raise self._wrong("it has a part that is not known, it may be of a newer version")

    def _rows(self, said: dict[str, Any]) -> Rows:
        table = self._known(said.get("table"))
        unpack = zlib.decompressobj()
        try:
            text = unpack.decompress(self._take(self._size(said)), MAX_PART)
            if not unpack.eof or unpack.unused_data:
                raise ValueError("cut, or too large")
            if len(text) > MAX_ROWS and text.find(b"\n") != len(text) - 1:
                raise ValueError("too many rows")
            rows = [_row(line) for line in text.splitlines()]
        except (zlib.error, ValueError, RecursionError) as why:
            raise self._wrong(f"rows of {table} are damaged") from why
        width = len(self.header.tables[table].columns)
        if len(rows) != said.get("rows") or any(len(row) != width for row in rows):
            raise self._wrong(f"rows of {table} are damaged")
        self._counted[table] = self._counted.get(table, 0) + len(rows)
        return Rows(table, rows)

    def _piece(self, said: dict[str, Any]) -> Piece:
        sid, at = said.get("sid"), said.get("at")
        if not isinstance(sid, str) or type(at) is not int or at != self._recordings.get(sid, 0):
            raise self._wrong("a recording in it has a gap")
        data = self._take(self._size(said))
        self._recordings[sid] = at + len(data)
        return Piece(sid, at, data)

    def _end(self, said: dict[str, Any], before: bytes) -> End:
        for name, table in self.header.tables.items():
            if self._counted.get(name, 0) != table.rows:
                raise self._wrong(f"it should have {table.rows} rows of {name}, and has not")
        try:
            digest = bytes.fromhex(said.get("sha256", ""))
            seal = base64.b64decode(said.get("seal", ""), validate=True)
            missing = _number(said, "missing")
        except (KeyError, ValueError, TypeError, binascii.Error) as why:
            raise self._wrong("its end is damaged") from why
        if digest != before:
            raise self._wrong("its digest is another one, bytes of it were changed")
        if len(self._recordings) + missing != self.header.recordings:
            raise self._wrong("recordings are missing in it")
        self._ended = True
        return End(digest=digest, seal=seal, missing=missing)

    def _header(self, said: dict[str, Any]) -> Header:
        try:
            tables = {str(name): _table(each) for name, each in said["tables"].items()}
            return Header(
                cluster=_text(said, "cluster"),
                version=_text(said, "version"),
                schema=_number(said, "schema"),
                made=_text(said, "made"),
                origin=_text(said, "origin"),
                keys=tuple(map(str, said["keys"])),
                tables=tables,
                recordings=_number(said, "recordings"),
                recordings_size=_number(said, "recordings_size"),
                life=_text({"life": ""} | said, "life"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as why:
            raise self._wrong("its header is damaged") from why

    def _known(self, table: object) -> str:
        if not isinstance(table, str) or table not in self.header.tables:
            raise self._wrong("it has rows of a table that its header does not name")
        return table

    def _size(self, said: dict[str, Any]) -> int:
        size = said.get("size")
        if type(size) is not int or not 0 <= size <= MAX_PART:
            raise self._wrong("a part of it has an impossible size")
        return size

    def _object(self, what: str) -> dict[str, Any]:
        return self._read(self._line(what))

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as why:
            raise self._wrong("a part of it is damaged") from why
        if not isinstance(said, dict):
            raise self._wrong("a part of it is damaged")
        return said

    def _line(self, what: str) -> bytes:
        line = self._file.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            raise self._wrong(f"it was cut off in {what}" if len(line) < MAX_LINE else "damaged")
        self._sum.update(line)
        return line

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise self._wrong("it was cut off")
        self._sum.update(data)
        return data

    def _wrong(self, cause: str) -> Malformed:
        return Malformed(f"{self._where} can not be used: {cause}")


def _line(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode("ascii") + b"\n"


def _plain(value: Value) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b": base64.b64encode(value).decode()}
    return value


def _row(line: bytes) -> list[Value]:
    found = json.loads(line)
    if not isinstance(found, list):
        raise ValueError("not a row")
    return [_value(each) for each in found]


def _value(found: object) -> Value:
    if isinstance(found, dict):
        if list(found) != ["b"] or not isinstance(found["b"], str):
            raise ValueError("not a value")
        return base64.b64decode(found["b"], validate=True)
    if found is None or isinstance(found, str | int | float):
        return found
    raise ValueError("not a value")


def _table(said: Any) -> Table:
    columns = said["columns"]
    if not isinstance(columns, list) or not all(isinstance(each, str) for each in columns):
        raise ValueError("columns")
    return Table(columns=tuple(columns), rows=_number(said, "rows"))


def _text(said: Mapping[str, Any], name: str) -> str:
    if not isinstance(said[name], str):
        raise ValueError(name)
    return str(said[name])


def _number(said: Mapping[str, Any], name: str) -> int:
    if type(said[name]) is not int or said[name] < 0:
        raise ValueError(name)
    return int(said[name])
