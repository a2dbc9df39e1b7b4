"""Recordings on their way from hosts to auth."""

import errno
import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.auth import shelf, uploads
from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.proto.recording import MAX_PART
from teleport_lite.testing.fakes import T0
from tests.auth.bench import Bench, the_host
from tests.auth.tapes import DB, SID, WEB, Archive, a_tape, digest, sid


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def kept_lines(archive: Archive, session: str = SID) -> list[Any]:
    raw = gzip.decompress((archive.records / f"{session}.cast.gz").read_bytes())
    return [json.loads(line) for line in raw.splitlines()]


# What is sent arrives


def test_a_recording_arrives_and_is_durable(archive: Archive) -> None:
    tape = a_tape("$ ", "ls\r\n")
    assert archive.send(tape, command="ls") == {"received": len(tape), "durable": True}
    kept = archive.store.recording(SID)
    assert kept is not None
    assert (kept.host_id, kept.host_name, kept.user, kept.login) == (WEB, "web-1", "alice", "root")
    assert (kept.size, kept.events, kept.command, kept.complete) == (len(tape), 2, "ls", True)
    assert kept.digest == digest(tape)
    assert (kept.width, kept.height, kept.stored_at) == (80, 24, T0)
    assert kept.stored == (archive.records / f"{SID}.cast.gz").stat().st_size
    header, *events = kept_lines(archive)
    assert header["teleport_lite"]["user"] == "alice"
    assert header["teleport_lite"]["host_id"] == WEB
    assert events == [[0.0, "o", "$ "], [1.0, "o", "ls\r\n"]]


def test_files_are_for_auth_alone(archive: Archive) -> None:
    archive.send(a_tape())
    assert archive.records.stat().st_mode & 0o777 == 0o700
    assert (archive.records / f"{SID}.cast.gz").stat().st_mode & 0o777 == 0o600


def test_its_arrival_is_told_once(archive: Archive) -> None:
    tape = a_tape()
    archive.send(tape)
    archive.send(tape)
    archive.end()
    [event] = archive.told("session.upload")
    assert (event.code, event.outcome) == ("T2005I", "ok")
    assert event.facts["sid"] == SID
    assert event.facts["server_id"] == WEB
    assert (event.facts["user"], event.facts["complete"]) == ("alice", "true")
    assert event.facts["size"] == str(len(tape))


def test_a_large_recording_comes_in_parts(archive: Archive) -> None:
    tape = a_tape(*["x" * 100_000] * 30)
    assert archive.send(tape)["durable"]
    assert len(kept_lines(archive)) == 31


def test_an_upload_goes_on_where_it_was_cut(archive: Archive) -> None:
    tape = a_tape("one", "two", "three")
    cut = tape.rfind(b"\n", 0, -1) + 1
    archive.begin(tape)
    assert archive.part(tape[:cut])["received"] == cut
    assert archive.begin(tape) == {"received": cut, "durable": False}
    assert archive.part(tape[cut:], cut)["received"] == len(tape)
    assert archive.end()["durable"]
    assert len(kept_lines(archive)) == 4


def test_a_part_that_comes_twice_or_too_early_changes_nothing(archive: Archive) -> None:
    tape = a_tape("one", "two")
    archive.begin(tape)
    first = tape[: tape.find(b"\n") + 1]
    assert archive.part(first)["received"] == len(first)
    assert archive.part(first)["received"] == len(first)
    assert archive.part(b"[9, 'o', 'z']\n", len(tape))["received"] == len(first)
    archive.part(tape[len(first) :], len(first))
    assert archive.end()["durable"]
    assert len(kept_lines(archive)) == 3


def test_the_answer_to_an_end_may_be_lost(archive: Archive) -> None:
    tape = a_tape()
    archive.send(tape)
    assert archive.end() == {"received": len(tape), "durable": True}
    assert archive.begin(tape) == {"received": len(tape), "durable": True}


def test_an_end_that_comes_too_early_says_what_is_missing(archive: Archive) -> None:
    tape = a_tape("one", "two")
    archive.begin(tape)
    first = tape[: tape.find(b"\n") + 1]
    archive.part(first)
    assert archive.end() == {"received": len(first), "durable": False}
    assert archive.store.recordings() == []


# Whose it is


def test_another_host_can_not_replace_a_recording(archive: Archive) -> None:
    tape = a_tape()
    archive.send(tape)
    for other in (tape, a_tape("nothing happened")):
        with pytest.raises(Denied, match="is of another host"):
            archive.begin(other, caller=archive.db)
    with pytest.raises(NotFound, match="no upload of recording"):
        archive.end(caller=archive.db)
    assert kept_lines(archive)[1] == [0.0, "o", "$ "]
    refusals = archive.told("session.upload")[1:]
    assert [(each.code, each.outcome) for each in refusals] == [("T2005E", "denied")] * 2
    assert refusals[0].facts["server_id"] == DB


def test_its_own_host_can_not_replace_it_either(archive: Archive) -> None:
    archive.send(a_tape())
    with pytest.raises(Conflict, match=r"another recording of session .* already"):
        archive.begin(a_tape("nothing happened"))
    assert archive.told("session.upload")[-1].code == "T2005E"


def test_of_a_session_that_a_host_tells_of_no_other_host_sends_a_recording(
    archive: Archive,
) -> None:
    archive.desks.sessions.beat(DB, [a_session()])
    with pytest.raises(Denied, match="is of another host"):
        archive.begin(a_tape())
    archive.desks.sessions.beat(DB, [])
    with pytest.raises(Denied, match="is of another host"):
        archive.begin(a_tape())
    assert archive.send(a_tape(), caller=archive.db)["durable"]


def a_session() -> Any:
    from tests.auth.test_sessions import a_session as one

    return one(sid=SID)


def test_of_two_hosts_that_send_the_same_session_one_is_kept(archive: Archive) -> None:
    mine, theirs = a_tape("mine"), a_tape("theirs")
    archive.begin(mine)
    archive.begin(theirs, caller=archive.db)
    archive.part(mine)
    archive.part(theirs, caller=archive.db)
    assert archive.end()["durable"]
    with pytest.raises(Denied):
        archive.end(caller=archive.db)
    assert kept_lines(archive)[1] == [0.0, "o", "mine"]
    assert archive.files() == [f"{SID}.cast.gz"]


def test_parts_of_one_host_do_not_reach_the_upload_of_another(archive: Archive) -> None:
    tape = a_tape()
    archive.begin(tape)
    with pytest.raises(NotFound):
        archive.part(tape, caller=archive.db)
    with pytest.raises(NotFound):
        archive.part(tape, sid=sid(1))


def test_only_nodes_send(archive: Archive) -> None:
    with pytest.raises(Denied, match="only a host with role Node"):
        archive.begin(a_tape(), caller=the_host(WEB, "App"))
    with pytest.raises(Denied, match="a user may not"):
        archive.begin(a_tape(), caller=archive.ed)


# What is believed


def test_a_part_that_changed_on_its_way_is_refused(archive: Archive) -> None:
    tape = a_tape()
    archive.begin(tape)
    with pytest.raises(Malformed, match="changed on its way"):
        archive.part(tape, digest=digest(b"other"))


def test_what_was_announced_has_to_come(archive: Archive) -> None:
    tape = a_tape("one")
    asked = {"sid": SID, "size": len(tape), "digest": digest(b"other")}
    archive.ask("/v1/recordings/begin", archive.web, facts=dict(_FACTS), **asked)
    archive.part(tape)
    with pytest.raises(Malformed, match="is not the one that was announced"):
        archive.end()
    assert archive.store.recordings() == []
    assert archive.files() == []
    assert archive.told("session.upload")[-1].outcome == "malformed"


_FACTS = {"user": "alice", "login": "root", "started": 0, "ended": 1, "complete": True}


def test_more_than_was_announced_ends_the_upload(archive: Archive) -> None:
    tape = a_tape("one")
    archive.begin(tape)
    with pytest.raises(Malformed, match="longer than its host has said"):
        archive.part(tape + b"[1, 'o', 'x']\n")
    assert archive.files() == []
    with pytest.raises(NotFound):
        archive.part(tape)


@pytest.mark.parametrize("size", [0, -1, uploads.MAX_SIZE + 1])
def test_impossible_sizes_are_refused(archive: Archive, size: int) -> None:
    with pytest.raises(Malformed, match="bytes, not"):
        archive.ask(
            "/v1/recordings/begin", archive.web, sid=SID, size=size, digest="x", facts=_FACTS
        )


@pytest.mark.parametrize("bad", ["", "x", "../../../etc/passwd", "A" * 36, f"{SID}\n"])
def test_a_session_id_is_an_id(archive: Archive, bad: str) -> None:
    for call in (lambda: archive.begin(a_tape(), bad), lambda: archive.end(bad)):
        with pytest.raises(Malformed, match="session id"):
            call()
    with pytest.raises(NotFound):
        archive.part(a_tape(), sid=bad)
    assert archive.files() == []


def test_a_part_has_a_size(archive: Archive) -> None:
    archive.begin(a_tape())
    for data in (b"", b"x" * MAX_PART + b"\n"):
        with pytest.raises(Malformed, match="a part of a recording has 1 to"):
            archive.part(data)


def test_a_part_ends_a_line(archive: Archive) -> None:
    tape = a_tape()
    archive.begin(tape)
    with pytest.raises(Malformed, match="in the middle of a line"):
        archive.part(tape[:-1])


def test_what_is_no_asciicast_is_left_out_and_the_recording_is_incomplete(
    archive: Archive,
) -> None:
    tape = a_tape("one") + b'\x1b]0;x\x07\n[2, "o", "two"]\n{"a": 1}\n'
    assert archive.send(tape)["durable"]
    kept = archive.store.recording(SID)
    assert kept is not None
    assert (kept.events, kept.dropped, kept.complete) == (2, 2, False)
    raw = gzip.decompress((archive.records / f"{SID}.cast.gz").read_bytes())
    assert b"\x1b" not in raw
    assert raw.isascii()


def test_the_header_of_a_host_is_replaced(archive: Archive) -> None:
    header = {"version": 2, "width": 100, "height": 30, "teleport_lite": {"user": "root"}, "x": 1}
    archive.send(json.dumps(header).encode() + b"\n", user="alice")
    found = kept_lines(archive)[0]
    assert (found["width"], found["height"]) == (100, 30)
    assert found["teleport_lite"]["user"] == "alice"
    assert "x" not in found


def test_times_are_neither_from_the_future_nor_impossible(archive: Archive) -> None:
    archive.send(a_tape(), started=1e300, ended=-5.0)
    kept = archive.store.recording(SID)
    assert kept is not None
    assert kept.started == kept.ended == T0


def test_a_packed_bomb_is_no_line(archive: Archive) -> None:
    bomb = gzip.compress(b"0" * 50_000_000) + b"\n"
    archive.send(a_tape() + bomb)
    kept = archive.store.recording(SID)
    assert kept is not None
    assert kept.stored < 1000
    assert not kept.complete


# Room


def test_beyond_the_quota_nothing_is_taken_and_auth_says_so(tmp_path: Path) -> None:
    archive = Archive(tmp_path, quota=400)
    archive.send(a_tape(), sid(1))
    noise = a_tape(os.urandom(2000).hex())
    for _ in range(3):
        with pytest.raises(
            Unavailable, match=r"no room for recordings: .*quota is 400 bytes"
        ) as why:
            archive.send(noise, sid(2))
        assert "recording_quota" in why.value.hint
    assert archive.files() == [f"{sid(1)}.cast.gz"]
    assert [each.outcome for each in archive.told("session.upload")] == ["ok", "unavailable"]
    archive.ask("/v1/users/list")  # the rest goes on


def test_room_that_is_made_is_used(tmp_path: Path) -> None:
    archive = Archive(tmp_path, quota=700)
    archive.send(a_tape(), sid(1))
    noise = a_tape(os.urandom(300).hex())
    with pytest.raises(Unavailable, match="no room"):
        archive.send(noise, sid(2))
    archive.ask("/v1/recordings/remove", sid=sid(1))
    assert archive.send(noise, sid(2))["durable"]


def test_what_is_on_its_way_counts(tmp_path: Path) -> None:
    archive = Archive(tmp_path, quota=1000)
    noise = a_tape(os.urandom(500).hex())
    archive.begin(noise, sid(1))
    archive.part(noise, sid=sid(1))
    with pytest.raises(Unavailable, match="no room"):
        archive.send(noise, sid(2), archive.db)


def test_without_a_quota_the_disk_decides(tmp_path: Path) -> None:
    assert Archive(tmp_path, quota=0).send(a_tape())["durable"]


def test_the_last_of_the_disk_is_not_for_recordings(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(archive.records)
    full = os.statvfs_result((*real[:3], 100, 100, *real[5:]))
    monkeypatch.setattr(shelf.os, "statvfs", lambda _: full)
    with pytest.raises(Unavailable, match="no room for recordings: 0 MiB of the disk"):
        archive.send(a_tape())
    assert archive.files() == []


def test_a_disk_that_fills_up_leaves_nothing_behind(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, real = [], os.write

    def write(fd: int, data: Any) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(fd)
        return real(fd, bytes(data)[:10])

    tape = a_tape()
    archive.begin(tape)
    with monkeypatch.context() as patch:
        patch.setattr(shelf.os, "write", write)
        with pytest.raises(Unavailable, match="no room for recordings: no space left on device"):
            archive.part(tape)
    assert archive.files() == []
    assert archive.send(tape)["durable"]


def test_where_nothing_is_kept_hosts_are_told(archive: Archive) -> None:
    bench = Bench()
    bench.store.write(lambda tx: tx.put_host(archive.store.host(WEB)[0]))  # type: ignore[index]
    with pytest.raises(Unavailable, match="keeps no recordings"):
        bench.ask(
            "/v1/recordings/begin", archive.web, sid=SID, size=1, digest="x", facts=dict(_FACTS)
        )


# Many, and half ones


def test_a_host_sends_one_at_a_time(archive: Archive) -> None:
    tape = a_tape()
    archive.begin(tape, sid(1))
    archive.begin(tape, sid(2))
    assert archive.files() == [f"{sid(2)}.{WEB}.part"]
    with pytest.raises(NotFound):
        archive.part(tape, sid=sid(1))


def test_an_upload_that_does_not_go_on_gives_way(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 1)
    archive.begin(a_tape(), sid(1))
    with pytest.raises(Unavailable, match="wait for your turn"):
        archive.begin(a_tape(), sid(2), archive.db)
    archive.clock.tick(seconds=uploads.IDLE + 1)
    archive.begin(a_tape(), sid(2), archive.db)
    assert archive.files() == [f"{sid(2)}.{DB}.part"]


def test_a_restart_of_auth_begins_half_uploads_anew(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.send(a_tape(), sid(1))
    archive.begin(a_tape(), sid(2))
    (archive.records / f"{sid(3)}.cast.gz").write_bytes(b"of a crash before the index")
    again = Archive(tmp_path, store=archive.store)
    assert again.files() == [f"{sid(1)}.cast.gz"]
    assert again.begin(a_tape(), sid(2))["received"] == 0
    assert again.send(a_tape(), sid(2))["durable"]


def test_a_store_that_can_not_write_leaves_no_file(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape, real = a_tape(), archive.store.write
    archive.begin(tape)
    archive.part(tape)

    def full(change: Any) -> Any:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(archive.store, "write", full)
        with pytest.raises(Unavailable):
            archive.end()
    assert archive.store.write == real
    assert archive.files() == []
    assert archive.send(tape)["durable"]


def test_many_calls_at_once_leave_one_whole_recording(archive: Archive) -> None:
    tape = a_tape(*["x" * 50] * 200)
    outcomes: list[str] = []

    def work() -> None:
        for _ in range(5):
            try:
                archive.send(tape)
                outcomes.append("ok")
            except Error as why:
                outcomes.append(why.code)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert archive.send(tape)["durable"]
    assert len(kept_lines(archive)) == 201
    assert archive.files() == [f"{SID}.cast.gz"]
    assert [each.outcome for each in archive.told("session.upload")].count("ok") == 1


def test_who_sends_many_parts_at_once_keeps_no_thread_waiting(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = a_tape("one")
    archive.begin(tape)
    at_work, goes_on = threading.Event(), threading.Event()
    real = uploads.packed

    def slow(lines: bytes) -> bytes:
        at_work.set()
        assert goes_on.wait(60)
        return real(lines)

    monkeypatch.setattr(uploads, "packed", slow)
    first = threading.Thread(target=archive.part, args=(tape,))
    first.start()
    try:
        assert at_work.wait(60)
        for call in (
            lambda: archive.part(tape),
            archive.end,
            lambda: archive.begin(tape),
            lambda: archive.begin(a_tape("two"), sid(2)),
        ):
            with pytest.raises(Unavailable, match="another call is at work"):
                call()
        archive.desks.uploads.tidy()
        other = archive.begin(tape, sid(3), archive.db)
        assert other["received"] == 0
    finally:
        goes_on.set()
        first.join()
    assert archive.end()["durable"]


def test_what_is_tidied_up_late_is_not_the_next_upload(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = a_tape("one")
    archive.begin(tape)
    archive.clock.tick(seconds=uploads.IDLE + 1)
    desk = archive.desks.uploads
    idle = desk._idle()
    archive.begin(a_tape("another"))  # takes its place, and the name of its file
    fresh = archive.files()
    monkeypatch.setattr(desk, "_idle", lambda: idle)
    desk.tidy()
    assert archive.files() == fresh != []


def test_files_of_which_the_index_knows_none_are_not_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Auth was started with another database, or an empty one."""
    archive = Archive(tmp_path)
    for number in (1, 2):
        archive.send(a_tape(), sid(number))
    archive.begin(a_tape(), sid(3))
    (archive.records / "lost+found").mkdir()
    kept = ["lost+found", *(f"{sid(number)}.cast.gz" for number in (1, 2))]
    other = Archive(tmp_path)
    assert other.files() == sorted(kept)
    assert "2 recordings in" in caplog.text
    assert other.send(a_tape(), sid(4))["durable"]
    assert Archive(tmp_path, store=archive.store).files() == sorted(kept)
