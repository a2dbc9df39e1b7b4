"""Two clusters from one: a backup that was restored while the old auth server goes on."""

import pytest

from teleport_lite.auth.life import LIFE, born, kept, life_of
from teleport_lite.errors import Unavailable
from teleport_lite.store.memory import MemoryStore
from teleport_lite.testing.fakes import FakeChance, FakeClock
from tests.auth.bench import Bench
from tests.auth.test_sharing import NODE, Pair, Stream, node
from tests.store.makers import a_host


class Split:
    """An old auth server, and one that was made of its backup a moment later."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.old = Bench(store=MemoryStore(), clock=self.clock, seed="old")
        self.clock.tick(days=1)
        self.restored = self.clock.now()
        made = MemoryStore()
        before = self.old.desks.life.life.word
        made.write(lambda tx: tx.set_meta(*kept(born(before, self.clock, FakeChance("new")))))
        self.new = Bench(store=made, clock=self.clock, seed="new")
        for each in (self.old, self.new):
            each.store.write(lambda tx: tx.put_host(a_host(NODE)))

    def comes(self, to: Bench, last: Bench | None, ago: float = 0.0, boot: str = "b") -> Stream:
        """The node comes to one, and was told by the other `ago` seconds before."""
        life = last.desks.life.life.word if last else ""
        return Stream(to, node(), boot, life=life, heard_ago=ago)


def warned(bench: Bench) -> int:
    found = bench.ask("/v1/status")["other_life"]
    return found["hosts"] if found else 0


def test_a_store_keeps_its_life_and_a_restored_one_is_the_next() -> None:
    split = Split()
    old, new = split.old.desks.life.life, split.new.desks.life.life
    assert (old.number, new.number) == (1, 2)
    assert old.id != new.id
    again = Bench(store=split.old.store, clock=split.clock, seed="after a power cut")
    assert again.desks.life.life == old
    assert again.desks.teacher.lesson().life == old.word


def test_of_two_that_open_a_store_without_a_life_both_have_the_same() -> None:
    store, clock = MemoryStore(), FakeClock()
    first = life_of(store, clock, FakeChance("a"))
    assert life_of(store, clock, FakeChance("b")) == first
    assert store.meta(LIFE)


@pytest.mark.parametrize("ago", [0.0, 120.0, -5.0])
def test_a_host_that_was_told_by_the_old_one_after_the_restore_is_noticed_and_let_in(
    ago: float,
) -> None:
    split = Split()
    split.clock.tick(minutes=30)
    stream = split.comes(split.new, split.old, ago)
    assert not stream.over
    event = split.new.last_event("cluster.life")
    assert (event.code, event.outcome) == ("TLC02W", "conflict")
    assert event.facts["host_id"] == NODE
    assert event.facts["other"] == split.old.desks.life.life.word
    assert warned(split.new) == 1
    assert warned(split.old) == 0


def test_the_old_one_notices_who_comes_back_from_the_restored_one() -> None:
    split = Split()
    split.clock.tick(minutes=30)
    assert not split.comes(split.old, split.new).over
    assert len(split.old.events("cluster.life")) == 1
    assert warned(split.old) == 1


def test_a_restore_after_the_old_one_had_ended_is_no_news() -> None:
    """Hosts were told last before it, however late they come."""
    split = Split()
    split.clock.tick(hours=2)
    split.comes(split.new, split.old, ago=2 * 3600 + 1)
    assert split.new.events("cluster.life") == []
    assert warned(split.new) == 0


@pytest.mark.parametrize("word", ["", "rubbish", "1-\x1b[2J", "x" * 500])
def test_a_host_that_says_no_life_is_no_news(word: str) -> None:
    split = Split()
    split.clock.tick(hours=2)
    assert not Stream(split.new, node(), life=word).over
    assert split.new.events("cluster.life") == []


def test_a_host_that_goes_to_and_fro_is_told_of_once_a_day_and_shown_for_one() -> None:
    split = Split()
    split.clock.tick(hours=1)
    for number in range(5):
        split.comes(split.new, split.old, boot="b").beat()
        split.clock.tick(minutes=1)
        assert len(split.new.events("cluster.life")) == 1, number
    assert warned(split.new) == 1
    split.clock.tick(days=1, minutes=1)
    assert warned(split.new) == 0
    split.comes(split.new, split.old)
    assert len(split.new.events("cluster.life")) == 2


def test_a_trail_that_can_not_be_written_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    split = Split()
    split.clock.tick(hours=1)

    def full(*args: object, **facts: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(split.new.desks.trail, "note", full)
    assert not split.comes(split.new, split.old).over
    assert "could not record it: the disk is full" in caplog.text
    assert warned(split.new) == 1


def test_two_auth_servers_of_one_store_are_one_life_and_warn_together() -> None:
    pair = Pair()
    assert pair.a.desks.life.life == pair.b.desks.life.life
    pair.tick(3600)
    stream = Stream(pair.a, node())
    word = stream.heard[0].knowledge.life  # type: ignore[union-attr]  # it is the first thing said
    assert word == pair.b.desks.life.life.word
    stream.say(goodbye={})
    other = Stream(pair.b, node(), life=word)
    assert warned(pair.b) == 0
    other.say(goodbye={})
    Stream(pair.b, node(), life=Split().new.desks.life.life.word)
    pair.tick()
    assert (warned(pair.a), warned(pair.b)) == (1, 1)
