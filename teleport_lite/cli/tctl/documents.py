"""Resource documents as people write them: YAML, several to a file, or JSON.

Unquoted true, false and null are what they say; everything else stays text, because no field
of a resource is a number and a label `version: 1.10` must not become 1.1.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from teleport_lite.config.yaml import Items, Node, Scalar, load_yaml
from teleport_lite.errors import Malformed

# Each costs the server a transaction; a migration of more is several files.
MAX_DOCUMENTS = 1000
MAX_SIZE = 1 << 20
_MARKER = re.compile(r"^(---|\.\.\.)(?=\s|$)", re.MULTILINE)
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def read(text: str, source: str) -> list[dict[str, Any]]:
    """The documents of `text`, in order. Raises Malformed with the line, if there is one."""
    if len(text) > MAX_SIZE:
        raise Malformed(f"{source} is larger than {MAX_SIZE} bytes")
    found = _from_json(text, source) if text.lstrip()[:1] in ("{", "[") else None
    if found is None:
        found = [doc for part in _parts(text, source) if (doc := _document(part, source))]
    if not found:
        raise Malformed(f"{source} holds no resource", hint="tctl get roles prints some")
    return found


def _parts(text: str, source: str) -> Iterator[str]:
    """Cut at the markers, which YAML allows nowhere else (1.2.2, rule c-forbidden). Each part
    keeps its place in the file by empty lines before it, so that line numbers are right."""
    start = line = 0
    for count, marker in enumerate(_MARKER.finditer(text), start=1):
        yield "\n" * line + text[start : marker.start()]
        line += text.count("\n", start, marker.start())
        start = marker.end()
        if count > MAX_DOCUMENTS:
            raise Malformed(f"{source} holds more than {MAX_DOCUMENTS} documents")
    yield "\n" * line + text[start:]


def _document(text: str, source: str) -> dict[str, Any] | None:
    tree = load_yaml(text, source)
    return None if tree is None else {key: _value(each) for key, each in tree.entries.items()}


def _value(node: Node) -> Any:
    if isinstance(node, Scalar):
        if node.quoted:
            return node.text
        return None if node.empty else _BOOLS.get(node.text, node.text)
    if isinstance(node, Items):
        return [_value(item) for item in node.items]
    return {key: _value(each) for key, each in node.entries.items()}


def _from_json(text: str, source: str) -> list[dict[str, Any]] | None:
    """None if it is YAML that begins like JSON."""
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    documents = found if isinstance(found, list) else [found]
    if not all(isinstance(each, dict) for each in documents):
        raise Malformed(f"{source} must hold resources, like kind: role")
    return documents


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise Malformed(f"{twice[:64]!a} is given twice")
    return found
