"""YAML, strictly: a tree of text with line numbers, or Malformed. The only user of pyyaml.

What YAML 1.1 guesses, we do not: `1:30` is not 90, `on` is not True, a date is not an object.
Every scalar stays the text that was written until a schema says what it must be
(`section.py`). Anchors, aliases, tags, duplicate keys and further documents are refused,
so a tree is never larger than its file and nothing in it can be executed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from teleport_lite.errors import Malformed

# The largest config file we know of describes a few thousand apps in some 600 kB.
MAX_BYTES = 1 << 20
# Our deepest key stands eight levels down.
MAX_DEPTH = 32
# 1 MiB of "[,,,": half a million values. This many fill a file of MAX_BYTES with real keys.
MAX_VALUES = 60_000
# libyaml where pyyaml was built with it: a large file then takes 0.1 s instead of seconds.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What YAML does not allow, and marks that make a line read differently from what it says.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    "\ud800-\udfff]"
)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Scalar:
    text: str
    quoted: bool
    line: int

    @property
    def empty(self) -> bool:
        """Nothing was written, or null: the key is as good as absent."""
        return not self.quoted and self.text in _NULL


@dataclass(frozen=True, slots=True)
class Items:
    items: "tuple[Node, ...]"
    line: int


@dataclass(frozen=True, slots=True)
class Table:
    entries: "Mapping[str, Node]"
    lines: Mapping[str, int]  # where each key stands
    line: int


Node = Scalar | Items | Table


def load_yaml(text: str, source: str) -> Table | None:
    """The mapping that `text` holds, or None when it is empty or only comments.

    Raises Malformed beginning "source:line:" for everything else.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise Malformed(f"{source}: is larger than {MAX_BYTES} bytes")
    text = text.removeprefix("\ufeff")
    unseen = _UNSEEN.search(text)
    if unseen:
        line = text.count("\n", 0, unseen.start()) + 1
        raise Malformed(f"{source}:{line}: holds the character {unseen[0]!a}, remove it")
    try:
        return _Composer(yaml.parse(text, Loader=_LOADER), source).document()
    except yaml.YAMLError as why:
        raise _broken(why, text, source) from None


class Quoted(str):
    """Text that `dump` puts into double quotes even where YAML could do without."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - pyyaml calls it with data
        """The same value twice is written twice: our reader knows no aliases."""
        return True


_Dumper.add_representer(
    Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def dump(value: object) -> str:
    """YAML that `load_yaml`, and any other reader, takes back as the same value."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        width=1 << 20,
    )
    return text


class _Composer:
    """Events become a tree. Stops at the first event that breaks a limit."""

    def __init__(self, events: Iterator[yaml.Event], source: str) -> None:
        self._events, self._source = events, source
        self._values = 0

    def document(self) -> Table | None:
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        root = self._node(next(self._events), 1)
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._wrong(event, "holds a second document, one is the limit")
        if isinstance(root, Scalar) and root.empty:
            return None
        if not isinstance(root, Table):
            raise Malformed(f"{self._source}:{root.line}: must hold keys, like 'version: v3'")
        return root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        self._check(event, depth)
        line = _line(event)
        if isinstance(event, yaml.ScalarEvent):
            if _UNSEEN.search(event.value):
                raise self._wrong(event, "holds an escaped control character, remove it")
            return Scalar(event.value, bool(event.style), line)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(tuple(self._items(depth)), line)
        return self._table(line, depth)

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _table(self, line: int, depth: int) -> Table:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar) or key.empty:
                raise self._wrong(event, "a key must be a word, like 'nodename:'")
            if key.text in entries:
                first = lines[key.text]
                raise self._wrong(event, f"{show(key.text)} is given twice, first in line {first}")
            entries[key.text] = self._node(next(self._events), depth + 1)
            lines[key.text] = key.line
        return Table(entries, lines, line)

    def _check(self, event: yaml.Event, depth: int) -> None:
        self._values += 1
        if depth > MAX_DEPTH:
            raise self._wrong(event, f"is nested deeper than {MAX_DEPTH} levels")
        if self._values > MAX_VALUES:
            raise self._wrong(event, f"holds more than {MAX_VALUES} values")
        if getattr(event, "anchor", None):  # an alias has one too
            raise self._wrong(
                event, "anchors and aliases (& and *) are not allowed, quote the text"
            )
        # "!" alone is how the C parser reports a quoted scalar in some versions; it says nothing.
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise self._wrong(event, f"tag {show(str(tag))} is not allowed, remove it")

    def _wrong(self, event: yaml.Event, why: str) -> Malformed:
        return Malformed(f"{self._source}:{_line(event)}: {why}")


def show(text: str) -> str:
    """A piece of somebody's file, short and harmless in a terminal."""
    return ascii(text[:64])


def plain(node: Node) -> object:
    """Text, None, lists and dicts, for sections that nobody describes."""
    if isinstance(node, Scalar):
        return None if node.empty else node.text
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {key: plain(each) for key, each in node.entries.items()}


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None, "both parsers mark every event"
    return int(event.start_mark.line) + 1


def _broken(why: yaml.YAMLError, text: str, source: str) -> Malformed:
    """The parser's complaint, in one line, at the line a person has to change."""
    mark = getattr(why, "problem_mark", None) or getattr(why, "context_mark", None)
    if mark is None:
        return Malformed(f"{source}: is not YAML", log=repr(why))
    lines: Sequence[str] = text.split("\n")
    written = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in written[: len(written) - len(written.lstrip())]:
        return Malformed(f"{source}:{mark.line + 1}: is indented with a tab, use spaces")
    begun = getattr(why, "context_mark", None)
    since = f", begun in line {begun.line + 1}" if begun and begun.line != mark.line else ""
    problem = getattr(why, "problem", None) or "unreadable"
    return Malformed(f"{source}:{mark.line + 1}: is not YAML: {problem}{since}")
