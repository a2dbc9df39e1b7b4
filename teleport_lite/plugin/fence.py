"""What keeps a plugin's mistakes its own: every call and every answer passes here.

Python offers a fence, not a wall. A plugin runs in our process, so only an administrator
may invite one (`guests.py`); the fence sees to it that what goes wrong inside is told as
one error with the plugin's name, and that no answer reaches the rest of us unchecked.
"""

import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from teleport_lite.errors import Error, Unavailable
from teleport_lite.model.host import Resource
from teleport_lite.model.labels import check_labels
from teleport_lite.model.names import HOST_NAME, RESOURCE_NAME
from teleport_lite.model.schema import Field
from teleport_lite.model.system_role import SystemRole
from teleport_lite.proto.join import AUTH_SERVER_NAME

T = TypeVar("T")

LIST_THEM = "teleport-lite plugins ls"
# A heartbeat carries them all and is read up to proto.codec.MAX_FRAME, 1 MiB.
MAX_RESOURCES = 1000
# Names end up in certificates, tables and `--roles`; none of these needs quoting.
ROLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}")
KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Auth, every proxy and each proxy by its UUID have their server names below it.
INTERNAL = "teleport-lite.internal"
# Kinds the auth role keeps itself; a plugin that announced one could pose as it.
OWN_KINDS = frozenset({"token", "node", "user", "role", "cert_authority", "lock", "bot", "event"})


def broken(plugin: str, cause: str, *, log: str = "") -> Unavailable:
    return Unavailable(f"plugin {plugin}: {cause}", hint=LIST_THEM, log=log)


def call(plugin: str, hook: str, action: Callable[[], T], *, passes: tuple[type[Error], ...]) -> T:
    """`action()`; what it raises, unless it is one of `passes`, becomes Unavailable.

    SystemExit counts as a failure: a plugin does not decide when our process ends. The text
    of an exception stays in `log`, because it may quote a setting.
    """
    try:
        return action()
    except passes:
        raise
    except (Exception, SystemExit) as why:
        raise broken(
            plugin, f"{hook} failed with {_kind(why)}{_where(why)}", log=_story(why)
        ) from why


def load(plugin: str, action: Callable[[], T]) -> T:
    """`action()`, which imports the plugin; anything it raises becomes Unavailable with the text.

    A module that is being imported has seen no settings, so its words can be shown.
    """
    try:
        return action()
    except (Exception, SystemExit) as why:
        said = ascii(str(why))[1:-1][:200]
        cause = f"can not be loaded, {_kind(why)}{_where(why)}: {said}"
        raise broken(plugin, cause, log=_story(why)) from why


def check_roles(plugin: str, said: object, *, trusted: bool) -> tuple[SystemRole, ...]:
    """The roles a plugin offers, or Unavailable saying what is wrong with them.

    Only `trusted` plugins (our own) may claim names of servers of ours and the kinds auth
    keeps: a guest with either could pose as the auth role or as a proxy.
    """
    for role in _listed(plugin, "teleport_lite_system_roles", said, SystemRole):
        _check_role(plugin, role)
        if not trusted:
            _check_names(plugin, role)
        if not trusted and role.announces in OWN_KINDS:
            raise broken(plugin, f"role {role.name} announces {role.announces}, a kind of our own")
    return tuple(said)  # type: ignore[arg-type]  # _listed has looked at every item


def check_resources(plugin: str, role: SystemRole, said: object) -> tuple[Resource, ...]:
    """What a plugin shows in `role`, or Unavailable: wrong kind, wrong type, a name twice."""
    if said is None:
        return ()
    found = _listed(plugin, "teleport_lite_announce", said, Resource)
    if len(found) > MAX_RESOURCES:
        raise broken(plugin, f"announces {len(found)} resources, the most is {MAX_RESOURCES}")
    seen: set[str] = set()
    for each in found:
        _check_resource(plugin, role, each)
        if each.name in seen:
            raise broken(plugin, f"announces {each.kind} {each.name} twice")
        seen.add(each.name)
    return tuple(found)


def check_bytes(plugin: str, hook: str, said: object, *, most: int) -> bytes:
    """What a plugin has wrapped or unwrapped, or Unavailable."""
    if not isinstance(said, bytes) or not 1 <= len(said) <= most:
        raise broken(plugin, f"{hook} must return 1 to {most} bytes")
    return said


def _listed(plugin: str, hook: str, said: object, kind: type[T]) -> Sequence[T]:
    if not isinstance(said, (list, tuple)) or not all(isinstance(one, kind) for one in said):
        shown = type(said).__name__
        raise broken(plugin, f"{hook} must return a list of {kind.__name__}, not {shown}")
    return said


def _check_names(plugin: str, role: SystemRole) -> None:
    """DNS has no upper case, and a name below one of ours is ours too."""
    for name in (each.lower().rstrip(".") for each in role.dns_names):
        if name == AUTH_SERVER_NAME:
            raise broken(plugin, f"role {role.name} claims the server name of the auth role")
        if f".{name}".endswith(f".{INTERNAL}"):
            raise broken(plugin, f"role {role.name} claims {name}, a server name of our own")


def _check_role(plugin: str, role: SystemRole) -> None:
    rules: tuple[tuple[str, re.Pattern[str], Iterable[str]], ...] = (
        ("role name", ROLE_NAME, (role.name,)),
        ("flag", WORD, (role.flag,)),
        ("alias", WORD, role.aliases),
        ("section", KEY, (role.section,) if role.section else ()),
        ("kind", KEY, (role.announces,) if role.announces else ()),
        ("DNS name", HOST_NAME, role.dns_names),
        ("principal", HOST_NAME, role.extra_principals),
    )
    for what, rule, words in rules:
        for word in words:
            if not isinstance(word, str) or not rule.fullmatch(word):
                raise broken(plugin, f"{what} {ascii(word)[:64]} is not valid")
    _check_fields(plugin, role.section, role.fields)


def _check_fields(plugin: str, path: str, fields: Sequence[Field]) -> None:
    seen = {"enabled"} if path and "." not in path else set()
    for one in fields:
        if not isinstance(one, Field) or not KEY.fullmatch(one.name):
            raise broken(plugin, f"{path or 'a role'} has a field that is not a Field with a name")
        if one.name in seen:
            raise broken(plugin, f"{path}.{one.name} is described twice")
        seen.add(one.name)
        _check_fields(plugin, f"{path}.{one.name}", one.fields)


def _check_resource(plugin: str, role: SystemRole, each: Resource) -> None:
    if not role.announces or each.kind != role.announces:
        shows = role.announces or "nothing"
        raise broken(plugin, f"announces {ascii(each.kind)[:40]}, role {role.name} shows {shows}")
    if not RESOURCE_NAME.fullmatch(each.name):
        raise broken(plugin, f"announces the name {ascii(each.name)[:64]}, which is not valid")
    try:
        check_labels(each.labels)
    except Error as why:
        raise broken(plugin, f"{each.kind} {each.name}: {why.message}") from why
    if not all(isinstance(x, str) for pair in each.spec.items() for x in pair):
        raise broken(plugin, f"{each.kind} {each.name}: spec must be text to text")


def _kind(why: BaseException) -> str:
    return type(why).__name__


def _where(why: BaseException) -> str:
    """File and line of the innermost frame, the first thing the plugin's author wants."""
    frames = traceback.extract_tb(why.__traceback__)
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if len(frames) > 1 else ""


def _story(why: BaseException) -> str:
    return "".join(traceback.format_exception(why))
