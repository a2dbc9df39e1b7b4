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
    backlog = Backlog(spool, Outbox())
    assert not any(backlog.look() for _ in range(60))
    assert caplog.text.count("can not be read") == 1, "a minute of looks is one line"
    assert not backlog.look()
    assert caplog.text.count("can not be read") == 2


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


# auth is away


class Auth:
    """Is it there? Takes what there is when it is."""

    def __init__(self) -> None:
        self.there, self.told = True, []  # type: ignore[var-annotated]

    def take(self, backlog: Backlog, outbox: Outbox) -> list[float]:
        """All that comes while it is there, in order."""
        while backlog.look() or len(outbox):
            sent = outbox.take()
            outbox.taken(len(sent))
            self.told += times(sent)
        return self.told


def test_nothing_is_lost_and_all_stays_in_order_while_auth_is_away(spool: Spool) -> None:
    auth, outbox = Auth(), Outbox()
    backlog = Backlog(spool, outbox, lambda: auth.there)
    for number in range(10):
        backlog.tell(event(number))
    assert len(outbox) == 10, "by memory alone while auth listens"
    outbox.take()
    auth.there = False
    outbox.send_again()  # the connection has ended
    for number in range(10, 3000):
        backlog.tell(event(number))
    assert len(outbox) == 0, "a crash now loses nothing"
    auth.there = True
    assert backlog.look()
    for number in range(3000, 3010):  # not past those that wait
        backlog.tell(event(number))
    assert auth.take(backlog, outbox) == [float(number) for number in range(3010)]
    assert not backlog.waiting()
    backlog.tell(event(3010))
    assert len(outbox) == 1, "by memory again"


def test_what_waits_in_memory_goes_to_the_disk_without_a_further_event(spool: Spool) -> None:
    auth, outbox = Auth(), Outbox()
    backlog = Backlog(spool, outbox, lambda: auth.there)
    backlog.tell(event(1))
    auth.there = False
    backlog.look()
    assert (len(outbox), spool.waiting()) == (1, True)  # as a segment that is handed on already
    again = Spool(spool.place.parent.parent, SystemClock()).take()
    assert again is not None
    assert times(again.events) == [1.0]


def test_a_full_disk_keeps_them_in_memory_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "data", SystemClock(), most=1000)
    auth, outbox = Auth(), Outbox()
    auth.there = False
    backlog = Backlog(spool, outbox, lambda: auth.there)
    for number in range(50):
        backlog.tell(event(number, 300))
    auth.there = True
    assert auth.take(backlog, outbox) == [float(number) for number in range(50)]


def test_a_disk_that_takes_nothing_at_all_stops_no_event(spool: Spool) -> None:
    spool.place.mkdir(parents=True)
    spool.place.chmod(0o755)  # unsafe, so nothing is kept there
    auth, outbox = Auth(), Outbox()
    auth.there = False
    backlog = Backlog(spool, outbox, lambda: auth.there)
    for number in range(50):
        backlog.tell(event(number))
    backlog.look()
    spool.place.chmod(0o700)
    auth.there = True
    assert auth.take(backlog, outbox) == [float(number) for number in range(50)]


def test_what_no_memory_holds_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_LATE", 3)
    spool = Spool(tmp_path / "data", SystemClock(), most=200)
    auth, outbox = Auth(), Outbox()
    auth.there = False
    backlog = Backlog(spool, outbox, lambda: auth.there)
    for number in range(10):
        backlog.tell(event(number, 100))
    auth.there = True
    told = auth.take(backlog, outbox)
    assert told[:4] == [0.0, 1.0, 2.0, 3.0]
    assert "6 audit events were dropped" in caplog.text
    assert len(told) == 5, "the last one says how many are missing"


def test_the_next_daemon_tells_them_in_the_same_order(spool: Spool) -> None:
    """It stops while it catches up: some are in memory, some in a segment, some behind it."""
    for number in range(100):
        spool.put(event(number, 2000))
    outbox = Outbox()
    backlog = Backlog(spool, outbox)
    backlog.look()
    outbox.taken(len(outbox.take()) - 5)
    backlog.tell(event(100))
    backlog.keep()
    backlog.tell(event(101))
    told = []
    while (taken := spool.take()) is not None:
        told += times(taken.events)
        spool.done(taken)
    assert told[-1] == 101.0
    assert told == sorted(told)
    assert len(told) == len(set(told))
    assert told[0] == 102 - len(told)


def test_what_comes_while_a_segment_waits_is_behind_it_for_the_next_daemon(spool: Spool) -> None:
    outbox = Outbox()
    backlog = Backlog(spool, outbox)
    backlog.tell(event(1))
    spool.put(event(2))
    assert backlog.keep() == 1
    told = []
    while (taken := spool.take()) is not None:
        told += times(taken.events)
        spool.done(taken)
    assert told == [1.0, 2.0]
