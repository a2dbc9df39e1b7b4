"""Recordings of a host that wait for auth, and those that a crash has left."""

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent.record_spool import PLACE, SETTLED, USUAL_PART, RecordSpool
from teleport_lite.errors import Malformed, NotFound, Unavailable
from teleport_lite.proto.recording import MAX_PART
from tests.auth.tapes import SID, a_tape, sid

NOW = 2_000_000_000.0


@pytest.fixture
def spool(tmp_path: Path) -> RecordSpool:
    made = RecordSpool(tmp_path)
    made.place.mkdir(parents=True, mode=0o700)
    return made


def put(spool: RecordSpool, name: str, data: bytes = b"", *, age: float = 60) -> Path:
    path = spool.place / name
    path.write_bytes(data)
    path.chmod(0o600)
    os.utime(path, (NOW - age, NOW - age))
    return path


def put_facts(spool: RecordSpool, session: str = SID, **changes: Any) -> Path:
    facts = {"sid": session, "user": "alice", "login": "root", "started": 5.5, "ended": 7}
    return put(spool, f"{session}.json", json.dumps(facts | {"complete": True} | changes).encode())


def test_a_finished_recording_is_read_with_its_facts(spool: RecordSpool) -> None:
    tape = a_tape()
    put(spool, f"{SID}.cast", tape)
    put_facts(spool, command="top", gaps=[], bytes=9)
    assert spool.waiting(NOW) == [SID]
    found = spool.open(SID)
    assert (found.begin.sid, found.begin.size) == (SID, len(tape))
    assert found.begin.digest == hashlib.sha256(tape).hexdigest()
    facts = found.begin.facts
    assert (facts.user, facts.login, facts.command) == ("alice", "root", "top")
    assert (facts.started, facts.ended, facts.complete) == (5.5, 7.0, True)
    [part] = found.parts(0)
    assert (part.at, part.data) == (0, tape)


def test_parts_are_whole_lines_of_a_bounded_size(spool: RecordSpool) -> None:
    tape = a_tape(*["x" * 300_000] * 4, *["y" * 100] * 5000)
    put(spool, f"{SID}.cast", tape)
    found = spool.open(SID)
    parts = list(found.parts(0))
    assert b"".join(each.data for each in parts) == tape
    assert len(parts) > 2
    for each in parts:
        assert each.data.endswith(b"\n")
        assert len(each.data) <= MAX_PART
        assert hashlib.sha256(each.data).hexdigest() == each.digest
    assert len(parts[-2].data) <= USUAL_PART + 300  # short lines make short parts
    rest = list(found.parts(parts[1].at))
    assert rest[0] == parts[1]


def test_the_oldest_is_first(spool: RecordSpool) -> None:
    for number, age in ((1, 20), (2, 40), (3, 30)):
        put(spool, f"{sid(number)}.cast", a_tape(), age=age)
    assert spool.waiting(NOW) == [sid(2), sid(3), sid(1)]


def test_what_is_none_of_ours_is_left_alone(spool: RecordSpool, tmp_path: Path) -> None:
    for name in ("notes.txt", "x.cast", f"{SID}.cast.tmp", f".{SID}.cast", f"{SID}"):
        put(spool, name, a_tape())
    (spool.place / f"{sid(1)}.cast").symlink_to(tmp_path / "elsewhere")
    (spool.place / f"{sid(2)}.cast").mkdir()
    assert spool.waiting(NOW) == []
    assert spool.finish_orphans(NOW) == 0
    assert len(list(spool.place.iterdir())) == 7


def test_without_facts_the_header_tells_and_it_is_incomplete(spool: RecordSpool) -> None:
    ours = {"user": "alice", "login": "root", "started": 3, "complete": True, "command": 7}
    header = json.dumps({"version": 2, "width": 80, "height": 24, "teleport_lite": ours})
    put(spool, f"{SID}.cast", header.encode() + b"\n", age=5)
    assert spool.waiting(NOW) == []  # the facts may still come
    assert spool.waiting(NOW + SETTLED) == [SID]
    facts = spool.open(SID).begin.facts
    assert (facts.user, facts.login, facts.command, facts.started) == ("alice", "root", "", 3.0)
    assert facts.ended == NOW - 5
    assert not facts.complete


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'"x"', b"\xff"])
def test_facts_that_can_not_be_read_stop_nothing(spool: RecordSpool, raw: bytes) -> None:
    put(spool, f"{SID}.cast", a_tape())
    put(spool, f"{SID}.json", raw)
    assert not spool.open(SID).begin.facts.complete


def test_facts_of_wrong_kinds_are_not_taken(spool: RecordSpool) -> None:
    put(spool, f"{SID}.cast", a_tape())
    put_facts(spool, user=7, login=None, started="now", ended=True, complete="yes")
    facts = spool.open(SID).begin.facts
    assert (facts.user, facts.login, facts.complete) == ("", "", False)
    assert facts.started == facts.ended == NOW - 60


# What a crash has left


def test_an_orphan_is_finished_up_to_its_last_whole_line(spool: RecordSpool) -> None:
    tape = a_tape("one", "two")
    put(spool, f"{SID}.part", tape[:-4])
    assert spool.finish_orphans(NOW) == 1
    assert spool.waiting(NOW + 60) == [SID]
    found = spool.open(SID)
    assert b"".join(each.data for each in found.parts(0)) == a_tape("one")
    assert not found.begin.facts.complete
    assert spool.finish_orphans(NOW + 60) == 0


def test_a_recording_that_is_being_written_is_left_alone(spool: RecordSpool) -> None:
    path = put(spool, f"{SID}.part", a_tape())
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert spool.finish_orphans(NOW) == 0
        assert path.exists()
    assert spool.finish_orphans(NOW) == 1


def test_a_fresh_file_may_not_be_locked_yet(spool: RecordSpool) -> None:
    put(spool, f"{SID}.part", a_tape(), age=SETTLED - 1)
    assert spool.finish_orphans(NOW) == 0
    assert spool.finish_orphans(NOW + 1) == 1


def test_an_orphan_without_a_line_is_nothing(spool: RecordSpool) -> None:
    put(spool, f"{SID}.part", b'{"version": 2')
    assert spool.finish_orphans(NOW) == 0
    assert list(spool.place.iterdir()) == []


def test_facts_of_the_dead_are_removed(spool: RecordSpool) -> None:
    put_facts(spool)
    put_facts(spool, sid(1))
    put(spool, f"{sid(1)}.part", a_tape())
    assert spool.waiting(NOW) == []
    assert {path.name for path in spool.place.iterdir()} == {f"{sid(1)}.json", f"{sid(1)}.part"}


# What can not be sent


def test_a_line_that_no_part_holds_is_named(spool: RecordSpool) -> None:
    put(spool, f"{SID}.cast", a_tape() + b"x" * (MAX_PART + 1) + b"\n")
    found = spool.open(SID)
    with pytest.raises(Malformed, match="has a line longer than a part may be"):
        list(found.parts(0))


def test_what_follows_the_last_line_is_not_sent(spool: RecordSpool) -> None:
    put(spool, f"{SID}.cast", a_tape() + b"[1, ")
    assert spool.open(SID).begin.size == len(a_tape())
    put(spool, f"{sid(1)}.cast", b"no line")
    with pytest.raises(Malformed, match="holds no whole line"):
        spool.open(sid(1))


def test_an_endless_line_is_not_read_to_its_end(spool: RecordSpool) -> None:
    path = put(spool, f"{SID}.cast", a_tape())
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert spool.open(SID).begin.size == len(a_tape())


def test_what_is_gone_is_not_found(spool: RecordSpool) -> None:
    with pytest.raises(NotFound):
        spool.open(SID)
    spool.remove(SID)


def test_a_link_is_not_followed(spool: RecordSpool, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(a_tape())
    (spool.place / f"{SID}.cast").symlink_to(tmp_path / "secret")
    with pytest.raises(Unavailable):
        spool.open(SID)


# One process at a time


def test_it_is_for_one_at_a_time(spool: RecordSpool, tmp_path: Path) -> None:
    with spool.taken() as first:
        assert first
        with RecordSpool(tmp_path).taken() as second:
            assert not second
    with spool.taken() as again:
        assert again


def test_a_host_without_recordings_has_no_place_for_them(tmp_path: Path) -> None:
    with RecordSpool(tmp_path).taken() as ours:
        assert not ours
    assert not (tmp_path / PLACE).exists()


def test_a_file_that_shrinks_while_it_is_sent_is_named(spool: RecordSpool) -> None:
    path = put(spool, f"{SID}.cast", a_tape(*["x" * 200_000] * 3))
    found = spool.open(SID)
    parts = found.parts(0)
    next(parts)
    with path.open("r+b") as file:
        file.truncate(10)
    with pytest.raises(Malformed):
        list(parts)


def test_the_lock_does_not_outlive_us_in_a_child(spool: RecordSpool, tmp_path: Path) -> None:
    with spool.taken() as ours:
        assert ours
        kept = [os.dup(int(each)) for each in _open_on(spool.place)]  # as a fork would
    try:
        with RecordSpool(tmp_path).taken() as next_one:
            assert not next_one
        with spool.taken() as again:
            assert not again
        spool.let_go()  # of nothing: harmless
    finally:
        for each in kept:
            os.close(each)
    with spool.taken() as ours:
        assert ours
        kept = [os.dup(int(each)) for each in _open_on(spool.place)]
        spool.let_go()
    try:
        with RecordSpool(tmp_path).taken() as next_one:
            assert next_one
    finally:
        for each in kept:
            os.close(each)


def _open_on(path: Path) -> list[str]:
    found = []
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.samefile(f"/proc/self/fd/{each}", path):
                found.append(each)
    return found


def test_one_orphan_that_can_not_be_finished_holds_up_no_other(spool: RecordSpool) -> None:
    one, other = put(spool, f"{sid(1)}.part", a_tape()), put(spool, f"{sid(2)}.part", a_tape())
    (spool.place / f"{sid(1)}.json").mkdir()  # no facts can be written there
    assert spool.finish_orphans(NOW) == 1
    assert one.exists()
    assert not other.exists()
    assert spool.waiting(NOW) == [sid(2)]
