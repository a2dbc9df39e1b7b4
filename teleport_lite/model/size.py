"""Amounts of bytes as people write them: 512MiB, 10GiB, 2TB."""

import re

from teleport_lite.errors import Malformed

_SIZE = re.compile(r"([0-9]{1,15}) ?([KMGT]i?B|B|)")
_UNITS: dict[str, int] = {
    **{"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12},
    **{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40},
}


def parse_size(text: str, what: str = "size") -> int:
    """Bytes. Raises Malformed; a number alone is bytes."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Malformed(f"{what} {text[:32]!a} is not an amount of bytes, like 512MiB or 10GiB")
    return int(found[1]) * _UNITS[found[2]]


def show_size(count: int) -> str:
    """Short, for tables: 712 B, 1.4 MiB."""
    if count < 1024:
        return f"{count} B"
    amount, units = count / 1024, ["KiB", "MiB", "GiB", "TiB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.1f} {units[0]}"
