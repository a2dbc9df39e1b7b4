"""One event for every attempt, however it ends."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from teleport_lite.audit.trail import Entry, Trail
from teleport_lite.errors import KINDS, Denied, Error, Unavailable
from teleport_lite.model.event import Event
from teleport_lite.secret import Secret
from teleport_lite.store.memory import MemoryStore
from tests.store.makers import OPENERS

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class SlowClock:
    """A minute passes whenever somebody looks."""

    def __init__(self) -> None:
        self.looks = 0

    def now(self) -> datetime:
        self.looks += 1
        return START + timedelta(minutes=self.looks)

    def monotonic(self) -> float:
        return 60.0 * self.looks


class BrokenStore(MemoryStore):
    """Takes nothing."""

    def write(self, change):
        raise Unavailable("the disk is full")


class Bench:
    def __init__(self, store) -> None:
        self.store = store
        self.trail = Trail(SlowClock(), store)

    def attempt(self, **facts: str):
        return self.trail.attempt("instance.join", ok="TJ002I", refused="TJ002E", **facts)

    def told(self) -> list[tuple[str, str, dict[str, str]]]:
        return [(event.code, event.outcome, event.facts) for _, event in self.store.events()]


@pytest.fixture(params=["memory", "sqlite"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    store = OPENERS[request.param](tmp_path)
    yield Bench(store)
    store.close()


def test_success_is_recorded_with_the_facts_found_on_the_way(bench: Bench) -> None:
    with bench.attempt(host="web-1") as entry:
        entry.facts["host_id"] = "7"
    assert bench.told() == [("TJ002I", "ok", {"host": "web-1", "host_id": "7"})]


def test_success_recorded_with_its_consequence_is_not_recorded_twice(bench: Bench) -> None:
    with bench.attempt(host="web-1") as entry:
        bench.store.write(lambda tx: (tx.set_meta("joined", "yes"), entry.commit(tx)))
        entry.facts["late"] = "too late to be told"
    assert bench.told() == [("TJ002I", "ok", {"host": "web-1"})]


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_refusal_is_recorded_with_its_code_and_raised(bench: Bench, kind: type[Error]) -> None:
    with pytest.raises(kind, match="no"), bench.attempt(host="web-1"):
        raise kind("no")
    assert bench.told() == [("TJ002E", kind.code, {"host": "web-1", "reason": "no"})]


def test_the_trail_may_know_what_the_caller_may_not(bench: Bench) -> None:
    with pytest.raises(Denied), bench.attempt():
        raise Denied("token expired or not found", log="expired")
    assert bench.told() == [("TJ002E", "denied", {"reason": "expired"})]


def test_a_bug_is_recorded_by_its_kind_and_not_by_its_words(bench: Bench) -> None:
    with pytest.raises(KeyError), bench.attempt():
        raise KeyError("s3cr3t")
    assert bench.told() == [("TJ002E", "failed", {"reason": "internal error: KeyError"})]


def test_an_interrupt_is_recorded_too(bench: Bench) -> None:
    with pytest.raises(KeyboardInterrupt), bench.attempt():
        raise KeyboardInterrupt
    assert [code for code, _, _ in bench.told()] == ["TJ002E"]


def test_a_success_that_was_undone_is_told_as_the_refusal_it_became(bench: Bench) -> None:
    def change(tx, entry: Entry) -> None:
        tx.set_meta("joined", "yes")
        entry.commit(tx)
        raise Denied("somebody was faster")

    with pytest.raises(Denied), bench.attempt() as entry:
        bench.store.write(lambda tx: change(tx, entry))
    assert bench.told() == [("TJ002E", "denied", {"reason": "somebody was faster"})]
    assert bench.store.meta("joined") is None


def test_a_commit_that_was_undone_and_forgiven_is_a_success_all_the_same(bench: Bench) -> None:
    def change(tx, entry: Entry) -> None:
        entry.commit(tx)
        raise Denied("not this way")

    with bench.attempt() as entry, pytest.raises(Denied):
        bench.store.write(lambda tx: change(tx, entry))
    assert bench.told() == [("TJ002I", "ok", {})]


def test_a_failure_after_success_became_durable_is_told_as_well(bench: Bench) -> None:
    """The host is in the inventory, and its answer was never signed: both are true."""

    def join() -> None:
        with bench.attempt() as entry:
            bench.store.write(entry.commit)
            raise Unavailable("signing failed")

    with pytest.raises(Unavailable, match="signing failed"):
        join()
    assert [(code, outcome) for code, outcome, _ in bench.told()] == [
        ("TJ002I", "ok"),
        ("TJ002E", "unavailable"),
    ]


def test_the_time_is_that_of_the_end(bench: Bench) -> None:
    clock = SlowClock()
    trail = Trail(clock, bench.store)
    with trail.attempt("k", ok="a", refused="b"):
        clock.now()
    [(_, event)] = bench.store.events()
    assert event.at == START + timedelta(minutes=2)


def test_a_note_is_one_event(bench: Bench) -> None:
    bench.trail.note("node.gone", "TN001I", host="web-1")
    bench.trail.note("node.gone", "TN001E", "failed")
    assert bench.told() == [("TN001I", "ok", {"host": "web-1"}), ("TN001E", "failed", {})]


def test_a_success_that_cannot_be_recorded_is_no_success() -> None:
    bench = Bench(BrokenStore())
    with pytest.raises(Unavailable, match="disk is full"), bench.attempt():
        pass
    with pytest.raises(Unavailable, match="disk is full"):
        bench.trail.note("k", "c")


def test_a_refusal_that_cannot_be_recorded_stays_a_refusal_and_says_so_in_the_log() -> None:
    bench = Bench(BrokenStore())
    with pytest.raises(Denied) as caught, bench.attempt():
        raise Denied("no", log="why")
    assert caught.value.message == "no"
    assert caught.value.log == "why; not recorded: the disk is full"
    with pytest.raises(KeyError) as bug, bench.attempt():
        raise KeyError("x")
    assert "could not record" in bug.value.__notes__[0]


def test_a_secret_among_the_facts_does_not_show(bench: Bench) -> None:
    with bench.attempt() as entry:
        entry.facts["token"] = Secret("s3cr3t")  # type: ignore[assignment]  # the slip under test
    assert bench.told() == [("TJ002I", "ok", {"token": "<secret>"})]


def test_the_event_carries_its_kind(bench: Bench) -> None:
    with bench.attempt():
        pass
    [(seq, event)] = bench.store.events()
    assert (seq, event) == (
        1,
        Event(kind="instance.join", code="TJ002I", at=event.at, outcome="ok", facts={}),
    )
