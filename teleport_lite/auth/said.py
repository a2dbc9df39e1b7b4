"""What hosts say of themselves in their beats, read: what people should not find in a listing is
refused, and who somebody is comes from its certificate and not from its words."""

import re
from collections.abc import Sequence

from teleport_lite.errors import Malformed
from teleport_lite.model.host import Host, OpenSession, Place, Report, Resource
from teleport_lite.model.labels import check_labels
from teleport_lite.model.names import RESOURCE_NAME, UUID, checked
from teleport_lite.proto.stream import Announced, Beat, LiveSession, ProxyPlace

# A name or an IP address, and a port.
ADDRESS = re.compile(r"[A-Za-z0-9.:\[\]-]{1,262}")
# A host has a tunnel to every proxy; a proxy has a few names.
MAX_TUNNELS = 256
MAX_ADDRESSES = 32
# Types of CA, and marks of `model/rotation.py`.
MAX_ROTATED, MAX_MARK = 16, 80


def read_beat(beat: Beat, kinds: frozenset[str]) -> Report:
    """What it says of the host. Resources of other than `kinds` are passed over: a later version
    may announce more. Raises Malformed."""
    return Report(
        address=read_address(beat.address),
        labels=check_labels(beat.labels),
        resources=tuple(read_resource(each) for each in beat.resources if each.kind in kinds),
        tunnels=read_tunnels(beat.tunnels),
        proxy=read_place(beat.proxy) if beat.proxy else None,
        auth=read_address(beat.auth),
        rotated=_marks(beat.rotated),
    )


def _marks(said: dict[str, str]) -> dict[str, str]:
    return {type[:32]: mark[:MAX_MARK] for type, mark in list(said.items())[:MAX_ROTATED]}


def read_address(text: str) -> str:
    return checked(ADDRESS, text, "address", example="10.0.0.5:3022") if text else ""


def _addresses(said: Sequence[str]) -> tuple[str, ...]:
    if len(said) > MAX_ADDRESSES:
        raise Malformed(f"{len(said)} addresses of a proxy, the most is {MAX_ADDRESSES}")
    return tuple(read_address(each) for each in said if each)


def read_tunnels(said: Sequence[str]) -> tuple[str, ...]:
    if len(said) > MAX_TUNNELS:
        raise Malformed(f"{len(said)} tunnels of a host, the most is {MAX_TUNNELS}")
    example = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
    return tuple(sorted({checked(UUID, each, "proxy id", example=example) for each in said}))


def read_place(said: ProxyPlace) -> Place:
    """Who it is, `id` and `name`, comes from its certificate and not from its words."""
    return Place(
        address=read_address(said.address),
        public=_addresses(said.public),
        tunnel_public=_addresses(said.tunnel_public),
        ssh_public=_addresses(said.ssh_public),
    )


def shown_place(host: Host, place: Place) -> ProxyPlace:
    return ProxyPlace(
        id=host.id,
        name=host.name,
        address=place.address,
        public=list(place.public),
        tunnel_public=list(place.tunnel_public),
        ssh_public=list(place.ssh_public),
    )


def read_resource(said: Announced) -> Resource:
    for key, value in said.spec.items():
        if not (key.isprintable() and value.isprintable()):
            raise Malformed(f"{said.kind}: spec must be printable text")
    return Resource(
        kind=said.kind,
        name=checked(RESOURCE_NAME, said.name, f"{said.kind} name", example="grafana"),
        labels=check_labels(said.labels),
        spec=dict(said.spec),
    )


def session_of(said: OpenSession) -> LiveSession:
    """As the host has told it to another auth server."""
    return LiveSession(
        sid=said.sid,
        user=said.user,
        login=said.login,
        started=said.started,
        addr=said.addr,
        command=said.command,
        recorded=said.recorded,
        parties=list(said.parties),
    )


def session_told(said: LiveSession) -> OpenSession:
    return OpenSession(
        sid=said.sid,
        user=said.user,
        login=said.login,
        started=said.started,
        addr=said.addr,
        command=said.command,
        recorded=said.recorded,
        parties=tuple(said.parties),
    )
