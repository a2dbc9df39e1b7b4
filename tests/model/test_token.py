"""Join tokens as values."""

from dataclasses import replace
from datetime import timedelta

import pytest

from teleport_lite.model.token import DEFAULT_TTL
from teleport_lite.testing.fakes import T0
from teleport_lite.testing.makers import TOKEN, a_token


def test_a_token_without_roles_cannot_exist() -> None:
    with pytest.raises(ValueError, match="without roles"):
        a_token(roles=())


def test_a_token_is_over_at_its_last_moment() -> None:
    token = a_token(expires_at=T0)
    assert token.expired(T0)
    assert not token.expired(T0 - timedelta(microseconds=1))


def test_a_static_token_is_never_over() -> None:
    assert not a_token(expires_at=None, static=True).expired(T0 + timedelta(days=36500))


def test_its_id_tells_nothing_of_its_text_and_neither_does_printing_it() -> None:
    token = a_token()
    assert token.id == token.name[:16]
    assert TOKEN not in repr(token)
    assert TOKEN[-4:] not in token.id
    assert TOKEN not in repr(replace(token, once=True))


def test_what_guesses_could_be_tried_against_does_not_print() -> None:
    verifier = a_token().verifier
    assert repr(verifier.stored_key) not in repr(verifier)
    assert repr(verifier.server_key) not in repr(a_token())


def test_a_token_lives_for_half_an_hour_unless_told_otherwise() -> None:
    assert timedelta(minutes=30) == DEFAULT_TTL
