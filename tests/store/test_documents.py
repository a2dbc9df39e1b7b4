"""Nouns as documents: what may stand in one, and what is refused when it is read."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.model.host import Host, Report
from teleport_lite.model.lock import Lock
from teleport_lite.model.user import Role, User
from teleport_lite.secret import Secret
from teleport_lite.store.documents import from_text, micros, moment, noun, plain, to_text
from tests.store.makers import filled


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_survive_to_the_microsecond(at: datetime) -> None:
    assert moment(micros(at)) == at


def test_a_time_means_the_same_in_every_zone() -> None:
    at = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    assert micros(at) == micros(at.astimezone(UTC))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        micros(datetime(2026, 1, 1))


@pytest.mark.parametrize("kind", [Host, Report, User, Role, Lock])
def test_nouns_survive(kind: type[Any]) -> None:
    assert from_text(kind, to_text(filled(kind))) == filled(kind)


def test_a_secret_may_not_stand_in_a_document() -> None:
    with pytest.raises(TypeError, match="Secret may not stand"):
        plain({"token": Secret("x")})


@dataclass(frozen=True)
class Grown:
    name: str
    added: tuple[str, ...] = ("default",)


def test_a_document_from_before_gets_the_defaults_of_new_fields() -> None:
    assert from_text(Grown, '{"name": "x"}') == Grown("x")


def test_a_document_with_a_field_that_was_dropped_is_read() -> None:
    assert from_text(Grown, '{"name": "x", "dropped": 1}') == Grown("x")


def test_fields_kept_elsewhere_win() -> None:
    assert noun(Grown, {"name": "x"}, name="y") == Grown("y")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{",
        "{}",
        '{"name": 7}',
        '{"name": null}',
        '{"name": "x", "added": "text"}',
        '{"name": "x", "added": [7]}',
        '{"name": "x", "added": {"a": "b"}}',
    ],
)
def test_what_is_not_such_a_noun_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        from_text(Grown, text)


def test_yes_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="bool where int was expected"):
        noun(User, {"name": "x", "roles": [], "generation": True})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_whatever_stands_in_a_field_it_is_a_role_or_a_value_error(value: Any) -> None:
    for name in ("name", "allow", "options", "preset"):
        try:
            found = noun(Role, {"name": "x", name: value})
        except ValueError:
            continue
        assert isinstance(found, Role)
