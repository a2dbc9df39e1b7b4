"""Settings by key, and errors that name the key."""

from datetime import timedelta

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.plugin.api import Section


def lab(**values) -> Section:
    return Section(values, "lab_service")


def test_absent_keys_are_empty_values():
    empty = lab()
    assert (empty.text("a"), empty.texts("a"), empty.flag("a")) == ("", (), False)
    assert (empty.labels(), empty.sections("a")) == ({}, ())
    assert empty.span("a", timedelta(minutes=5)) == timedelta(minutes=5)
    assert empty.section("a").text("b") == ""


@pytest.mark.parametrize("value", [None, "", (), [], {}], ids=repr)
def test_an_empty_value_is_as_good_as_an_absent_one(value):
    assert "a" not in lab(a=value)


def test_values_come_back_as_they_are():
    said = lab(a="x", b=("x", "y"), c=True, d=timedelta(seconds=1), labels={"env": "prod"})
    assert (said.text("a"), said.texts("a"), said.texts("b")) == ("x", ("x",), ("x", "y"))
    assert (said.flag("c"), said.span("d", timedelta(0))) == (True, timedelta(seconds=1))
    assert said.labels() == {"env": "prod"}


def test_a_wrong_value_deep_down_is_named_with_its_full_key():
    inner = lab(racks=[{"name": "ok"}, {"slots": [{"name": 7}]}]).sections("racks")[1]
    with pytest.raises(Malformed, match=r"^lab_service\.racks\[1\]\.slots\[0\]\.name must be text"):
        inner.sections("slots")[0].text("name")


@pytest.mark.parametrize(
    ("read", "value"),
    [
        ("text", 7),
        ("texts", ["x", 7]),
        ("flag", "yes"),
        ("labels", ["a"]),
        ("labels", {"a": 7}),
        ("labels", {"teleport.dev/x": "a"}),
        ("section", "x"),
        ("sections", {"a": 1}),
        ("sections", ["x"]),
        ("name", "two words"),
        ("name", "../../etc/passwd"),
        ("name", ""),
    ],
)
def test_a_value_of_another_type_is_malformed_and_names_the_key(read, value):
    with pytest.raises(Malformed, match=r"^lab_service\.key "):
        getattr(lab(key=value), read)("key")


def test_a_length_of_time_must_be_one():
    with pytest.raises(Malformed, match=r"lab_service\.key must be a length of time"):
        lab(key="5m").span("key", timedelta(0))
