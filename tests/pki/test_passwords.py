"""Stretching passwords."""

from dataclasses import replace

import argon2
import pytest

from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.pki.passwords import new_stretch, normal, stretch
from teleport_lite.proto.login import Stretch
from teleport_lite.secret import Secret

OURS = new_stretch(b"sixteen of bytes")
WORD = Secret("correct horse battery staple")


def test_the_key_is_the_one_that_openssl_computes() -> None:
    """`Argon2id(salt=..., length=32, iterations=3, lanes=4, memory_cost=65536)` of cryptography."""
    key = stretch(WORD, OURS)
    assert key.reveal() == "ee1c71cd52516530a2858ee4b98e826c722696b615da6ff4c9531a0093eaf50a"
    assert repr(key) == "<secret>"


def test_the_words_of_the_wire_and_those_of_the_store_mean_the_same() -> None:
    sent = Stretch(salt=OURS.salt, time=OURS.time, memory=OURS.memory, lanes=OURS.lanes)
    assert stretch(WORD, sent) == stretch(WORD, OURS)


def test_another_password_or_another_salt_is_another_key() -> None:
    assert stretch(Secret("correct horse battery stapl"), OURS) != stretch(WORD, OURS)
    assert stretch(WORD, new_stretch(b"SIXTEEN OF BYTES")) != stretch(WORD, OURS)


def test_one_password_typed_on_two_keyboards_is_one() -> None:
    assert normal(Secret("pässword")) == normal(Secret("pa\u0308ssword"))


@pytest.mark.parametrize(
    "changes",
    [
        {"time": 2},
        {"time": 0},
        {"time": -1},
        {"time": 17},
        {"time": 1 << 40},
        {"memory": 64 * 1024 - 1},
        {"memory": 8},
        {"memory": 1024 * 1024 + 1},
        {"memory": 1 << 40},
        {"lanes": 0},
        {"lanes": 17},
        {"salt": ""},
        {"salt": "00" * 15},
        {"salt": "00" * 65},
        {"salt": "salt" * 8},
    ],
)
def test_a_server_can_ask_neither_for_less_nor_for_too_much(changes: dict) -> None:
    with pytest.raises(Malformed, match="the server"):
        stretch(WORD, replace(OURS, **changes))


def test_half_a_character_is_a_password_too_and_no_crash() -> None:
    """A terminal may hand on bytes that are no text; whoever set it could type it as well."""
    assert stretch(Secret("half \ud800"), OURS) != stretch(Secret("half "), OURS)


def test_a_machine_without_the_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **words: object) -> bytes:
        raise argon2.exceptions.HashingError("Memory allocation error")

    monkeypatch.setattr(argon2.low_level, "hash_secret_raw", fail)
    with pytest.raises(Unavailable, match="takes 64 MiB of memory"):
        stretch(WORD, OURS)
