"""What is meant by the keys that come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.client.terminal import Key, keys


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (b" ", [Key.PAUSE]),
        (b"\x1b[C\x1bOC", [Key.FORTH, Key.FORTH]),
        (b"\x1b[D\x1bOD", [Key.BACK, Key.BACK]),
        (b"+=-", [Key.FASTER, Key.FASTER, Key.SLOWER]),
        (b"q\x04", [Key.QUIT, Key.QUIT]),
        (b"\x03", [Key.INTERRUPT]),
        (b"\x1b", [Key.QUIT]),
        (b"\x1b[A\x1b[1;5C\x1b[200~xyz", []),
        (b"\x1b[", []),
        ("ü".encode(), []),
    ],
)
def test_keys(typed: bytes, meant: list[Key]) -> None:
    assert list(keys(typed)) == meant


@given(st.binary(max_size=100))
def test_whatever_is_typed_is_read(typed: bytes) -> None:
    list(keys(typed))
