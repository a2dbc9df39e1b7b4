"""The file of a backup: what was written is read, and nothing else passes for it."""

import io
import json
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.proto import backup_file
from teleport_lite.proto.backup_file import (
    Draft,
    End,
    Header,
    Part,
    Piece,
    Reader,
    Rows,
    SealedKeyring,
    Table,
)

SID = "c52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
USERS = [["alice", "{}", None], ["bob ü\n", '{"a":1}', b"\0\xff"]]


def header(rows: int = 2, **changes: Any) -> Header:
    said: dict[str, Any] = {
        "cluster": "tele.example.com",
        "version": "0.1.0",
        "schema": 4,
        "made": "2026-03-01T12:00:00Z",
        "origin": "backup",
        "keys": ("aa",),
        "tables": {
            "users": Table(columns=("name", "document", "sealed"), rows=rows),
            "locks": Table(columns=("id",), rows=0),
        },
    }
    return Header(**(said | changes))


def a_file(rows: Any = USERS, keyring: bytes | None = None, recording: bytes = b"") -> bytes:
    draft = Draft()
    more = {"recordings": 1, "recordings_size": len(recording)} if recording else {}
    raw = draft.header(header(len(rows), **more)) + b"".join(draft.rows("users", rows))
    for at in range(0, len(recording), 10):
        raw += draft.piece(SID, at, recording[at : at + 10])
    raw += draft.end(b"seal")
    if keyring is not None:
        raw += draft.keyring(keyring)
    return raw + draft.last_line()


def read(raw: bytes, **how: Any) -> list[Part]:
    return list(Reader(io.BytesIO(raw), "b1", **how).parts())


def refused(raw: bytes) -> str:
    with pytest.raises(Malformed) as why:
        read(raw)
    return why.value.message


def test_what_was_written_is_read_again():
    raw = a_file(keyring=b"ring", recording=b"x" * 25)
    reader = Reader(io.BytesIO(raw), "b1")
    assert reader.header == header(recordings=1, recordings_size=25)
    rows, *pieces, end, keyring = reader.parts()
    assert rows == Rows("users", USERS)
    assert [(each.at, len(each.data)) for each in pieces if isinstance(each, Piece)] == [
        (0, 10),
        (10, 10),
        (20, 5),
    ]
    assert isinstance(end, End)
    assert end.seal == b"seal"
    assert keyring == SealedKeyring(b"ring")


row = st.tuples(
    st.text(st.characters(exclude_categories=())),
    st.integers(-(2**63), 2**63 - 1) | st.none(),
    st.binary(max_size=50),
)


@settings(max_examples=50)
@given(st.lists(row, max_size=20))
def test_any_value_of_a_store_comes_through(rows):
    [*found, _] = read(a_file(rows))
    assert [tuple(r) for part in found for r in part.rows] == rows


def test_many_rows_are_many_parts_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(backup_file, "PART", 1000)
    rows = [[str(n), "x" * (n % 300), None] for n in range(300)] + [["large", "y" * 5000, b""]]
    [*parts, _] = read(a_file(rows))
    assert len(parts) > 10
    assert [r for part in parts for r in part.rows] == rows


def test_no_bit_can_be_flipped():
    raw = a_file(keyring=b"ring", recording=b"recorded")
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            read(bytes(changed))


def test_no_end_can_be_cut_off_and_nothing_added():
    raw = a_file(keyring=b"ring", recording=b"recorded")
    for size in range(len(raw)):
        with pytest.raises(Malformed):
            read(raw[:size])
    assert refused(raw + b"x") == "b1 can not be used: something follows its end"


@settings(max_examples=100)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_stranger_can_only_make_us_say_malformed(junk, at):
    raw = a_file()
    for mixed in (junk, raw[:at] + junk, backup_file.TITLE + junk, raw[:at] + junk + raw[at:]):
        if mixed != raw:
            with pytest.raises(Malformed):
                read(mixed)


def test_rows_that_the_header_does_not_promise_are_refused():
    draft = Draft()
    raw = draft.header(header(rows=3)) + b"".join(draft.rows("users", USERS)) + draft.end(b"")
    assert "it should have 3 rows of users" in refused(raw + draft.last_line())
    draft = Draft()
    raw = draft.header(header()) + b"".join(draft.rows("roles", USERS))
    assert "rows of a table that its header does not name" in refused(raw)
    draft = Draft()
    raw = draft.header(header()) + b"".join(draft.rows("users", [["too", "short"]]))
    assert "rows of users are damaged" in refused(raw)


def test_a_recording_with_a_gap_or_less_recordings_than_promised_are_refused():
    draft = Draft()
    raw = draft.header(header(0, recordings=1)) + draft.piece(SID, 5, b"x")
    assert "a recording in it has a gap" in refused(raw)
    draft = Draft()
    raw = draft.header(header(0, recordings=2)) + draft.piece(SID, 0, b"x") + draft.end(b"")
    assert "recordings are missing in it" in refused(raw + draft.last_line())
    draft = Draft()
    raw = draft.header(header(0, recordings=2)) + draft.piece(SID, 0, b"x")
    raw += draft.end(b"", missing=1) + draft.last_line()
    [_, end] = read(raw)
    assert isinstance(end, End)
    assert end.missing == 1


def test_a_digest_of_other_bytes_at_its_end_is_refused():
    draft, other = Draft(), Draft()
    raw = draft.header(header(0))
    other.header(header(0, cluster="another.example.com"))
    assert "its digest is another one" in refused(raw + draft.passed(other.end(b"")))


def test_rows_come_before_the_end_and_the_keyring_after():
    draft = Draft()
    raw = draft.header(header(0)) + draft.keyring(b"ring")
    assert "a part that is not known" in refused(raw)
    draft = Draft()
    raw = draft.header(header(0)) + draft.end(b"") + b"".join(draft.rows("users", USERS))
    assert "something follows its end" in refused(raw)


def test_what_auth_sends_ends_with_its_end():
    draft = Draft()
    raw = draft.header(header(0)) + draft.end(b"")
    [end] = read(raw, whole=False)
    assert isinstance(end, End)
    assert "it was cut off" in refused(raw)


def test_a_part_that_unpacks_to_more_than_anybody_wrote_is_refused(monkeypatch):
    raw = a_file([["x", "0" * 100_000, None]])
    monkeypatch.setattr(backup_file, "MAX_PART", 10_000)
    assert "rows of users are damaged" in refused(raw)
    draft = Draft()
    raw = draft.header(header(0)) + b'{"part":"rows","table":"users","rows":1,"size":99999999}\n'
    assert "an impossible size" in refused(raw)


def test_a_part_of_more_rows_than_anybody_wrote_is_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(backup_file, "MAX_ROWS", 300_000)
    many = [[] for _ in range(backup_file.MAX_ROWS // 3 + 1)]
    tables = {"t": Table(columns=(), rows=len(many))}
    small = {"t": Table(columns=(), rows=2)}
    for found, rows in ((tables, many), (small, [[], []])):
        draft = Draft()
        with monkeypatch.context() as patched:
            patched.setattr(backup_file, "PART", backup_file.MAX_PART)
            raw = draft.header(header(tables=found)) + b"".join(draft.rows("t", rows))
        raw += draft.end(b"") + draft.last_line()
        if rows is many:
            with monkeypatch.context() as patched:
                patched.setattr(backup_file, "_row", lambda _: pytest.fail("a row was made"))
                assert "rows of t are damaged" in refused(raw)
        else:
            assert len(read(raw)) == 2


@pytest.mark.parametrize(
    "row", [b"{}", b'"abc"', b"[[],1,2]", b'[{"c":""},1,2]', b'[{"b":1},1,2]', b'[{"b":"!"},1,2]',
            b"[1,2]", b"[" * 100_000]
)  # fmt: skip
def test_a_row_that_is_none_is_refused(row):
    draft, data = Draft(), zlib.compress(row + b"\n")
    head = {"part": "rows", "table": "users", "rows": 1, "size": len(data)}
    raw = draft.header(header(1)) + draft.passed(json.dumps(head).encode() + b"\n" + data)
    assert "rows of users are damaged" in refused(raw + draft.end(b"") + draft.last_line())


@pytest.mark.parametrize(
    "change",
    [
        {"cluster": 1}, {"schema": True}, {"schema": -1}, {"keys": 7}, {"tables": []},
        {"tables": {"t": 1}}, {"tables": {"t": {"columns": "ab", "rows": 1}}},
        {"tables": {"t": {"columns": [1], "rows": 1}}},
        {"tables": {"t": {"columns": [], "rows": "1"}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_header_of_other_things_is_refused(change):
    title, said, _ = a_file().split(b"\n", 2)
    raw = title + b"\n" + json.dumps(json.loads(said) | change).encode() + b"\n"
    assert "its header is damaged" in refused(raw)


def test_another_file_is_told_apart_from_a_damaged_one():
    assert refused(b"SQLite format 3\0" + bytes(100)).startswith("b1 is not a backup of")
    assert refused(b"teleport-lite backup v2\n{}\n").endswith("or of a newer version")
