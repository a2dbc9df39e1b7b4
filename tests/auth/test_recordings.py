"""Recordings that auth keeps: who may list, read and remove them, and when they go."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.auth import recordings
from teleport_lite.auth.recordings import RecordingDesk
from teleport_lite.errors import Conflict, Denied, Malformed, NotFound, Unavailable
from teleport_lite.model.recording import Recording
from teleport_lite.model.user import Condition, Role, Rule
from teleport_lite.testing.fakes import T0
from tests.auth.bench import ROOT, Bench
from tests.auth.tapes import SID, WEB, Archive, a_tape, person, sid
from tests.auth.test_sessions import a_session


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


@pytest.fixture
def three(archive: Archive) -> Archive:
    """Of alice on web-1, of ed on db-1, of alice on db-1; an hour between them."""
    for number, user, caller, command in (
        (1, "alice", archive.web, ""),
        (2, "ed", archive.db, "top -b"),
        (3, "alice", archive.db, ""),
    ):
        at = T0.timestamp() - 36_000 + number * 3600
        said = {"user": user, "started": at, "ended": at + 60, "command": command}
        archive.send(a_tape(), sid(number), caller, **said)
    return archive


def test_what_a_host_sends_again_while_it_is_removed_stays_whole(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not heard that the first time was enough."""
    archive.send(a_tape())
    off = archive.desks.recordings._off_the_disk

    def slow(kept: Recording) -> None:
        archive.send(a_tape())
        off(kept)

    monkeypatch.setattr(RecordingDesk, "_off_the_disk", lambda desk, kept: slow(kept))
    archive.ask("/v1/recordings/remove", sid=SID)
    assert archive.sids() == [SID]
    assert archive.play() == archive.play()


# Listing


def test_a_recording_is_shown_with_what_is_known(archive: Archive) -> None:
    archive.send(a_tape(), command="top")
    [shown] = archive.ask("/v1/recordings/list", archive.audra)["recordings"]
    assert shown == {
        "sid": SID,
        "kind": "ssh",
        "user": "alice",
        "login": "root",
        "host_id": WEB,
        "host_name": "web-1",
        "command": "top",
        "started": "2026-03-02T11:59:00Z",
        "ended": "2026-03-02T12:00:00Z",
        "complete": True,
        "size": len(a_tape()),
        "width": 80,
        "height": 24,
    }


def test_the_presets_say_who_sees_whose(three: Archive) -> None:
    everything = [sid(3), sid(2), sid(1)]
    assert three.sids(three.audra) == three.sids(three.ed) == three.sids(ROOT) == everything
    assert three.sids(three.alice) == [sid(3), sid(1)]
    assert three.sids(three.alice, user="alice") == [sid(3), sid(1)]
    assert three.sids(three.alice, user="ed") == []
    assert three.sids(three.audra, user="ed") == [sid(2)]


def test_filters(three: Archive) -> None:
    assert three.sids(since="2026-03-02T04:00:00Z") == [sid(3), sid(2)]
    assert three.sids(until="2026-03-02T04:00:00Z") == [sid(1)]
    assert three.sids(search="DB-1") == [sid(3), sid(2)]
    assert three.sids(search="db-1 top") == [sid(2)]
    assert three.sids(search="nosuch") == []
    assert three.sids(limit=2) == [sid(3), sid(2)]
    assert three.sids(limit=2, after=sid(2)) == [sid(1)]


def test_a_search_looks_at_all_pages(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_PAGE", 2)
    for number in range(7):
        archive.send(a_tape(), sid(number), command="rare" if number in (0, 5) else "often")
    assert sorted(archive.sids(search="rare")) == [sid(0), sid(5)]
    assert len(archive.sids(search="often", limit=3)) == 3


@pytest.mark.parametrize(
    "bad",
    [
        {"limit": 0},
        {"limit": 1001},
        {"since": "yesterday"},
        {"until": "2026-01-01"},
        {"after": "x"},
        {"since": "0001-01-01T00:00:00+23:00"},
        {"until": "9999-12-31T23:59:59-23:00"},
        {"search": "x " * 600},
    ],
    ids=["few", "many", "since", "zone", "after", "before", "beyond", "long"],
)
def test_filters_that_mean_nothing_are_refused(archive: Archive, bad: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        archive.sids(**bad)


def test_a_deny_hides_even_ones_own(three: Archive) -> None:
    deny = Condition(rules=(Rule(resources=("session",), verbs=("*",)),))
    three.store.write(lambda tx: tx.add_role(Role(name="blind", deny=deny)))
    three.ask("/v1/users/update", name="alice", roles=["access", "blind"])
    alice = person("alice", "access", "blind")
    with pytest.raises(Denied, match="role blind denies list on session"):
        three.sids(alice)
    with pytest.raises(Denied, match="role blind denies read on session"):
        three.play(sid(1), alice)


# Reading


def test_what_is_played_is_what_was_sent(archive: Archive) -> None:
    said = [f"line {number}\r\n" * 2000 for number in range(60)]
    archive.send(a_tape(*said))
    lines = [json.loads(line) for line in archive.play().splitlines()]
    assert [each[2] for each in lines[1:]] == said


def test_who_may_read_what(three: Archive) -> None:
    for caller in (three.alice, three.audra, three.ed, ROOT):
        assert three.play(sid(1), caller)
    with pytest.raises(Denied, match="not a session of yours"):
        three.play(sid(2), three.alice)


def test_every_access_is_told_before_the_first_byte(three: Archive) -> None:
    three.play(sid(1), three.audra)
    with pytest.raises(Denied):
        three.play(sid(2), three.alice)
    seen, refused = three.told("recording.access")
    assert (seen.code, seen.outcome) == ("T2012I", "ok")
    assert seen.facts == {
        "sid": sid(1),
        "user": "user:audra",
        "addr.remote": "192.0.2.7",
        "owner": "alice",
        "server_id": WEB,
    }
    assert (refused.code, refused.outcome) == ("T2012E", "denied")


def test_one_play_is_one_access_and_nobody_begins_in_the_middle_unseen(archive: Archive) -> None:
    archive.send(a_tape(*["x" * 200_000] * 12))

    def read(at: int, caller: Any = archive.audra) -> Any:
        return archive.ask("/v1/recordings/read", caller, sid=SID, at=at)["next"]

    second = read(0)
    third = read(second)
    assert len(archive.told("recording.access")) == 1
    read(third, archive.ed)
    assert [each.facts["user"] for each in archive.told("recording.access")] == [
        "user:audra",
        "user:ed",
    ]
    read(0)
    archive.clock.tick(seconds=recordings.ONE_ACCESS + 1)
    read(second)
    assert len(archive.told("recording.access")) == 4


def test_what_can_not_be_told_is_not_read(archive: Archive, monkeypatch: Any) -> None:
    archive.send(a_tape())

    def full(change: Any) -> Any:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(archive.store, "write", full)
    with pytest.raises(Unavailable):
        archive.play()


@pytest.mark.parametrize("at", [-1, 1, 10, 10_000_000])
def test_a_place_where_nothing_begins_is_refused(archive: Archive, at: int) -> None:
    archive.send(a_tape())
    with pytest.raises(Malformed, match=r"does not go on at|not read from a beginning"):
        archive.ask("/v1/recordings/read", archive.audra, sid=SID, at=at)


def test_a_damaged_file_is_named(archive: Archive) -> None:
    archive.send(a_tape())
    path = archive.records / f"{SID}.cast.gz"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(Malformed, match=f"recording {SID} is damaged"):
        archive.play()
    path.unlink()
    with pytest.raises(NotFound, match=f"the file of recording {SID} is gone"):
        archive.play()


def test_why_there_is_none_is_told(archive: Archive) -> None:
    with pytest.raises(NotFound, match="there is no recording") as unknown:
        archive.play()
    assert unknown.value.hint == "tsh recordings ls"
    archive.desks.sessions.beat(WEB, [a_session()])
    with pytest.raises(Conflict, match="still goes on") as live:
        archive.play()
    assert live.value.hint == f"tsh join {SID}"
    archive.desks.sessions.beat(WEB, [])
    with pytest.raises(Unavailable, match="has not come from its host yet"):
        archive.play()
    with pytest.raises(Malformed, match="session id"):
        archive.play("../../etc/passwd")


# Removing


def test_a_removed_recording_is_gone_and_told(three: Archive) -> None:
    assert three.ask("/v1/recordings/remove", three.ed, sid=sid(1)) == {"sid": sid(1)}
    assert three.sids() == [sid(3), sid(2)]
    assert f"{sid(1)}.cast.gz" not in three.files()
    [event] = three.told("recording.delete")
    assert (event.code, event.outcome) == ("TSR01I", "ok")
    assert (event.facts["cause"], event.facts["user"]) == ("asked", "user:ed")
    assert event.facts["owner"] == "alice"


def test_who_only_looks_removes_nothing(three: Archive) -> None:
    for caller in (three.alice, three.audra):
        with pytest.raises(Denied, match="no role allows delete on session"):
            three.ask("/v1/recordings/remove", caller, sid=sid(1))
    assert len(three.sids()) == 3


def test_what_is_not_there_can_not_be_removed(archive: Archive) -> None:
    with pytest.raises(NotFound):
        archive.ask("/v1/recordings/remove", sid=SID)
    [event] = archive.told("recording.delete")
    assert (event.code, event.outcome) == ("TSR01E", "not_found")


def test_what_is_older_than_the_retention_goes_and_is_told(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "_BATCH", 2)
    for number in range(5):
        archive.send(a_tape(), sid(number))
    archive.clock.tick(days=89)
    archive.send(a_tape(), sid(9))
    assert archive.desks.recordings.sweep() == 0
    archive.clock.tick(days=1, seconds=1)
    assert archive.desks.recordings.sweep() == 5
    assert archive.sids() == [sid(9)]
    assert archive.files() == [f"{sid(9)}.cast.gz"]
    gone = archive.told("recording.delete")
    assert sorted(each.facts["sid"] for each in gone) == [sid(number) for number in range(5)]
    assert {each.facts["cause"] for each in gone} == {"retention"}
    assert archive.store.verify_trail()[1] is None


def test_a_host_with_a_wrong_clock_does_not_decide_how_long_is_kept(archive: Archive) -> None:
    archive.send(a_tape(), started=0, ended=1)
    assert archive.desks.recordings.sweep() == 0
    assert archive.sids() == [SID]


@pytest.mark.parametrize("days", [0, 999_999])
def test_no_retention_keeps_for_ever(tmp_path: Path, days: int) -> None:
    archive = Archive(tmp_path, retention=timedelta(days=days))
    archive.send(a_tape())
    archive.clock.tick(days=20_000)
    assert archive.desks.recordings.sweep() == 0
    assert archive.sids() == [SID]


def test_where_nothing_is_kept_there_is_nothing() -> None:
    bench = Bench()
    assert bench.ask("/v1/recordings/list") == {"recordings": []}
    assert bench.desks.recordings.sweep() == 0
