"""Answers, read field by field. What the other side left out or mistyped is Malformed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from teleport_lite.errors import Malformed


class Facts:
    """One JSON object of an answer."""

    __slots__ = ("_where", "plain")

    def __init__(self, plain: Mapping[str, Any], where: str) -> None:
        self.plain: Mapping[str, Any] = plain
        self._where = where

    def text(self, key: str, default: str | None = None) -> str:
        value = self.plain.get(key, default)
        if not isinstance(value, str):
            raise self._no(key, "text")
        return value

    def texts(self, key: str) -> list[str]:
        value = self.plain.get(key)
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return value
        raise self._no(key, "a list of text")

    def number(self, key: str) -> int:
        value = self.plain.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise self._no(key, "a whole number")

    def flag(self, key: str) -> bool:
        value = self.plain.get(key)
        if not isinstance(value, bool):
            raise self._no(key, "true or false")
        return value

    def moment(self, key: str) -> datetime | None:
        """RFC 3339; None for null, which means never."""
        value = self.plain.get(key, 0)
        if value is None:
            return None
        try:
            when = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise self._no(key, "a time") from None
        if when.tzinfo is None:
            raise self._no(key, "a time with its zone")
        return when

    def labels(self, key: str) -> dict[str, str]:
        value = self.plain.get(key)
        if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
            return value
        raise self._no(key, "labels")

    def each(self, key: str) -> list["Facts"]:
        value = self.plain.get(key)
        if isinstance(value, list) and all(isinstance(part, dict) for part in value):
            return [Facts(part, self._where) for part in value]
        raise self._no(key, "a list of objects")

    def one(self, key: str) -> "Facts":
        value = self.plain.get(key)
        if not isinstance(value, dict):
            raise self._no(key, "an object")
        return Facts(value, self._where)

    def _no(self, key: str, wanted: str) -> Malformed:
        """The hint is for the usual cause: versions too far apart."""
        return Malformed(
            f"answer of {self._where} is not one we know: {key} should be {wanted}",
            hint="tctl version, and teleport-lite version on the auth host",
        )
