"""Labels and the patterns that match them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.model.labels import (
    MAX_VALUE,
    check_labels,
    check_pattern,
    matches,
    parse_labels,
    value_matches,
)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", {}),
        ("env=prod", {"env": "prod"}),
        ("env=prod,rack=a 1", {"env": "prod", "rack": "a 1"}),
        ('env=prod,note="a, b"', {"env": "prod", "note": "a, b"}),
        (r'note="a \"b\" \\"', {"note": r'a "b" \ '.rstrip()}),
        ("  env = x".replace(" =", "="), {"env": "x"}),
        ("env=", {"env": ""}),
        ("env=a=b", {"env": "a=b"}),
        ("env=prod,", {"env": "prod"}),
        ("k8s.io/zone:1=x", {"k8s.io/zone:1": "x"}),
    ],
)
def test_pairs_are_read(text: str, labels: dict[str, str]) -> None:
    assert parse_labels(text) == labels


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("env", "not key=value"),
        ("=prod", "not key=value"),
        ("env=prod,,", "not key=value"),
        ("env=prod,role", "not key=value"),
        ('note="a', "quote"),
        ('note="a"b', "quote"),
        ("env=a,env=b", "given twice"),
        ("e*v=a", "key 'e.v' is not valid"),
        ("env\x1b=a", "not valid"),
        ("teleport.dev/origin=x", "reserved"),
        ("teleport.internal/resource-type=preset", "reserved"),
        ("env=a\x1b[2J", "printable"),
        ("env=" + "a" * (MAX_VALUE + 1), "at most 1024"),
        ("k" * 129 + "=a", "not valid"),
    ],
)
def test_what_is_no_label_is_refused(text: str, cause: str) -> None:
    with pytest.raises(Malformed, match=cause) as refused:
        parse_labels(text)
    assert refused.value.message.isprintable()


@given(st.text())
def test_any_text_is_labels_or_malformed(text: str) -> None:
    try:
        labels = parse_labels(text)
    except Malformed:
        return
    assert check_labels(labels) == labels


def test_no_patterns_match_nothing_and_star_everything() -> None:
    assert not matches({}, {"env": "prod"})
    assert not matches({}, {})
    assert matches({"*": ("*",)}, {})
    assert not matches({"*": ("prod",)}, {"env": "prod"})


def test_keys_are_anded_and_values_ored() -> None:
    patterns = {"env": ("prod", "stage"), "rack": ("a*",)}
    assert matches(patterns, {"env": "stage", "rack": "a1"})
    assert not matches(patterns, {"env": "stage"})
    assert not matches(patterns, {"env": "dev", "rack": "a1"})


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("prod", "prod", True),
        ("prod", "prod1", False),
        ("pro*", "prod", True),
        ("*", "", True),
        ("a?c*", "abcd", False),
        ("a?c*", "a?cd", True),
        ("[ab]*", "a", False),
        ("[ab]*", "[ab]x", True),
        ("^pr.d$", "prod", True),
        ("^pr.d$", "prod\n", False),
        ("^a|b$", "ac", False),
        ("pr.d", "prod", False),
    ],
)
def test_a_value_is_literal_a_glob_or_an_expression(pattern: str, value: str, fits: bool) -> None:
    assert value_matches(pattern, value) is fits


def test_a_broken_expression_is_refused_where_roles_are_read() -> None:
    assert check_pattern("^ok$") == "^ok$"
    assert check_pattern("[not an expression") == "[not an expression"
    with pytest.raises(Malformed, match="is not an expression"):
        check_pattern("^[prod$")
