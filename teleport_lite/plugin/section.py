"""A part of the config file that knows where it stands, so that errors can name the key."""

from collections.abc import Mapping
from datetime import timedelta

from teleport_lite.errors import Malformed
from teleport_lite.model.labels import check_labels
from teleport_lite.model.names import RESOURCE_NAME


class Section:
    """Settings as `SystemRole.fields` typed them, read by key. Absent keys are empty values.

    Every reader raises Malformed naming the full key, like `db_service.databases[2].uri`,
    when the value is not of its type; that happens only where a field says Kind.FREE.
    """

    def __init__(self, values: Mapping[str, object], path: str) -> None:
        self._values, self.path = values, path

    def __contains__(self, key: str) -> bool:
        """Whether the key says anything: an empty text, list or mapping is as good as absent."""
        return self._values.get(key) not in (None, "", (), [], {})

    def text(self, key: str, default: str = "") -> str:
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "must be text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key) or ()
        values = (value,) if isinstance(value, str) else value
        if not isinstance(values, (list, tuple)) or not all(isinstance(x, str) for x in values):
            raise self.wrong(key, "must be a list of texts")
        return tuple(values)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "must be yes or no")
        return value

    def span(self, key: str, default: timedelta) -> timedelta:
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, timedelta):
            raise self.wrong(key, "must be a length of time, like 5m")
        return value

    def labels(self, key: str = "labels") -> dict[str, str]:
        value = self._values.get(key) or {}
        if not isinstance(value, Mapping):
            raise self.wrong(key, "must be labels, like {env: prod}")
        if not all(isinstance(text, str) for pair in value.items() for text in pair):
            raise self.wrong(key, "must be text to text")
        try:
            return check_labels(value)
        except Malformed as why:
            raise self.wrong(key, why.message) from why

    def section(self, key: str) -> "Section":
        value = self._values.get(key) or {}
        if not isinstance(value, Mapping):
            raise self.wrong(key, "must be a mapping")
        return Section(value, f"{self.path}.{key}")

    def sections(self, key: str) -> tuple["Section", ...]:
        value = self._values.get(key) or ()
        if not isinstance(value, (list, tuple)) or not all(isinstance(x, Mapping) for x in value):
            raise self.wrong(key, "must be a list of mappings")
        return tuple(Section(one, f"{self.path}.{key}[{at}]") for at, one in enumerate(value))

    def name(self, key: str = "name", *, made: str = "") -> str:
        """The value of `key`, or the text `made` from it, if a resource may be called that."""
        value = made or self.text(key)
        if not value:
            raise self.wrong(key, "is missing, expected a name like 'orders-1'")
        if not RESOURCE_NAME.fullmatch(value):
            raise self.wrong(key, f"{value[:64]!a} is not a name, expected one like 'orders-1'")
        return value

    def wrong(self, key: str, cause: str, *, hint: str = "docs/config.md") -> Malformed:
        """The error to raise for `key`: `cause` follows the key's full name."""
        return Malformed(f"{self.path}.{key} {cause}", hint=hint)
