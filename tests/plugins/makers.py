"""Asking a plugin of ours the way a process does: through the guests and their fence."""

from collections.abc import Mapping

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.model.host import Resource
from teleport_lite.model.schema import Field
from teleport_lite.plugin import builtin_book
from teleport_lite.plugin.builtin import seat_builtin
from teleport_lite.plugin.guests import Guests


def announce(role: str, **settings: object) -> tuple[Resource, ...]:
    return seat_builtin(Guests()).announce(role, settings)


def refusal(role: str, **settings: object) -> str:
    with pytest.raises(Malformed) as why:
        announce(role, **settings)
    assert why.value.hint == "docs/config.md"
    return why.value.message


def keys(role: str, *path: str) -> set[str]:
    """Names of the keys that may stand at `path` of the role's section."""
    fields: Mapping[str, Field] = {one.name: one for one in builtin_book().get(role).fields}
    for step in path:
        fields = {one.name: one for one in fields[step].fields}
    return set(fields)
