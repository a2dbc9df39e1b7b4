"""Plugins are invited, not discovered; this is who came, and how they are asked.

Our own roles sit at the same table: `builtin.py` seats them through `Guests.seat`, which
is what an invited directory (`directory.py`) or distribution (`distribution.py`) ends in.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypedDict

import pluggy

from teleport_lite.errors import Conflict, Denied, Error, Malformed, NotFound, Unavailable
from teleport_lite.model.host import Resource
from teleport_lite.model.system_role import RoleBook, SystemRole
from teleport_lite.pki.custody import MAX_WRAPPED, Wrapper
from teleport_lite.plugin import fence, hookspecs

# Sections of the config file that belong to nobody's role.
OWN_SECTIONS = frozenset(
    {"version", "teleport", "plugins", "debug_service", "metrics_service", "tracing_service"}
)


class State(StrEnum):
    READY = "ready"
    PARTLY = "no service yet"  # joins and announces; at least one role says `built=False`
    FAILED = "failed"
    UNINVITED = "not invited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One line of `teleport-lite plugins ls`."""

    name: str
    source: str  # "built in", "/etc/teleport-lite/plugins/printer", "distribution lab 1.0"
    roles: tuple[SystemRole, ...] = ()
    state: State = State.READY
    reason: str = ""


class Guests:
    """The plugins of one process. Filled while it starts, only read afterwards."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._seated: dict[str, Guest] = {}

    def __iter__(self) -> Iterator[Guest]:
        return iter(self._seated.values())

    @property
    def book(self) -> RoleBook:
        """Every role of every plugin, in the order they came."""
        return RoleBook(role for guest in self for role in guest.roles)

    def seat(self, name: str, plugin: object, *, source: str, trusted: bool = False) -> Guest:
        """Take a plugin in. Raises Unavailable or Conflict, and then nothing has changed."""
        if name in self._seated:
            raise Conflict(f"two plugins are called {name}", hint=fence.LIST_THEM)
        self._register(name, plugin)
        try:
            said = self._ask(name, "teleport_lite_system_roles")
            roles = fence.check_roles(name, () if said is None else said, trusted=trusted)
            self._check_clashes(name, roles)
        except Error:
            self._manager.unregister(name=name)
            raise
        guest = Guest(name=name, source=source, roles=roles, **_told(roles))
        self._seated[name] = guest
        return guest

    def announce(self, role: str, settings: Mapping[str, object]) -> tuple[Resource, ...]:
        """What this process shows in `role`. Only the plugin that brought the role is asked, so
        nobody sees another's settings. Raises Malformed, Denied or Unavailable."""
        for guest in self:
            for one in guest.roles:
                if one.name == role:
                    said = self._ask(
                        guest.name,
                        "teleport_lite_announce",
                        passes=(Malformed, Denied),
                        role=role,
                        settings=settings,
                    )
                    return fence.check_resources(guest.name, one, said)
        raise Malformed(f"role {role[:40]!a} is not known here")

    def wrapper(self, name: str, settings: Mapping[str, object]) -> Wrapper:
        """The plugin that keeps the key of the keyring. Raises NotFound if it is not here."""
        if name not in self._seated:
            raise NotFound(
                f"plugin {name} is to keep the key of the keyring, and is not invited",
                hint=fence.LIST_THEM,
            )

        def ask(hook: str, **given: bytes) -> bytes:
            passes = (Malformed, Denied, Unavailable)
            said = self._ask(name, hook, passes=passes, settings=settings, **given)
            return fence.check_bytes(name, hook, said, most=MAX_WRAPPED)

        return Wrapper(
            plugin=name,
            wrap=lambda key: ask("teleport_lite_wrap_key", key=key),
            unwrap=lambda wrapped: ask("teleport_lite_unwrap_key", wrapped=wrapped),
        )

    def _register(self, name: str, plugin: object) -> None:
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except Exception as why:  # a guest may do anything while it is looked at
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            cause = " ".join(str(why).split("\n")[1:]).strip() or str(why)
            raise fence.broken(name, f"has a wrong hook: {cause[:300]}", log=str(why)) from why
        cause = self._misuse(plugin)
        if cause:
            self._manager.unregister(name=name)
            raise fence.broken(name, cause)

    def _misuse(self, plugin: object) -> str:
        """What pluggy lets pass and we do not; "" if nothing."""
        callers = self._manager.get_hookcallers(plugin) or []
        hooks = {c.name: x for c in callers for x in c.get_hookimpls() if x.plugin is plugin}
        if any(hook.wrapper or hook.hookwrapper for hook in hooks.values()):
            return "may not wrap other plugins' hooks"
        for word in dir(plugin):
            ours = word.startswith(f"{hookspecs.PROJECT}_") and word not in hooks
            if ours and inspect.isroutine(inspect.getattr_static(plugin, word, None)):
                return f"{word} is not marked with @hookimpl"
        return "" if hooks else "has none of our hooks"

    def _ask(
        self,
        name: str,
        hook: str,
        *,
        passes: tuple[type[Error], ...] = (),
        **given: object,
    ) -> object:
        """The answer of one plugin to one hook; None when it does not have it."""
        for impl in getattr(self._manager.hook, hook).get_hookimpls():
            if impl.plugin_name == name:
                wanted = {key: given[key] for key in impl.argnames}
                return fence.call(name, hook, partial(impl.function, **wanted), passes=passes)
        return None

    def _check_clashes(self, name: str, roles: Sequence[SystemRole]) -> None:
        """Raises Conflict naming both for a role, flag, alias or section that is used twice."""
        taken = {word: f"plugin {guest.name}" for guest in self for word in _words(guest.roles)}
        taken |= {f"section {section}": "teleport-lite itself" for section in OWN_SECTIONS}
        for word in _words(roles):
            if word in taken:
                raise Conflict(
                    f"{word} is used by {taken[word]} and by plugin {name}", hint=fence.LIST_THEM
                )
            taken[word] = f"plugin {name}"


class _Told(TypedDict):
    state: State
    reason: str


def _told(roles: Sequence[SystemRole]) -> _Told:
    """How far the roles of a plugin that loaded have come."""
    without = [role.name for role in roles if not role.built and role.run_by]
    tokens = [role.name for role in roles if not role.built and not role.run_by]
    said = [f"joins and announces only: {', '.join(without)}"] if without else []
    said += [f"tokens only: {', '.join(tokens)}"] if tokens else []
    return {"state": State.PARTLY if without else State.READY, "reason": "; ".join(said)}


def _words(roles: Sequence[SystemRole]) -> Iterator[str]:
    """What must be unique: each spelling once per role, and each section."""
    for role in roles:
        spellings = {role.name.lower(), role.flag.lower(), *(x.lower() for x in role.aliases)}
        yield from sorted(f"role {word}" for word in spellings)
        if role.section:
            yield f"section {role.section}"
