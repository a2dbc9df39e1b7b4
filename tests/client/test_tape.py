"""Recordings that lie here and can be wound."""

import contextlib
import gzip
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.client import tape as tape_module
from teleport_lite.client.tape import Tape, from_file, from_pieces
from teleport_lite.errors import Denied, Error, Malformed, NotFound
from teleport_lite.proto.cast import MAX_WRITTEN_LINE
from tests.cli.tsh.recordings_rig import timed


def test_it_is_wound_to_any_place() -> None:
    with from_pieces([timed((0, "a"), (1, "b")), b'[2.5, "o", "c"]\n'], "x") as tape:
        assert (len(tape), tape.seconds, tape.header.width) == (3, 2.5, 80)
        assert tape.facts["user"] == "alice"
        assert [each.data for each in tape.events()] == ["a", "b", "c"]
        assert [each.data for each in tape.events(1, 2)] == ["b"]
        assert [tape.after(at) for at in (-1, 0, 0.5, 1, 9)] == [0, 1, 1, 2, 3]
        assert tape.at(2) == 2.5


def test_time_does_not_go_back() -> None:
    with from_pieces([timed((5, "a"), (1, "b"))], "x") as tape:
        assert [each.at for each in tape.events()] == [5, 5]


def test_a_file_and_a_packed_one(tmp_path: Path) -> None:
    raw = timed((0, "a"))
    (tmp_path / "x.cast").write_bytes(raw)
    (tmp_path / "x.cast.gz").write_bytes(gzip.compress(raw[:50]) + gzip.compress(raw[50:]))
    for name in ("x.cast", "x.cast.gz"):
        with from_file(tmp_path / name) as tape:
            assert [each.data for each in tape.events()] == ["a"]


def test_what_can_not_be_opened_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        from_file(tmp_path / "nosuch")
    with pytest.raises(Error):
        from_file(tmp_path)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(timed((0, "a")))[:-9])
    with pytest.raises(Malformed, match=r"cut\.gz is damaged"):
        from_file(tmp_path / "cut.gz")
    if os.geteuid() != 0:
        (tmp_path / "secret").touch(mode=0)
        with pytest.raises(Denied):
            from_file(tmp_path / "secret")


@pytest.mark.parametrize("raw", [b"", b"\n", b"{}\n", b"[0, 'o', 'x']\n"])
def test_what_has_no_header_is_no_recording(raw: bytes) -> None:
    with pytest.raises(Malformed):
        from_pieces([raw], "x")


def test_an_endless_line_is_several_lines_that_are_none() -> None:
    raw = timed((0, "a")) + b"x" * (3 * MAX_WRITTEN_LINE) + b'\n[1, "o", "b"]\n'
    with from_pieces([raw], "x") as tape:
        assert tape.unread == 3
        assert [each.data for each in tape.events()] == ["a", "b"]


@given(st.lists(st.one_of(st.binary(max_size=40), st.just(b'[1, "o", "x"]\n')), max_size=20))
def test_anything_at_all_is_a_tape_or_malformed(pieces: list[bytes]) -> None:
    with Tape(io.BytesIO(timed() + b"".join(pieces)), "x") as tape:
        list(tape.events())
    with contextlib.suppress(Malformed):
        Tape(io.BytesIO(b"".join(pieces)), "x").close()


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape_module, "MAX_UNPACKED", 1 << 20)
    bomb = tmp_path / "bomb.cast.gz"
    bomb.write_bytes(gzip.compress(timed((0, "a")) + b'[0,"o",""]\n' * 200_000))
    assert bomb.stat().st_size < 20_000
    with pytest.raises(Malformed, match="unpacks to more than 1 MiB"):
        from_file(bomb)


def test_facts_of_a_stranger_are_plain_values() -> None:
    nested = "[" * 900 + "]" * 900
    odd = f'"a": {nested}, "b": NaN, "c": 1e999, "d": {{}}, "e": {"9" * 4000}'
    plain = '"user": "alice", "n": 1.5, "ok": true, "none": null'
    header = f'{{"version": 2, "width": 80, "height": 24, "teleport_lite": {{{odd}, {plain}}}}}\n'
    with from_pieces([header.encode()], "x") as tape:
        assert tape.facts == {"user": "alice", "n": 1.5, "ok": True, "none": None}
