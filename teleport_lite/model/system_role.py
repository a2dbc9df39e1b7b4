"""The roles a process can have, as data. Plugins say which exist (`plugin/hookspecs.py`)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

from teleport_lite.errors import Malformed
from teleport_lite.model.schema import Field

AUTH, PROXY, NODE, BOT = "Auth", "Proxy", "Node", "Bot"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemRole:
    """One role: how people write it, what its token and certificate may do, what it shows."""

    name: str  # canonical, as tables and certificates show it: "WindowsDesktop"
    flag: str  # as --roles and --type take it: "windowsdesktop"
    aliases: frozenset[str] = frozenset()
    spends_token: bool = False  # True: a token works for one host, however many race for it
    implies: tuple[str, ...] = ()  # --type=kube also gives App and Discovery
    is_host: bool = True  # False: it joins as a bot user, not as a machine of the inventory
    section: str = ""  # its part of the config file: "ssh_service"
    on_by_default: bool = False  # enabled when its section is absent
    fields: tuple[Field, ...] = ()  # what the section may hold, beside `enabled`
    announces: str = ""  # kind of resource it shows in `tctl get`: "node", "db_server"
    dns_names: tuple[str, ...] = ()  # extra DNS names of its X.509 certificate
    extra_principals: tuple[str, ...] = field(default=())  # extra principals of its SSH certificate
    built: bool = True  # False: it joins and announces; its service is not there yet, and says so
    run_by: str = "teleport-lite start"  # what runs it; "" for a token type no process has


class RoleBook:
    """The roles this program knows."""

    def __init__(self, roles: Iterable[SystemRole]) -> None:
        self._by_name: dict[str, SystemRole] = {}
        self._by_word: dict[str, SystemRole] = {}
        for role in roles:
            self._by_name[role.name] = role
            for word in {role.name.lower(), role.flag, *role.aliases}:
                if self._by_word.setdefault(word.lower(), role) is not role:
                    raise ValueError(f"two roles are called {word}")

    def __iter__(self) -> Iterator[SystemRole]:
        return iter(self._by_name.values())

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def get(self, name: str) -> SystemRole:
        """By canonical name. Raises Malformed for one we do not know."""
        try:
            return self._by_name[name]
        except KeyError:
            raise Malformed(f"role {name[:40]!a} is not known here") from None

    def parse(self, words: str) -> tuple[str, ...]:
        """Canonical names of a comma list such as "node,proxy". Any case. Raises Malformed."""
        found: list[str] = []
        for word in words.split(","):
            role = self._by_word.get(word.strip().lower())
            if role is None:
                raise Malformed(self._unknown(word.strip()), hint=f"one or more of {self.flags()}")
            if role.name in found:
                raise Malformed(f"role {role.flag} is given twice")
            found.append(role.name)
        return tuple(found)

    def with_implied(self, names: Iterable[str]) -> tuple[str, ...]:
        """What a token of these types lets in: kube brings app and discovery along."""
        found: list[str] = []
        for name in names:
            for each in (name, *self.get(name).implies):
                if each not in found and each in self._by_name:
                    found.append(each)
        return tuple(found)

    def flags(self) -> str:
        return ",".join(sorted(role.flag for role in self))

    def _unknown(self, word: str) -> str:
        near = get_close_matches(word.lower(), self._by_word, n=1)
        meant = f", did you mean {self._by_word[near[0]].flag}" if near else ""
        return f"role {word[:40]!a} does not exist{meant}"
