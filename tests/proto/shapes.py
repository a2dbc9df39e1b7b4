"""The messages as the last release had them: what the versions beside it rely on.

`python -m tests.proto.shapes` writes them down: before a release, and never to make a test pass.
"""

import json
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import get_type_hints

import msgspec

from teleport_lite import proto
from teleport_lite.agent import identity, knowledge, pending, ways
from teleport_lite.net import acme, ssh_line
from teleport_lite.proto.codec import Message, Statement
from teleport_lite.proto.login import Confidential
from teleport_lite.proto.stream import Frame
from teleport_lite.proxy import routes

RELEASED = Path(__file__).with_name("released.json")
# Of messages that travel, then of those that lie on disk.
TRAVEL = (
    *(import_module(f"{proto.__name__}.{each.name}") for each in iter_modules(proto.__path__)),
    ssh_line,
)
LIE = (identity, knowledge, pending, ways, acme, routes)
_BASES = (Message, Statement, Frame, Confidential)
Shapes = dict[str, dict[str, list[str | bool]]]


def kinds() -> dict[str, type[Message]]:
    """By module and name."""
    found = {}
    for module in (*TRAVEL, *LIE):
        for name, kind in vars(module).items():
            ours = isinstance(kind, type) and kind.__module__ == module.__name__
            if ours and issubclass(kind, Message) and kind not in _BASES:
                found[f"{module.__name__.removeprefix('teleport_lite.')}.{name}"] = kind
    return found


def shapes() -> Shapes:
    """Of each its fields: type, and whether it has to be there."""
    return {name: shape(kind) for name, kind in sorted(kinds().items())}


def shape(kind: type[Message]) -> dict[str, list[str | bool]]:
    hints = get_type_hints(kind)
    return {
        each.name: [_shown(hints[each.name]), each.required]
        for each in msgspec.structs.fields(kind)
    }


def _shown(hint: object) -> str:
    return hint.__name__ if type(hint) is type else str(hint).replace("typing.", "")


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in shapes().items())
    RELEASED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
