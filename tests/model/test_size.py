"""Amounts of bytes."""

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.model.size import parse_size, show_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("7", 7),
        ("7B", 7),
        ("2KB", 2000),
        ("2KiB", 2048),
        ("10GiB", 10 << 30),
        ("1 TB", 10**12),
        ("3MB", 3_000_000),
    ],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5GiB", "10G", "10gib", "GiB", "1" * 16, "1  B", "\u0663"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Malformed, match=r"recording_quota .* like 512MiB or 10GiB"):
        parse_size(text, "recording_quota")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_500_000, "1.4 MiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_sizes_are_shown_short(count: int, text: str) -> None:
    assert show_size(count) == text
