"""The discovery role: finds machines, databases and clusters in clouds.

It joins, gets its certificate and announces what `discovery_service` would look for. The
looking itself is not built yet; `built=False` makes start-up say so.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from teleport_lite.plugin.api import Resource, Section, SystemRole, hookimpl, show_duration
from teleport_lite_discovery.section import FIELDS, TYPES

DISCOVERY = SystemRole(
    name="Discovery",
    flag="discovery",
    section="discovery_service",
    fields=FIELDS,
    announces="discovery",
    built=False,
)

POLL_INTERVAL = timedelta(minutes=5)
# Cloud APIs throttle callers who ask more often.
SHORTEST_INTERVAL = timedelta(minutes=1)


@hookimpl
def teleport_lite_system_roles() -> Sequence[SystemRole]:
    return [DISCOVERY]


@hookimpl
def teleport_lite_announce(role: str, settings: Mapping[str, object]) -> Sequence[Resource] | None:
    if role != DISCOVERY.name:
        return None
    service = Section(settings, DISCOVERY.section)
    looked_for = {cloud: _types(service, cloud) for cloud in TYPES}
    spec = {cloud: ",".join(types) for cloud, types in looked_for.items() if types}
    if not spec:
        return []  # matchers come by `tctl create`
    spec["poll_interval"] = show_duration(_interval(service))
    group = service.name("discovery_group") if "discovery_group" in service else "default"
    return [Resource(kind=DISCOVERY.announces, name=group, spec=spec)]


def _types(service: Section, cloud: str) -> list[str]:
    """Every type some matcher of `cloud` asks for, once, in the order first asked."""
    found: list[str] = []
    for matcher in service.sections(cloud):
        types = matcher.texts("types")
        if not types:
            raise matcher.wrong("types", f"is missing, one or more of {', '.join(TYPES[cloud])}")
        for one in types:
            if one not in TYPES[cloud]:
                known = ", ".join(TYPES[cloud])
                raise matcher.wrong("types", f"{one[:40]!a} is not known, one of {known}")
            if one not in found:
                found.append(one)
    return found


def _interval(service: Section) -> timedelta:
    interval = service.span("poll_interval", POLL_INTERVAL)
    if interval < SHORTEST_INTERVAL:
        raise service.wrong("poll_interval", "must be at least 1m")
    return interval
