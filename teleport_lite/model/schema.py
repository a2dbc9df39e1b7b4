"""A config section described as data, so that built-in roles and plugins are read alike."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a value must be. The reader in `config/` turns each into the Python type named here."""

    TEXT = "text"  # str
    TEXTS = "list of text"  # tuple[str, ...]; one text is taken as a list of one
    SECRET = "secret text"  # Secret
    BOOL = "yes or no"  # bool
    INT = "whole number"  # int
    DURATION = "length of time"  # timedelta
    ADDRESS = "host:port"  # str, checked
    ADDRESSES = "list of host:port"  # tuple[str, ...]
    LABELS = "labels"  # dict[str, str]
    MAPPING = "mapping"  # dict by `fields`
    LIST = "list of mappings"  # tuple of dicts by `fields`
    FREE = "anything"  # kept as read: sections whose service is not built yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key of a section. `example` stands in the error for a wrong value."""

    name: str
    kind: Kind
    help: str
    default: object = None
    required: bool = False
    example: str = ""
    choices: tuple[str, ...] = ()
    fields: tuple["Field", ...] = ()
    built: bool = True  # False: read and checked, but nothing uses it yet; start-up says so
