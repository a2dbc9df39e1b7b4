"""Reading documents strictly: an unknown key is an error that names it."""

from collections.abc import Iterable, Mapping
from typing import Any

from teleport_lite.errors import Malformed

Doc = dict[str, Any]


def known(block: Mapping[str, object], allowed: Iterable[str], where: str) -> None:
    """Raises Malformed for a key that is not `allowed`."""
    allowed = tuple(allowed)
    for key in block:
        if key not in allowed:
            names = ", ".join(allowed)
            raise Malformed(f"{where} has an unknown key {str(key)[:40]!a}, known are {names}")


def mapping(raw: object, where: str) -> Doc:
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise Malformed(f"{where} must be a mapping")
    return raw


def texts(raw: object, where: str) -> tuple[str, ...]:
    """A list of text; one text is a list of one."""
    values = [raw] if isinstance(raw, str) else raw
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) and v for v in values):
        raise Malformed(f"{where} must be a list of text")
    return tuple(values)


def yes_or_no(raw: object, where: str) -> bool:
    if not isinstance(raw, bool):
        raise Malformed(f"{where} must be true or false")
    return raw


def one_line(raw: object, where: str) -> str:
    if not isinstance(raw, str) or not raw.isprintable():
        raise Malformed(f"{where} must be one line of text")
    return raw
