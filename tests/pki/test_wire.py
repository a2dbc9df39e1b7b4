"""The strict reader of SSH's wire format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.pki.wire import Reader, pairs, text, texts


def test_fields_come_off_in_order() -> None:
    reader = Reader(text(b"ssh") + b"\0\0\0\x07" + b"\0" * 7 + b"\x09" + text(b""))
    assert reader.text() == b"ssh"
    assert reader.number(4) == 7
    assert reader.number(8) == 9
    assert reader.more()
    assert reader.text() == b""
    assert not reader.more()
    reader.end()


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff12"])
def test_a_short_string_is_an_error_and_not_padded(data: bytes) -> None:
    with pytest.raises(ValueError, match="truncated"):
        Reader(data).text()


def test_a_short_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="truncated"):
        Reader(b"\0\0\0").number(4)


def test_what_is_left_over_is_an_error() -> None:
    reader = Reader(text(b"x") + b"\0")
    reader.text()
    with pytest.raises(ValueError, match="trailing"):
        reader.end()


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"", 0), (b"\1", 1), (b"\x7f", 127), (b"\0\x80", 128), (b"\1\0", 256), (b"\0\0\1", 1)],
)
def test_numbers_are_read(data: bytes, value: int) -> None:
    assert Reader(text(data)).mpint() == value


@pytest.mark.parametrize("data", [b"\x80", b"\xff\1"])
def test_negative_numbers_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="negative"):
        Reader(text(data)).mpint()


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_lists_read_back(parts: list[bytes]) -> None:
    data = b"".join(map(text, parts))
    assert texts(data) == parts
    if len(parts) % 2 == 0:
        assert pairs(data) == list(zip(parts[::2], parts[1::2], strict=True))
    else:
        with pytest.raises(ValueError, match="truncated"):
            pairs(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_lists_or_a_value_error(data: bytes) -> None:
    for read in (texts, pairs):
        try:
            found = read(data)
        except ValueError:
            continue
        flat = [part for each in found for part in (each if isinstance(each, tuple) else (each,))]
        assert b"".join(map(text, flat)) == data
