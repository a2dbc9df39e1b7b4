"""A section of the file, read by its Fields. Built-in sections and plugins' go through here.

Reader remembers where each key stood, so that a check made later can still name the line.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

from teleport_lite.config.address import parse_address
from teleport_lite.config.yaml import Items, Node, Scalar, Table, plain, show
from teleport_lite.errors import Malformed
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.labels import check_labels
from teleport_lite.model.schema import Field, Kind
from teleport_lite.secret import Secret

P = ParamSpec("P")
T = TypeVar("T")

HINT = "docs/config.md"
# YAML 1.1's own words, in any case, and quoted too: Teleport's samples say enabled: "no".
BOOLS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
# 18 digits fit into 64 bits. A leading zero means eight to YAML 1.1 and ten to people.
_INT = re.compile(r"0|-?[1-9][0-9]{0,17}")
_EXAMPLES = {
    Kind.BOOL: "yes",
    Kind.INT: "10",
    Kind.DURATION: "1h30m",
    Kind.ADDRESS: "0.0.0.0:3025",
    Kind.ADDRESSES: "[host.example.com:3025]",
    Kind.TEXTS: "[one, two]",
    Kind.LABELS: "{env: prod}",
    Kind.MAPPING: "{key: value}",
    Kind.LIST: "[{key: value}]",
    Kind.TEXT: "text",
    Kind.SECRET: "text",
}


class Reader:
    """Walks a tree of text by Fields. `source` stands in front of every error."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[str, int] = {}  # "auth_service.tokens[1]" -> 7, for every key written
        self.warnings: list[str] = []

    def section(self, node: Node | None, fields: Sequence[Field], path: str) -> dict[str, object]:
        """Every field's value, its default where the key is absent or empty. Raises Malformed."""
        table = self.table(node, path)
        self._refuse_unknown(table, [field.name for field in fields], path)
        return {field.name: self._field(table, field, _join(path, field.name)) for field in fields}

    def table(self, node: Node | None, path: str) -> Table:
        """`node` as a mapping; an absent or empty one has no keys."""
        if node is None or (isinstance(node, Scalar) and node.empty):
            return Table({}, {}, getattr(node, "line", 0))
        if not isinstance(node, Table):
            raise self.wrong(path, "must hold keys, like {key: value}", node.line)
        return node

    def wrong(self, path: str, why: str, line: int = 0) -> Malformed:
        """The error for `path`, at `line` or where the key (or what holds it) was written."""
        holder = path
        while not line and holder:
            line = self.lines.get(holder, 0)
            holder = holder[: max(holder.rfind("."), holder.rfind("["), 0)]
        at = f"{self.source}:{line}" if line else self.source
        return Malformed(f"{at}: {path}: {why}" if path else f"{at}: {why}", hint=HINT)

    def checked(self, path: str, check: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """What `check` makes of `given`; its Malformed gets the place where `path` was written."""
        try:
            return check(*given, **named)
        except Malformed as why:
            raise self.wrong(path, why.message) from None

    def unknown(self, name: str, known: Iterable[str], path: str, line: int) -> Malformed:
        near = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        meant = f"did you mean {near[0]}" if near else "it does not exist"
        shown = name if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else show(name)
        return self.wrong(_join(path, shown), f"unknown key, {meant}", line)

    def _refuse_unknown(self, table: Table, known: Sequence[str], path: str) -> None:
        for name in table.entries:
            if name not in known:
                raise self.unknown(name, known, path, table.lines[name])

    def _field(self, table: Table, field: Field, path: str) -> object:
        node = table.entries.get(field.name)
        if node is None or (isinstance(node, Scalar) and (node.empty or not node.text)):
            if field.required:
                example = field.example or _EXAMPLES.get(field.kind, "text")
                raise self.wrong(path, f"is missing, like {example}", table.line)
            return field.default
        self.lines[path] = table.lines[field.name]
        if not field.built:
            self.warnings.append(f"{self.source}:{self.lines[path]}: {path}: has no effect yet")
        return self._value(node, field, path)

    def _value(self, node: Node, field: Field, path: str) -> object:
        if field.kind is Kind.MAPPING:
            if not isinstance(node, Table):
                raise self._type_error(node, field, path)
            return self.section(node, field.fields, path)
        if field.kind is Kind.LIST:
            return self._list(node, field, path)
        if field.kind is Kind.LABELS:
            return self._labels(node, field, path)
        if field.kind in (Kind.TEXTS, Kind.ADDRESSES):
            return self._texts(node, field, path)
        if field.kind is Kind.FREE:
            return plain(node)
        return self._scalar(node, field, path)

    def _list(self, node: Node, field: Field, path: str) -> tuple[dict[str, object], ...]:
        if not isinstance(node, Items):
            raise self._type_error(node, field, path)
        found = []
        for at, item in enumerate(node.items):
            here = f"{path}[{at}]"
            self.lines[here] = item.line
            if not isinstance(item, Table):
                raise self._type_error(item, field, here)
            found.append(self.section(item, field.fields, here))
        return tuple(found)

    def _labels(self, node: Node, field: Field, path: str) -> dict[str, str]:
        if not isinstance(node, Table):
            raise self._type_error(node, field, path)
        found: dict[str, str] = {}
        for key, value in node.entries.items():
            shown = _join(path, show(key)[1:-1])
            if not isinstance(value, Scalar):
                raise self.wrong(shown, "must be text, like prod", value.line)
            found[key] = "" if value.empty else value.text
            self.lines[shown] = node.lines[key]
            self.checked(shown, check_labels, {key: found[key]})
        return found

    def _texts(self, node: Node, field: Field, path: str) -> tuple[str, ...]:
        if isinstance(node, Table):
            raise self._type_error(node, field, path)
        if isinstance(node, Scalar):
            return (str(self._one(node, field, path)),)
        found = []
        for at, item in enumerate(node.items):
            self.lines[f"{path}[{at}]"] = item.line
            if not isinstance(item, Scalar) or item.empty:
                raise self._type_error(item, field, f"{path}[{at}]")
            found.append(str(self._one(item, field, f"{path}[{at}]")))
        return tuple(found)

    def _one(self, node: Scalar, field: Field, path: str) -> object:
        kind = Kind.ADDRESS if field.kind is Kind.ADDRESSES else Kind.TEXT
        return self._typed(node, field, kind, path)

    def _scalar(self, node: Node, field: Field, path: str) -> object:
        if not isinstance(node, Scalar):
            raise self._type_error(node, field, path)
        return self._typed(node, field, field.kind, path)

    def _typed(self, node: Scalar, field: Field, kind: Kind, path: str) -> object:
        try:
            value = _address(node.text, field) if kind is Kind.ADDRESS else _READ[kind](node.text)
        except Malformed as why:
            raise self.wrong(path, why.message, node.line) from None
        except ValueError:
            raise self._type_error(node, field, path) from None
        if field.choices and isinstance(value, str):
            return self._chosen(value, node, field, path)
        return value

    def _chosen(self, value: str, node: Scalar, field: Field, path: str) -> str:
        for choice in field.choices:
            if choice.lower() == value.lower():
                return choice
        raise self.wrong(path, f"{show(value)} is not one of {', '.join(field.choices)}", node.line)

    def _type_error(self, node: Node, field: Field, path: str) -> Malformed:
        example = field.example or _EXAMPLES.get(field.kind, "text")
        secret = field.kind is Kind.SECRET
        got = show(node.text) if isinstance(node, Scalar) and not secret else _NAMES[type(node)]
        article = "" if field.kind in _WITHOUT_ARTICLE else "a "
        return self.wrong(path, f"{got} is not {article}{field.kind}, like {example}", node.line)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _bool(text: str) -> bool:
    word = text.lower()
    if word not in BOOLS:
        raise ValueError
    return BOOLS[word]


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError
    return int(text)


def _duration(text: str) -> timedelta:
    return timedelta(0) if text in ("0", "never") else parse_duration(text)


def _address(text: str, field: Field) -> str:
    """A missing port is that of the field's default, else that of its example."""
    model = field.default if isinstance(field.default, str) else field.example
    port = re.search(r""":([0-9]+)["\]]*$""", model)
    listen = field.name.endswith(("listen_addr", "diag_addr"))
    return parse_address(text, int(port[1]) if port else None, listen=listen)


_READ: Mapping[Kind, Callable[[str], object]] = {
    Kind.TEXT: str,
    Kind.SECRET: Secret,
    Kind.BOOL: _bool,
    Kind.INT: _int,
    Kind.DURATION: _duration,
}
_WITHOUT_ARTICLE = {Kind.TEXT, Kind.SECRET, Kind.BOOL, Kind.ADDRESS, Kind.LABELS}
_NAMES: Mapping[type, str] = {Scalar: "the text here", Items: "a list", Table: "a mapping"}
