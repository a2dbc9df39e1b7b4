"""docs/config.md's table of keys, written from the schema so that it cannot lie."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from teleport_lite.config.build import ENABLED, OWN
from teleport_lite.config.schema.teleport import PLUGINS, TELEPORT
from teleport_lite.model.duration import show_duration
from teleport_lite.model.schema import Field, Kind
from teleport_lite.model.system_role import RoleBook

HEAD = "| Key | Holds | Default | Meaning |\n|---|---|---|---|\n"


def reference(book: RoleBook) -> str:
    """One Markdown table for each section: ours first, then those of the book's other roles."""
    sections = {"teleport": TELEPORT, **{name: (ENABLED, *keys) for name, keys in OWN.items()}}
    for role in book:
        if role.section and role.section not in sections:
            sections[role.section] = (ENABLED, *role.fields)
    sections["plugins"] = PLUGINS
    return "\n".join(f"### `{name}`\n\n{HEAD}{_rows(keys)}" for name, keys in sections.items())


def _rows(fields: Sequence[Field]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in _walk(fields, ""))


def _walk(fields: Sequence[Field], path: str) -> Iterator[tuple[str, str, str, str]]:
    for field in fields:
        name = f"{path}{field.name}"
        later = "" if field.built else " (no effect yet)"
        yield f"`{name}`", _holds(field), _default(field), _cell(field.help + later)
        yield from _walk(field.fields, f"{name}[]." if field.kind is Kind.LIST else f"{name}.")


def _holds(field: Field) -> str:
    if field.choices:
        return _cell(", ".join(field.choices))
    example = f", like `{field.example}`" if field.example else ""
    return _cell(f"{field.kind}{example}")


def _default(field: Field) -> str:
    if field.required:
        return "required"
    if isinstance(field.default, bool):
        return "yes" if field.default else "no"
    if isinstance(field.default, timedelta):
        return show_duration(field.default)
    return f"`{_cell(str(field.default))}`" if field.default not in (None, "", ()) else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
