"""What `tctl status` is told."""

from typing import Any

from teleport_lite.ambient import Clock
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.hosts import Presence
from teleport_lite.auth.life import LifeDesk
from teleport_lite.auth.rotation import RotationDesk
from teleport_lite.auth.sharing import Sharing
from teleport_lite.errors import Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.proto.resource import moment
from teleport_lite.store.protocols import Store


def status_of(
    *,
    clock: Clock,
    store: Store,
    cas: Cas,
    version: str,
    presence: Presence,
    rotation: RotationDesk,
    sharing: Sharing,
    life: LifeDesk,
) -> dict[str, Any]:
    """What the store has to be asked for is left out while it is away: this says that it is."""
    rotations: dict[str, Any] = {}
    more: dict[str, Any] = {}
    try:
        rotations = {each["type"]: each for each in rotation.listing()["rotations"]}
        more = {"auth_servers": sharing.listing(), "other_life": life.warning()}
    except Unavailable:
        if not store.health.trouble:
            raise
    active = {keys.type: keys for keys in cas.all() if keys.active}
    return {
        "cluster": cas.cluster,
        "version": version,
        "cas": [
            {"type": each.value, "last_rotated": moment(active[each].last_rotated)}
            | ({"rotation": rotations[each]} if each in rotations else {})
            for each in CaType
            if each in active
        ],
        "ca_pins": cas.pins(),
        "host_versions": presence.versions(),
        "time": moment(clock.now()),
        "store": store.health.trouble,
        "life": {"id": life.life.word, "began": moment(life.life.began)},
        **more,
    }
