"""Which roles of ours somebody from a cluster we trust gets. Pure.

The other cluster says which roles they have there; what those are worth here is said by the role
map, and by nothing else. A role that no line of it names is worth nothing.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from teleport_lite.errors import Malformed
from teleport_lite.model.names import RESOURCE_NAME
from teleport_lite.model.trust import RoleMapping

# The other cluster chooses the words that patterns of ours are tried on. With so many repetitions,
# none of them around another, a name of 128 letters takes less than a millisecond.
MAX_REPEATS = 2
MAX_PATTERN = 256
# Of one certificate that are looked at, and of lines of a map.
MAX_ROLES = 256
MAX_LINES = 256
# A certificate holds 16 KiB of them at the most; this many of ours is a mistake.
MAX_GIVEN = 64
_GROUP = re.compile(r"\$(?:(\d)|\{(\d)\})")
_NOT_A_GLOB = re.compile(r"[^A-Za-z0-9_.:@+*?-]")
_REPEAT = re.compile(r"(?<!\\)(?:[*+?]|\{\d*,?\d*\})")
_REPEATED_GROUP = re.compile(r"(?<!\\)\)(?:[*+]|\{)")


def map_roles(lines: Sequence[RoleMapping], claimed: Iterable[str]) -> tuple[str, ...]:
    """Roles of this cluster, without repetitions, for somebody with `claimed` in theirs."""
    given: dict[str, None] = {}
    names = [name for name in list(claimed)[:MAX_ROLES] if RESOURCE_NAME.fullmatch(name)]
    for line in lines[:MAX_LINES]:
        for name in names:
            for role in _given(line, name):
                if RESOURCE_NAME.fullmatch(role):
                    given[role] = None
    return tuple(given)[:MAX_GIVEN]


def check_map(lines: Sequence[RoleMapping]) -> None:
    """Raises Malformed naming the line that can not be used."""
    if len(lines) > MAX_LINES:
        raise Malformed(f"a role map has at most {MAX_LINES} lines")
    for line in lines:
        shown = f"role_map: {line.remote[:64]!a}"
        if not line.local:
            raise Malformed(f"{shown} has no local roles, like local: [access]")
        groups = _check_remote(line.remote, shown)
        for local in line.local:
            asked = [int(one or two) for one, two in _GROUP.findall(local)]
            if not RESOURCE_NAME.fullmatch(_GROUP.sub("x", local)):
                raise Malformed(f"{shown}: {local[:64]!a} is not the name of a role, like access")
            if max(asked, default=0) > groups:
                raise Malformed(f"{shown}: {local[:64]!a} needs a group that is not in the pattern")


def named(lines: Sequence[RoleMapping]) -> tuple[str, ...]:
    """The local roles that are named outright, without groups."""
    return tuple(
        dict.fromkeys(role for line in lines for role in line.local if not _GROUP.search(role))
    )


def _check_remote(remote: str, shown: str) -> int:
    """How many groups the pattern has."""
    if not remote or len(remote) > MAX_PATTERN:
        raise Malformed(f"{shown} is not a role, a glob, or a pattern from ^ to $")
    if not _is_pattern(remote):
        if _NOT_A_GLOB.search(remote) or remote.count("*") > MAX_REPEATS + 1:
            raise Malformed(
                f"{shown} is not a role or a glob; patterns go from ^ to $, like ^admin-(.*)$"
            )
        return 0
    if len(_REPEAT.findall(remote)) > MAX_REPEATS or _REPEATED_GROUP.search(remote):
        raise Malformed(
            f"{shown}: a pattern has at most {MAX_REPEATS} repetitions, and none of a group"
        )
    try:
        return re.compile(remote).groups
    except (re.error, OverflowError, RecursionError) as why:
        raise Malformed(f"{shown} is not a pattern: {ascii(str(why))[1:-1][:80]}") from why


def _is_pattern(remote: str) -> bool:
    return remote.startswith("^") and remote.endswith("$")


def _given(line: RoleMapping, name: str) -> Iterable[str]:
    if not _is_pattern(line.remote):
        return line.local if fnmatchcase(name, line.remote) else ()
    pattern = _compiled(line.remote)
    found = pattern.fullmatch(name) if pattern is not None else None
    if found is None:
        return ()
    groups = (name, *(each or "" for each in found.groups()))

    def group(asked: "re.Match[str]") -> str:
        number = int(asked[1] or asked[2])
        return groups[number] if number < len(groups) else ""

    return [_GROUP.sub(group, role) for role in line.local]


@lru_cache(maxsize=256)
def _compiled(remote: str) -> "re.Pattern[str] | None":
    """None for what `check_map` would have refused: it opens nothing."""
    try:
        _check_remote(remote, "")
        return re.compile(remote)
    except Malformed:
        return None
