"""Events on disk: in order, none twice, none lost without a word."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from teleport_lite.ambient import SystemClock
from teleport_lite.audit import spool as spool_module
from teleport_lite.audit.spool import LOST_CODE, SEGMENT, Spool
from teleport_lite.errors import Denied, Unavailable
from teleport_lite.proto.stream import AgentEvent


def event(number: int, size: int = 1) -> AgentEvent:
    facts = {"number": str(number), "more": "x" * size}
    return AgentEvent(kind="exec", code="T3002I", at=float(number), outcome="ok", facts=facts)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data", SystemClock())


def drain(spool: Spool) -> list[AgentEvent]:
    found = []
    while (taken := spool.take()) is not None:
        found += taken.events
        spool.done(taken)
    return found


def test_what_was_put_is_taken_in_order(spool: Spool) -> None:
    for number in range(500):
        assert spool.put(event(number, 500))
    assert len(list(spool.place.glob("*.events"))) > 1
    assert [each.at for each in drain(spool)] == [float(number) for number in range(500)]
    assert not spool.waiting()


def test_a_segment_comes_again_until_it_is_done(spool: Spool) -> None:
    spool.put(event(1))
    first = spool.take()
    spool.put(event(2))
    assert first is not None
    assert spool.take() == first
    spool.done(first)
    assert [each.at for each in drain(spool)] == [2.0]


def test_the_oldest_are_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "data", SystemClock(), most=3 * SEGMENT)
    kept = [spool.put(event(number, 1000)) for number in range(400)]
    lost = kept.count(False)
    assert 0 < lost < 400
    *found, last = drain(spool)
    assert [each.at for each in found] == [float(number) for number in range(400 - lost)]
    assert (last.code, last.facts["events"]) == (LOST_CODE, str(lost))
    assert drain(spool) == []


def test_an_event_that_is_too_long_is_counted(spool: Spool) -> None:
    assert not spool.put(event(1, 70_000))
    [last] = drain(spool)
    assert last.facts["events"] == "1"


def test_a_torn_line_is_counted_and_stops_nothing(spool: Spool) -> None:
    spool.put(event(1))
    [segment] = spool.place.glob("*.events")
    with segment.open("ab") as file:
        file.write(b'{"kind":"ex\n')
    spool.put(event(2))
    *found, last = drain(spool)
    assert [each.at for each in found] == [1.0, 2.0]
    assert last.facts["events"] == "1"


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_lost_while_others_are_told_of_is_told_next(spool: Spool, keep: bool) -> None:
    spool.count_lost(3)
    taken = spool.take()
    assert taken is not None
    spool.count_lost(2)
    if keep:
        assert spool.put_first(taken.events, instead=taken)
    else:
        spool.done(taken)
    told = [*([] if keep else taken.events), *drain(spool)]
    assert [each.facts["events"] for each in told] == ["3", "2"]
    assert not spool.waiting()


def test_nobody_else_can_read_it(spool: Spool) -> None:
    old = os.umask(0)
    try:
        spool.put(event(1))
    finally:
        os.umask(old)
    assert stat.S_IMODE(spool.place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in spool.place.iterdir()} == {0o600}


def test_a_directory_that_others_can_enter_is_not_used(spool: Spool) -> None:
    spool.put(event(1))
    spool.place.chmod(0o755)
    assert not spool.put(event(2))
    with pytest.raises(Denied):
        spool.take()


def test_a_lock_that_somebody_keeps_is_not_waited_for_for_ever(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_TRIES", 2)
    spool.put(event(1))
    with (spool.place / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not spool.offer(event(2))
        with pytest.raises(Unavailable, match="locked by somebody else"):
            spool.take()
    assert [each.at for each in drain(spool)] == [1.0]


def test_a_disk_that_takes_half_an_event_keeps_none_of_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.put(event(1))
    real = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, data: real(file, data[: len(data) // 2]))
        assert not spool.offer(event(2))
        assert not spool.put_first([event(0)], instead=None)
    assert spool.offer(event(3))
    assert spool.offer(event(4, 70_000)), "it would never fit: it is counted"
    *found, lost = drain(spool)
    assert ([each.at for each in found], lost.facts["events"]) == ([1.0, 3.0], "1")


def test_a_link_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    spool.put(event(1))
    drain(spool)
    target = tmp_path / "target"
    target.touch()
    (spool.place / f"{1:016d}.events").symlink_to(target)
    assert not spool.put(event(2))
    assert target.read_bytes() == b""


def test_many_processes_write_at_once_and_one_takes(spool: Spool) -> None:
    code = """
import sys
from pathlib import Path
from teleport_lite.ambient import SystemClock
from teleport_lite.audit.spool import Spool
from tests.audit.test_spool import event
spool = Spool(Path(sys.argv[1]), SystemClock())
for number in range(200):
    assert spool.put(event(1000 * int(sys.argv[2]) + number, 200))
"""
    data_dir = str(spool.place.parent.parent)
    words = [sys.executable, "-c", code, data_dir]
    writers = [subprocess.Popen([*words, str(each)]) for each in range(4)]
    found = []
    while any(writer.poll() is None for writer in writers):
        found += drain(spool)
    found += drain(spool)
    assert [writer.returncode for writer in writers] == [0] * 4
    numbers = [int(each.at) for each in found]
    assert len(numbers) == len(set(numbers)) == 800
    for each in range(4):
        mine = [number for number in numbers if number // 1000 == each]
        assert mine == sorted(mine)
