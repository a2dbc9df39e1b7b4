"""The db role: databases behind the cluster.

It joins, gets its certificate and announces the databases of `db_service`. The service that
speaks their protocols is not built yet; `built=False` makes start-up say so.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from urllib.parse import urlsplit

from teleport_lite.plugin.api import Resource, Section, SystemRole, hookimpl
from teleport_lite_db.section import FIELDS, PROTOCOLS

DB = SystemRole(
    name="Db",
    flag="db",
    section="db_service",
    fields=FIELDS,
    announces="db_server",
    built=False,
)


@hookimpl
def teleport_lite_system_roles() -> Sequence[SystemRole]:
    return [DB]


@hookimpl
def teleport_lite_announce(role: str, settings: Mapping[str, object]) -> Sequence[Resource] | None:
    if role != DB.name:
        return None
    found: dict[str, Resource] = {}
    for database in Section(settings, DB.section).sections("databases"):
        resource = _resource(database)
        if resource.name in found:
            raise database.wrong("name", f"{resource.name!r} is given twice")
        found[resource.name] = resource
    return tuple(found.values())


def _resource(database: Section) -> Resource:
    said = {
        "protocol": _protocol(database),
        "uri": _uri(database),
        "description": database.text("description"),
    }
    return Resource(
        kind=DB.announces,
        name=database.name(),
        labels=database.labels("static_labels"),
        spec={key: value for key, value in said.items() if value},
    )


def _protocol(database: Section) -> str:
    protocol = database.text("protocol")
    if protocol in PROTOCOLS:
        return protocol
    near = get_close_matches(protocol.lower(), PROTOCOLS, n=1)
    meant = f"did you mean {near[0]}" if near else f"one of {', '.join(PROTOCOLS)}"
    shown = f"{protocol[:40]!a} is not known" if protocol else "is missing"
    raise database.wrong("protocol", f"{shown}, {meant}")


def _uri(database: Section) -> str:
    """`host:port` or a URI. Passwords in it would reach every `tctl get`: refused."""
    uri = database.text("uri")
    try:
        parts = urlsplit(uri if "://" in uri else f"//{uri}")
        host, user = parts.hostname, parts.username
        port = parts.port
    except ValueError:
        raise database.wrong("uri", f"{uri[:64]!a} has a host or port that is none") from None
    if user is not None:
        raise database.wrong(
            "uri", "must not hold a user name or password, everybody could list it"
        )
    if not host or (port is None and not parts.scheme):
        shown = f"{uri[:64]!a} is not" if uri else "is missing, expected"
        raise database.wrong("uri", f"{shown} host:port, like localhost:5432")
    return uri
