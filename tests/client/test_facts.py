"""Answers are read field by field; what is missing or mistyped is named."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from teleport_lite.client.facts import Facts
from teleport_lite.errors import Malformed

READERS: dict[str, tuple[Callable[[Facts], Any], object]] = {
    "text": (lambda f: f.text("k"), "a"),
    "texts": (lambda f: f.texts("k"), ["a"]),
    "number": (lambda f: f.number("k"), 7),
    "flag": (lambda f: f.flag("k"), True),
    "labels": (lambda f: f.labels("k"), {"a": "b"}),
    "each": (lambda f: [one.plain for one in f.each("k")], [{"a": 1}]),
    "one": (lambda f: f.one("k").plain, {"a": 1}),
}
EVERYTHING: list[object] = ["a", ["a"], [1], 7, True, 1.5, None, {"a": "b"}, {"a": 1}, [{"a": 1}]]


@pytest.mark.parametrize("name", READERS)
def test_the_right_type_is_returned_as_it_is(name: str) -> None:
    read, value = READERS[name]
    assert read(Facts({"k": value}, "x")) == value


@pytest.mark.parametrize("name", READERS)
def test_every_wrong_type_and_a_missing_field_are_malformed(name: str) -> None:
    read, right = READERS[name]
    wrong = [each for each in EVERYTHING if type(each) is not type(right)]
    wrong += {"texts": [[1]], "each": [["a"]], "labels": [{"a": 1}]}.get(name, [])
    for plain in [{}, *({"k": each} for each in wrong)]:
        with pytest.raises(
            Malformed, match=r"answer of auth\.sock to /v1/x is not one we know: k "
        ):
            read(Facts(plain, "auth.sock to /v1/x"))


def test_moments_have_a_zone_and_null_means_never() -> None:
    found = Facts({"a": "2026-11-21T09:00:00Z", "b": None, "c": "2026-11-21T09:00:00"}, "x")
    assert found.moment("a") == datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert found.moment("b") is None
    for key in ("c", "missing"):
        with pytest.raises(Malformed, match=f"{key} should be a time"):
            found.moment(key)
