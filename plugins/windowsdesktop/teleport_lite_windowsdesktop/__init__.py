"""The Windows desktop role: desktops reached over RDP.

It joins, gets its certificate and announces the desktops of `windows_desktop_service` that
are named there. Finding others by LDAP, and the service that shows them, are not built yet;
`built=False` makes start-up say so.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

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
    for where, key, name, addr, in_domain, labels in _desktops(service):
        address = _address(where, key, addr)
        matched = {k: v for rule, more in rules if rule.search(addr) for k, v in more.items()}
        if name in found:
            raise where.wrong(key, f"gives a second desktop called {name!r}")
        found[name] = Resource(
            kind=DESKTOP.announces,
            name=name,
            labels=matched | labels,
            spec={"addr": address, "ad": "yes" if in_domain else "no"},
        )
    return tuple(found.values())


def _desktops(
    service: Section,
) -> Iterator[tuple[Section, str, str, str, bool, dict[str, str]]]:
    """Where it stands and under which key, name, address, in the domain or not, labels."""
    for host in service.sections("static_hosts"):
        addr = host.text("addr")
        name = host.name() if "name" in host else _name_of(addr)
        yield host, "addr", name, addr, host.flag("ad"), host.labels()
    for key, in_domain in (("hosts", True), ("non_ad_hosts", False)):
        for addr in service.texts(key):
            yield service, key, _name_of(addr), addr, in_domain, {}


def _name_of(addr: str) -> str:
    """A desktop without a name is called by its address: 10.0.0.7:3389 is 10-0-0-7."""
    host = addr.rsplit(":", 1)[0] if addr.count(":") == 1 else addr.partition("]")[0]
    return re.sub(r"[^A-Za-z0-9-]+", "-", host).strip("-")


def _address(where: Section, key: str, addr: str) -> str:
    host, colon, port = addr.rpartition(":")
    if not colon or addr.endswith("]"):
        host, port = addr, str(RDP_PORT)
    known = HOST.fullmatch(host) or V6_HOST.fullmatch(host)
    if not known or not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 65536:
        shown = f"{addr[:64]!a} is not" if addr else "is missing, expected"
        raise where.wrong(key, f"{shown} host or host:port, like 10.0.0.7:{RDP_PORT}")
    return f"{host}:{port}"


def _rules(service: Section) -> list[tuple[re.Pattern[str], dict[str, str]]]:
    rules = []
    for rule in service.sections("host_labels"):
        try:
            match = re.compile(rule.text("match"))
        except re.error as why:
            raise rule.wrong("match", f"is not a regular expression: {why.msg}") from why
        rules.append((match, rule.labels()))
    return rules
