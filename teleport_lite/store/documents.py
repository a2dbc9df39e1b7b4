"""Nouns as plain JSON values, and back.

Driven by the nouns' own types, so a new field with a default needs no change here: a document
from before simply lacks it. A Secret has no plain form; it reaches a database only sealed.
Times and lengths of time are whole microseconds, times counted from 1970 in UTC.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

N = TypeVar("N")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """Raises TypeError for a time without a zone: whose noon would that be?"""
    return (at - _EPOCH) // _MICROSECOND


def moment(count: int) -> datetime:
    return _EPOCH + timedelta(microseconds=count)


def to_text(value: object) -> str:
    return json.dumps(plain(value), separators=(",", ":"))


def plain(value: object) -> Any:
    """`value` as JSON has it. Raises TypeError for what may not stand in a document."""
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, datetime):
        return micros(value)
    if isinstance(value, timedelta):
        return value // _MICROSECOND
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    raise TypeError(f"a {type(value).__name__} may not stand in a stored document")


def noun(kind: type[N], document: Mapping[str, Any], **more: object) -> N:
    """The `kind` that `document` describes; `more` are fields kept elsewhere.

    Raises ValueError when a field is missing or is not of its type.
    """
    try:
        found = dict(more)
        shape = _shape(kind)  # type: ignore[arg-type]  # classes do hash
        for name, (hint, required) in shape.items():
            if name in document:
                found.setdefault(name, _value(hint, document[name]))
            elif required and name not in more:
                raise ValueError(f"{name} is missing")
        return kind(**found)
    except (TypeError, AttributeError, OverflowError) as why:
        raise ValueError(f"not a {kind.__name__}: {type(why).__name__}") from why


def from_text(kind: type[N], text: str | bytes) -> N:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError(f"not a {kind.__name__}")
    return noun(kind, document)


@cache
def _shape(kind: type[Any]) -> dict[str, tuple[Any, bool]]:
    """Field name → its type, and whether it has to be there."""
    hints = get_type_hints(kind)
    return {each.name: (hints[each.name], _required(each)) for each in fields(kind)}


def _required(each: Field[Any]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _value(hint: Any, stored: Any) -> Any:
    """`stored` as a `hint`. Raises ValueError or TypeError if it is none."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:  # only ever "X | None"
        return None if stored is None else _value(args[0], stored)
    if origin is tuple:
        return tuple(_value(args[0], each) for each in _typed(list, stored))
    if origin in (dict, Mapping):
        return {key: _value(args[1], each) for key, each in _typed(dict, stored).items()}
    if is_dataclass(hint):
        return noun(hint, _typed(dict, stored))  # type: ignore[arg-type]  # it is a class here
    return _scalar(hint, stored)


def _scalar(hint: Any, stored: Any) -> Any:
    if hint is datetime:
        return moment(_typed(int, stored))
    if hint is timedelta:
        return timedelta(microseconds=_typed(int, stored))
    if hint is bytes:
        return bytes.fromhex(_typed(str, stored))
    if hint is float:
        return float(stored)
    if issubclass(hint, StrEnum):
        return hint(stored)
    return _typed(hint, stored)


def _typed(kind: type[N], stored: Any) -> N:
    if type(stored) is not kind:
        raise ValueError(f"{type(stored).__name__} where {kind.__name__} was expected")
    return stored
