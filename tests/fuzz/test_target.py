"""What every target promises is really looked at."""

import os
from collections.abc import Callable

import pytest

from teleport_lite.errors import Malformed
from tests.fuzz import target as module
from tests.fuzz.target import Finding, Pieces, Target, framed


def a_target(body: Callable[[bytes], object]) -> Target:
    return Target(name="x", body=body, raises=(Malformed,), seeds=tuple, parts=None, most=99)


def refuse(data: bytes) -> None:
    raise Malformed("no")


def test_a_declared_error_is_fine() -> None:
    a_target(refuse).check(b"x")


def test_any_other_exception_comes_out() -> None:
    with pytest.raises(IndexError):
        a_target(lambda data: data[9]).check(b"x")


def test_an_open_descriptor_is_a_finding() -> None:
    opened = []
    with pytest.raises(Finding, match="left open"):
        a_target(lambda _data: opened.append(os.open(os.devnull, os.O_RDONLY))).check(b"")
    for each in opened:
        os.close(each)


def test_a_descriptor_that_is_opened_once_for_good_is_none() -> None:
    opened: list[int] = []

    def body(_data: bytes) -> None:
        if not opened:
            opened.append(os.open(os.devnull, os.O_RDONLY))

    a_target(body).check(b"")
    os.close(opened[0])


def test_time_and_memory_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 0.0)
    with pytest.raises(Finding, match="for 3 bytes"):
        a_target(lambda _data: None).check(b"abc")
    monkeypatch.setattr(module, "MOST_SECONDS", 99.0)
    monkeypatch.setattr(module, "MOST_GROWTH", -1)
    with pytest.raises(Finding, match="grew by"):
        a_target(lambda _data: None).check(b"")


def test_pieces_are_what_was_framed() -> None:
    pieces = Pieces(framed(b"one", b"", b"two") + b"\x07rest")
    assert [pieces.text(), pieces.text(), pieces.text()] == [b"one", b"", b"two"]
    assert (pieces.number(), pieces.rest(), bool(pieces), pieces.text()) == (7, b"rest", False, b"")
