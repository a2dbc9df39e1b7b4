"""The app role: web applications and TCP services behind the cluster.

It joins, gets its certificate and announces the applications of `app_service`. The service
that carries requests to them is not built yet; `built=False` makes start-up say so.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from teleport_lite.plugin.api import Resource, Section, SystemRole, hookimpl
from teleport_lite_app.section import FIELDS

APP = SystemRole(
    name="App",
    flag="app",
    section="app_service",
    fields=FIELDS,
    announces="app_server",
    built=False,
)

# The name becomes a label of a DNS name, "<name>.<proxy>" (RFC 1035 §2.3.1).
NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
NETWORK_SCHEMES = ("http", "https", "tcp")
# These name a console or a program to start, not a host.
OTHER_SCHEMES = ("cloud", "mcp+stdio")


@hookimpl
def teleport_lite_system_roles() -> Sequence[SystemRole]:
    return [APP]


@hookimpl
def teleport_lite_announce(role: str, settings: Mapping[str, object]) -> Sequence[Resource] | None:
    if role != APP.name:
        return None
    found: dict[str, Resource] = {}
    for app in Section(settings, APP.section).sections("apps"):
        resource = _resource(app)
        if resource.name in found:
            raise app.wrong("name", f"{resource.name!r} is given twice")
        found[resource.name] = resource
    return tuple(found.values())


def _resource(app: Section) -> Resource:
    name = app.name()
    if not NAME.fullmatch(name):
        raise app.wrong("name", f"{name!r} must be lower-case letters, digits and dashes")
    said = {
        "uri": _uri(app),
        "public_addr": app.text("public_addr"),
        "description": app.text("description"),
        "cloud": app.text("cloud"),
    }
    spec = {key: value for key, value in said.items() if value}
    return Resource(kind=APP.announces, name=name, labels=app.labels(), spec=spec)


def _uri(app: Section) -> str:
    """The application's URI, checked. Passwords in it would reach every `tctl get`: refused."""
    uri = app.text("uri")
    if not uri and "cloud" in app:
        return f"cloud://{app.text('cloud')}"
    try:
        parts = urlsplit(uri)
        host, port, user = parts.hostname, parts.port, parts.username
    except ValueError:
        raise app.wrong("uri", f"{uri[:64]!a} has a host or port that is none") from None
    if user is not None:
        raise app.wrong("uri", "must not hold a user name or password, everybody could list it")
    if parts.scheme in OTHER_SCHEMES:
        return uri
    if parts.scheme not in NETWORK_SCHEMES or not host:
        shown = ascii(uri[:64]) if uri else "is missing,"
        raise app.wrong("uri", f"{shown} is not a URI like http://localhost:8080")
    if parts.scheme == "tcp" and port is None and "tcp_ports" not in app:
        raise app.wrong("uri", f"{uri[:64]!a} has no port, expected tcp://host:port")
    return uri
