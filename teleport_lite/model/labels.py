"""Labels: small facts about a resource, and the patterns roles match them with."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from teleport_lite.errors import Malformed

Labels = Mapping[str, str]
LabelPatterns = Mapping[str, tuple[str, ...]]

KEY = re.compile(r"[A-Za-z0-9/_.:*-]{1,128}")
MAX_VALUE = 1024
# Set by the system; people may not write them.
RESERVED = ("teleport.dev/", "teleport.internal/", "teleport.hidden/")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_PAIR = re.compile(r"""\s*([^=,\s]+)=("(?:[^"\\]|\\.)*"|[^,]*)\s*(?:,|$)""")


def parse_labels(text: str) -> dict[str, str]:
    """`env=prod,note="a, b"`. Raises Malformed naming the part that cannot be read."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            raise Malformed(f"label {text[at : at + 40]!a} is not key=value, like env=prod")
        key, value = pair[1], pair[2].strip()
        if value.startswith('"'):
            if not _QUOTED.fullmatch(value):
                raise Malformed(f'label {key!a} has a quote that does not end, like note="a, b"')
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if key in found:
            raise Malformed(f"label {key!a} is given twice")
        found[key] = value
        at = pair.end()
    return check_labels(found)


def check_labels(labels: Labels) -> dict[str, str]:
    for key, value in labels.items():
        if not KEY.fullmatch(key) or "*" in key:
            raise Malformed(f"label key {key[:64]!a} is not valid, letters, digits and /_.:- are")
        if key.startswith(RESERVED):
            raise Malformed(f"label key {key[:64]!a} is reserved for the system")
        if len(value) > MAX_VALUE or not value.isprintable():
            raise Malformed(
                f"value of label {key} must be printable text of at most {MAX_VALUE} characters"
            )
    return dict(labels)


def check_pattern(pattern: str) -> str:
    """Raises Malformed for an expression that cannot be read: in a deny it would deny nothing."""
    if pattern.startswith("^") and pattern.endswith("$"):
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as why:
            raise Malformed(f"{pattern[:64]!a} is not an expression: {str(why)!a}") from None
    return pattern


def matches(patterns: LabelPatterns, labels: Labels) -> bool:
    """Keys are ANDed, values ORed. No patterns match nothing; `*: *` matches everything."""
    if not patterns:
        return False
    return all(_key_matches(key, values, labels) for key, values in patterns.items())


def _key_matches(key: str, values: tuple[str, ...], labels: Labels) -> bool:
    if key == "*":
        return "*" in values
    return key in labels and any(value_matches(value, labels[key]) for value in values)


def value_matches(pattern: str, value: str) -> bool:
    """`^...$` is a regular expression, `*` a glob, anything else is literal."""
    if pattern.startswith("^") and pattern.endswith("$"):
        return re.fullmatch(pattern, value) is not None
    if "*" in pattern:
        return fnmatchcase(value, pattern.replace("[", "[[]").replace("?", "[?]"))
    return pattern == value
