"""What the next version may do to a message (docs/protocol.md): add what need not be there."""

import json

import pytest

from teleport_lite.proto.codec import Statement
from tests.proto.shapes import LIE, RELEASED, Shapes, kinds, shapes

NOW, THEN = shapes(), json.loads(RELEASED.read_text())


def broken(then: Shapes, now: Shapes) -> list[str]:
    """What a host of the release before, or of this one, would stumble over."""
    found = [f"{kind} is gone" for kind in then if kind not in now]
    for kind in then.keys() & now.keys():
        for name, old in then[kind].items():
            if now[kind].get(name) != old:
                found.append(f"{kind}.{name} was {old}, is {now[kind].get(name)}")
        for name in now[kind].keys() - then[kind].keys():
            if now[kind][name][1]:
                found.append(f"{kind}.{name} is new and has no default")
    return sorted(found)


def test_messages_are_what_they_were_and_a_little_more() -> None:
    """A message that has to change gets a successor beside it (docs/protocol.md)."""
    assert broken(THEN, NOW) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, "a.B is gone"),
        ({"a.B": {}}, "a.B.c was ['str', True], is None"),
        ({"a.B": {"c": ["str", False]}}, "is ['str', False]"),
        ({"a.B": {"c": ["int", True]}}, "is ['int', True]"),
        ({"a.B": {"c": ["str", True], "d": ["str", True]}}, "a.B.d is new and has no default"),
    ],
)
def test_what_breaks_those_beside_us_is_noticed(change: Shapes, why: str) -> None:
    then: Shapes = {"a.B": {"c": ["str", True]}}
    assert broken(then, {**then, "a.B": {"c": ["str", True], "d": ["int", False]}}) == []
    [found] = broken(then, change)
    assert why in found


def test_what_lies_on_disk_may_have_been_written_by_a_later_version() -> None:
    rooms = tuple(module.__name__.removeprefix("teleport_lite.") for module in LIE)
    for name, kind in kinds().items():
        if name.startswith(rooms):
            assert issubclass(kind, Statement), name
