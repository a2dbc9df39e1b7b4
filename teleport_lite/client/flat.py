"""A file of `key: value` lines: the small part of YAML that a profile needs.

A YAML library would cost every command of tsh 20 ms. What is written here is YAML all the
same, for whoever looks with another tool; what is read is this and nothing more.
"""

import json
import re
from collections.abc import Mapping

from teleport_lite.errors import Malformed

_LINE = re.compile(r"([a-z][a-z0-9_]*):(?: +(.*?))? *")
# YAML reads these as text, whatever its version; all else stands in quotes.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.@/+-]*(?::[A-Za-z0-9_.@/+-]+)*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def write_flat(values: Mapping[str, str]) -> str:
    return "".join(f"{key}: {_written(value)}\n" for key, value in values.items())


def read_flat(text: str, source: str, *, hint: str) -> dict[str, str]:
    """Raises Malformed, with file and line, for what `write_flat` would not write.

    Comments and empty lines may be there.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pair = _LINE.fullmatch(line)
        value = None if pair is None else _read(pair[2] or "")
        if pair is None or value is None or pair[1] in found:
            raise Malformed(f"{source}: line {number} is not key: value", hint=hint)
        found[pair[1]] = value
    return found


def _written(value: str) -> str:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else json.dumps(value)


def _read(text: str) -> str | None:
    """None for what is not one plain or quoted text."""
    if not text or _PLAIN.fullmatch(text):
        return text
    try:
        value = json.loads(text) if text.startswith('"') else None
    except ValueError:
        return None
    return value if isinstance(value, str) else None
