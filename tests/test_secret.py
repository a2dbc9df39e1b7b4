"""Text that must not be seen."""

import json
import pickle

import pytest

from teleport_lite.secret import Secret

TEXT = "hunter2-hunter2-hunter2"


def test_it_is_not_seen_wherever_it_lands() -> None:
    secret = Secret(TEXT)
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r}", [secret]):
        assert TEXT not in str(shown)
    with pytest.raises(TypeError) as refused:
        json.dumps(secret)
    assert TEXT not in str(refused.value)


def test_it_does_not_leave_in_a_pickle() -> None:
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(Secret(TEXT))


def test_it_is_read_by_asking() -> None:
    assert Secret(TEXT).reveal() == TEXT


def test_equal_texts_are_equal_secrets_and_a_text_is_none() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert hash(Secret(TEXT)) == hash(Secret(TEXT))
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT
    assert Secret("\u00fc") != Secret("u")


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret("x")


def test_the_tail_of_a_short_secret_shows_nothing() -> None:
    assert Secret(TEXT).tail() == "...ter2"
    assert Secret("secret-value").tail() == "..."
