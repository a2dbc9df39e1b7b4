"""Checking an exported stretch of the trail."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from teleport_lite.audit.chain import GENESIS, first_break, link
from teleport_lite.model.event import Event

AT = datetime(2026, 3, 1, tzinfo=UTC)


def a_trail(count: int = 5) -> list[tuple[int, Event, str]]:
    found, before = [], GENESIS
    for seq in range(1, count + 1):
        event = Event(kind="k", code="c", at=AT, outcome="ok", facts={"number": str(seq)})
        before = link(before, event, seq)
        found.append((seq, event, before))
    return found


def test_a_whole_trail_holds() -> None:
    assert first_break(a_trail()) is None
    assert first_break([]) is None


def test_a_stretch_holds_from_the_hash_before_it() -> None:
    trail = a_trail()
    assert first_break(trail[3:], after=trail[2][2], start=4) is None
    assert first_break(trail[3:], after=trail[1][2], start=4) == 4
    assert first_break(trail[3:]) == 1


@pytest.mark.parametrize("at", [1, 2, 5])
def test_an_edited_event_is_named(at: int) -> None:
    trail = a_trail()
    seq, event, digest = trail[at - 1]
    trail[at - 1] = (seq, replace(event, outcome="denied"), digest)
    assert first_break(trail) == at


def test_a_removed_event_is_named() -> None:
    trail = a_trail()
    del trail[2]
    assert first_break(trail) == 3


def test_an_event_that_moved_is_named() -> None:
    trail = a_trail()
    trail[1], trail[3] = trail[3], trail[1]
    assert first_break(trail) == 2
