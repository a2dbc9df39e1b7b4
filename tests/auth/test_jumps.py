"""Somebody puts the clock: nobody is cut off, forgotten, or alive again by it."""

import logging
import threading
from datetime import timedelta

import pytest

from teleport_lite.auth.jumps import JumpWatch
from teleport_lite.testing.fakes import FakeClock
from tests.auth.bench import Applicant, Bench
from tests.auth.test_hosts import PLACE, Hall

JUMPS = [timedelta(days=-1), timedelta(days=1), timedelta(days=30), timedelta(minutes=-10)]


def put(clock: FakeClock, by: timedelta) -> None:
    clock.set(clock.now() + by)


@pytest.mark.parametrize("by", JUMPS, ids=str)
def test_who_is_there_stays_there_and_who_is_gone_stays_gone(by: timedelta) -> None:
    hall = Hall()
    proxy, dead = hall.proxy("h1"), hall.proxy("h2", "boot-2")
    hall.presence.leave(dead, said_goodbye=False)
    hall.clock.tick(seconds=20)
    hall.beat(proxy, is_proxy=True, proxy=PLACE)
    hall.clock.tick(seconds=5)
    put(hall.clock, by)
    hall.presence.heed_clock()
    assert hall.proxies() == ["h1", "h2"], "not silent for longer than before"
    hall.clock.tick(seconds=10)
    hall.presence.heed_clock()
    assert hall.proxies() == ["h1"], "35 s of silence, whatever the wall says"
    assert hall.state("h1") == "online"
    hall.clock.tick(seconds=100)
    assert hall.state("h2") == "offline"


@pytest.mark.parametrize("by", JUMPS, ids=str)
def test_a_beat_that_comes_first_after_it_counts_as_what_it_is(by: timedelta) -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    put(hall.clock, by)
    hall.beat(live)
    hall.presence.heed_clock()
    assert hall.state() == "online"


@pytest.mark.parametrize("by", JUMPS, ids=str)
def test_a_beat_while_another_thread_finds_it_counts_as_what_it_is(
    by: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall = Hall()
    live = hall.live()
    hall.presence.arrive(live)
    put(hall.clock, by)
    jumps = hall.presence._jumps
    jump, beating = jumps.jump, threading.Thread(target=hall.beat, args=(live,))

    def found() -> timedelta:
        monkeypatch.setattr(jumps, "jump", jump)
        answer = jump()
        beating.start()
        beating.join(0.1)  # it comes now if it can, else later
        return answer

    monkeypatch.setattr(jumps, "jump", found)
    hall.presence.heed_clock()
    beating.join(60)
    [report] = [report for host, report in hall.presence.hosts() if host.id == "h1"]
    assert report.last_seen == hall.clock.now()


@pytest.mark.parametrize("by", JUMPS, ids=str)
def test_a_restart_is_no_clone_and_a_clone_is_one(by: timedelta) -> None:
    hall = Hall()
    first = hall.live()
    hall.presence.arrive(first)
    put(hall.clock, by)
    hall.presence.heed_clock()
    assert hall.presence.arrive(hall.live(boot="boot-2")) is first, "it beat a moment ago"
    hall.clock.tick(seconds=25)
    assert hall.presence.arrive(hall.live(boot="boot-2")) is None


def test_nobody_leaves_the_listings_because_the_clock_was_put() -> None:
    hall = Hall()
    for host_id in ("h1", "h2"):
        hall.presence.arrive(hall.live(host_id))
    put(hall.clock, timedelta(days=30))
    hall.presence.heed_clock()
    hall.clock.tick(seconds=8)
    assert hall.presence.retire(timedelta(days=7)) == []
    hall.presence.flush()
    put(hall.clock, timedelta(days=-30))
    assert Hall.state(hall, "h1") == "offline", "seen in the future, so nobody knows when"


def test_a_token_is_not_revived_by_a_clock_that_is_put_back() -> None:
    bench = Bench()
    bench.token(ttl="5m")
    bench.later(minutes=6)
    with pytest.raises(Exception, match="token expired or not found"):
        bench.join(Applicant())
    put(bench.clock, timedelta(days=-1))
    with pytest.raises(Exception, match="token expired or not found"):
        bench.join(Applicant())


def test_a_clock_that_is_slewed_is_none_that_jumps(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = FakeClock()
    watch = JumpWatch(clock)
    for _ in range(100):
        clock.tick(seconds=1)
        put(clock, timedelta(milliseconds=100))
        assert not watch.jump()
    assert not caplog.text
    put(clock, timedelta(days=-1))
    assert watch.jump() == timedelta(days=-1)
    assert watch.jump() == timedelta()
    assert "the clock of this host was put back by 1 day, 0:00:00" in caplog.text
