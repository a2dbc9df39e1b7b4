"""Events from the disk reach auth, in order, and are forgotten only then."""

from pathlib import Path

import pytest

from teleport_lite.agent.link import Outbox
from teleport_lite.ambient import SystemClock
from teleport_lite.audit.spool import Spool
from teleport_lite.daemon import backlog as module
from teleport_lite.daemon.backlog import Backlog
from teleport_lite.proto.stream import AgentEvent


def event(number: int, size: int = 1) -> AgentEvent:
    facts = {"more": "x" * size}
    return AgentEvent(kind="exec", code="T3002I", at=float(number), outcome="ok", facts=facts)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data", SystemClock())


def times(events: list[AgentEvent]) -> list[float]:
    return [each.at for each in events]


def test_a_segment_stays_on_disk_until_auth_has_it(spool: Spool) -> None:
    spool.put(event(1))
    outbox = Outbox()
    backlog = Backlog(spool, outbox)
    assert backlog.look()
    assert times(outbox.take()) == [1.0]
    assert not backlog.look()
    assert spool.waiting()
    outbox.taken(1)
    assert not backlog.look()
    assert not spool.waiting()


def test_segments_come_one_after_the_other(spool: Spool) -> None:
    for number in range(100):
        spool.put(event(number, 2000))
    outbox, told = Outbox(), []
    backlog = Backlog(spool, outbox)
    while backlog.look():
        assert len(outbox) < 50
        while sent := outbox.take():
            told += times(sent)
            outbox.taken(len(sent))
    assert told == [float(number) for number in range(100)]


def test_what_happens_now_is_not_pushed_out(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY", 0)
    spool.put(event(1))
    outbox = Outbox()
    outbox.put(event(2))
    assert not Backlog(spool, outbox).look()
    assert times(outbox.all()) == [2.0]


def test_what_auth_does_not_have_at_the_end_is_for_the_next_daemon(spool: Spool) -> None:
    for number in range(3):
        spool.put(event(number))
    outbox = Outbox()
    backlog = Backlog(spool, outbox)
    backlog.look()
    outbox.put(event(3))
    outbox.take()
    outbox.taken(2)
    assert backlog.keep() == 2
    taken = spool.take()
    assert taken is not None
    assert times(taken.events) == [2.0, 3.0]


def test_a_spool_that_can_not_be_read_stops_nothing(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    spool.put(event(1))
    spool.place.chmod(0o755)
    assert not Backlog(spool, Outbox()).look()
    assert "can not be read" in caplog.text


def test_a_full_spool_loses_no_segment_at_the_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "data", SystemClock(), most=1000)
    assert spool.put(event(1, 800))
    outbox = Outbox()
    backlog = Backlog(spool, outbox)
    assert backlog.look()
    assert backlog.keep() == 1  # there is no room for it a second time
    taken = spool.take()
    assert taken is not None
    assert times(taken.events) == [1.0]


def test_a_look_that_comes_late_takes_nothing(spool: Spool) -> None:
    spool.put(event(1))
    outbox = Outbox()
    backlog = Backlog(spool, outbox)
    assert backlog.keep() == 0
    assert not backlog.look()
    assert (len(outbox), spool.waiting()) == (0, True)
