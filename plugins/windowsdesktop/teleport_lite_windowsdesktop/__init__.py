"""The Windows desktop role: desktops reached over RDP.

It joins, gets its certificate and announces the desktops of `windows_desktop_service` that
are named there. Finding others by LDAP, and the service that shows them, are not built yet;
`built=False` makes start-up say so.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from teleport_lite.plugin.api import Resource, Section, SystemRole, hookimpl
from teleport_lite_windowsdesktop.section import FIELDS

DESKTOP = SystemRole(
    name="WindowsDesktop",
    flag="windowsdesktop",
    aliases=frozenset({"windows_desktop"}),
    section="windows_desktop_service",
    fields=FIELDS,
    announces="windows_desktop",
    built=False,
)

RDP_PORT = 3389
HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
V6_HOST = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]")


@hookimpl
def teleport_lite_system_roles() -> Sequence[SystemRole]:
    return [DESKTOP]


@hookimpl
def teleport_lite_announce(role: str, settings: Mapping[str, object]) -> Sequence[Resource] | None:
    if role != DESKTOP.name:
        return None
    service = Section(settings, DESKTOP.section)
    rules = _rules(service)
    found: dict[str, Resource] = {}
    for desktop in _desktops(service):
        if desktop.name in found:
            raise desktop.where.wrong(desktop.key, f"gives a second desktop {desktop.name!r}")
        found[desktop.name] = _resource(desktop, rules)
    return tuple(found.values())


class _Desktop(NamedTuple):
    where: Section
    key: str  # what to name when two desktops are called the same
    name: str
    address: str
    in_domain: bool
    labels: dict[str, str]


def _desktops(service: Section) -> Iterator[_Desktop]:
    for host in service.sections("static_hosts"):
        address = _address(host, "addr", host.text("addr"))
        named = "name" in host
        name = host.name() if named else host.name("addr", made=_name_of(address))
        key = "name" if named else "addr"
        yield _Desktop(host, key, name, address, host.flag("ad"), host.labels())
    for key, in_domain in (("hosts", True), ("non_ad_hosts", False)):
        for text in service.texts(key):
            address = _address(service, key, text)
            name = service.name(key, made=_name_of(address))
            yield _Desktop(service, key, name, address, in_domain, {})


def _resource(desktop: _Desktop, rules: "list[_Rule]") -> Resource:
    """Its own labels win over those that `host_labels` give to its address."""
    host = desktop.address.rpartition(":")[0]
    matched = {k: v for match, more in rules if match.search(host) for k, v in more.items()}
    return Resource(
        kind=DESKTOP.announces,
        name=desktop.name,
        labels=matched | desktop.labels,
        spec={"addr": desktop.address, "ad": "yes" if desktop.in_domain else "no"},
    )


def _name_of(address: str) -> str:
    """A desktop without a name is called by its host: 10.0.0.7:3389 is 10-0-0-7."""
    return re.sub(r"[^A-Za-z0-9]+", "-", address.rpartition(":")[0]).strip("-")


def _address(where: Section, key: str, addr: str) -> str:
    host, colon, port = addr.rpartition(":")
    if not colon or addr.endswith("]"):
        host, port = addr, str(RDP_PORT)
    known = HOST.fullmatch(host) or V6_HOST.fullmatch(host)
    if not known or not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 65536:
        shown = f"{addr[:64]!a} is not" if addr else "is missing, expected"
        raise where.wrong(key, f"{shown} host or host:port, like 10.0.0.7:{RDP_PORT}")
    return f"{host}:{port}"


_Rule = tuple[re.Pattern[str], dict[str, str]]


def _rules(service: Section) -> list[_Rule]:
    rules = []
    for rule in service.sections("host_labels"):
        try:
            match = re.compile(rule.text("match"))
        except re.error as why:
            raise rule.wrong("match", f"is not a regular expression: {why.msg}") from why
        rules.append((match, rule.labels()))
    return rules
