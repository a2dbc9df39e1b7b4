"""What the trail hears of forwarding: enough, in plain words, and never all of a flood."""

from datetime import UTC, datetime

import pytest

from teleport_lite.node.forward_story import BURST, EVENTS, EVERY, ForwardStory
from teleport_lite.node.forward_wire import Happened
from teleport_lite.testing.fakes import FakeClock


class Paper:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str, dict[str, str]]] = []

    def tell(self, kind: str, code: str, outcome: str, **facts: str) -> None:
        self.events.append((kind, code, outcome, facts))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def story(paper: Paper, clock: FakeClock) -> ForwardStory:
    return ForwardStory(paper, clock)


def port(number: int = 1) -> Happened:
    return Happened(what="port", facts={"direction": "local", "addr": f"db:{number}"})


def test_an_event_has_code_and_facts(story: ForwardStory, paper: Paper) -> None:
    story.tell(port())
    assert paper.events == [("port", "T3003I", "ok", {"direction": "local", "addr": "db:1"})]


def test_a_flood_is_cut_and_counted(story: ForwardStory, paper: Paper, clock: FakeClock) -> None:
    for number in range(BURST + 500):
        story.tell(port(number))
    assert len(paper.events) == BURST
    clock.tick(seconds=EVERY * 2)
    story.tell(port())
    story.tell(port())
    story.tell(port())
    assert len(paper.events) == BURST + 2
    story.close("")
    assert paper.events[-1] == ("port", "T3003I", "ok", {"left_out": "501"})
    assert len(paper.events) == BURST + 3


def test_nothing_left_out_is_not_told(story: ForwardStory, paper: Paper) -> None:
    story.close("")
    assert paper.events == []


def test_a_disconnect_of_ours_is_the_last_word(story: ForwardStory, paper: Paper) -> None:
    for _ in range(BURST + 1):
        story.tell(port())
    story.close("idle for 5m0s")
    assert paper.events[-1] == ("client.disconnect", "T3006I", "ok", {"reason": "idle for 5m0s"})


@pytest.mark.parametrize("what", ["nonsense", "", "disconnected"])
def test_a_broker_that_says_odd_things_is_not_heard(
    story: ForwardStory, paper: Paper, what: str
) -> None:
    story.tell(Happened(what=what, facts={}))
    assert paper.events == []


def test_facts_are_known_short_and_printable(story: ForwardStory, paper: Paper) -> None:
    facts = {"addr": "\x1b[2J" + "x" * 10_000, "user": "root", "sid": "1"}
    story.tell(Happened(what="port", facts=facts))
    [(_, _, _, told)] = paper.events
    assert set(told) == {"addr"}
    assert len(told["addr"]) <= 256
    assert told["addr"].isprintable()


def test_every_event_has_one_code() -> None:
    codes = [code for _, code, _ in EVENTS.values()]
    assert len(set(codes)) == len(codes)
