"""Words for lives of a cluster."""

from datetime import UTC, datetime

import pytest

from teleport_lite.model.life import Life, is_word, number_of


def test_the_word_says_which_in_a_row_and_which_of_those() -> None:
    word = Life(id="00c0ffee00c0ffee", number=12, began=datetime(2026, 3, 1, tzinfo=UTC)).word
    assert word == "12-00c0ffee00c0ffee"
    assert is_word(word)
    assert number_of(word) == 12


@pytest.mark.parametrize(
    "text", ["", "1", "0-00c0ffee", "-1-00c0ffee", "1-\x1b[2J", "1-" + "a" * 33]
)
def test_what_is_no_word_counts_as_the_first(text: str) -> None:
    assert not is_word(text)
    assert number_of(text) == 1
