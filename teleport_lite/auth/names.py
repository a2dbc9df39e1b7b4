"""Names and CAs of ours, which nothing of another cluster may be taken for."""

from teleport_lite.auth.cas import Cas
from teleport_lite.errors import Conflict
from teleport_lite.model.authority import CaType
from teleport_lite.model.trust import is_foreign
from teleport_lite.pki.foreign import CaSet
from teleport_lite.store.protocols import Store


def check_ours(store: Store, user: str) -> None:
    """May somebody of ours be called so? Raises Conflict for the name that somebody from a
    trusted cluster has here: in the trail and in locks they would be one."""
    if is_foreign(user, [each.name for each in store.trusted_clusters()]):
        raise Conflict(
            f"{user} is what a user of cluster {user.rpartition('@')[2]} is called here",
            hint="tctl get trusted_clusters",
        )


def own_cas(cas: Cas) -> CaSet:
    """Of this cluster."""
    return CaSet(
        host_cas=tuple(cas.tls(CaType.HOST)),
        ssh_host_cas=tuple(cas.ssh(CaType.HOST)),
        user_cas=tuple(cas.tls(CaType.USER)),
        ssh_user_cas=tuple(cas.ssh(CaType.USER)),
    )
