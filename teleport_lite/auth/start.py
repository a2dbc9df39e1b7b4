"""What a cluster has from its first second: a name, five CAs and three roles."""

from teleport_lite.access.presets import PRESETS
from teleport_lite.ambient import Chance, Clock
from teleport_lite.errors import Conflict, Malformed
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.event import Event
from teleport_lite.model.names import CLUSTER_NAME, RESERVED_SUFFIX, checked
from teleport_lite.pki.authority import new_ca
from teleport_lite.store.protocols import Store, Tx

NAME = "cluster_name"
NAMES_KEY = "names_key"


def found_cluster(store: Store, *, name: str, clock: Clock, chance: Chance) -> str:
    """Make the CAs if this store has none; return the cluster's name.

    All in one transaction: a crash leaves a cluster or nothing, and of two processes that
    start at once one finds the other's. Raises Conflict if the store belongs to a cluster of
    another name, which every certificate in the field already carries, and Malformed for a
    name that no cluster can have.
    """
    checked(CLUSTER_NAME, name, "cluster_name", example="tele.example.com")
    if f".{name.lower()}".endswith(RESERVED_SUFFIX):  # or hosts of it would be called like roles
        raise Malformed(
            f"cluster_name {name} is reserved, choose another",
            hint="set auth_service.cluster_name to a name like tele.example.com",
        )
    kept = store.meta(NAME)
    if kept is None:
        cas = [new_ca(each, cluster=name, id=chance.uuid(), now=clock.now()) for each in CaType]
        born = Event(
            kind="cluster.create", code="TLC00I", at=clock.now(), outcome="ok", facts={"name": name}
        )
        store.write(lambda tx: _found(tx, name, cas, born))
        kept = store.meta(NAME)
    if kept != name:
        raise Conflict(
            f"this data directory belongs to cluster {kept}, the configuration says {name}",
            hint=f"set auth_service.cluster_name to {kept}, or use another data_dir",
        )
    return kept


def _found(tx: Tx, name: str, cas: list[CaKeys], born: Event) -> None:
    if not tx.add_meta(NAME, name):
        return
    for keys in cas:
        tx.add_ca(keys)
    for role in PRESETS:
        tx.add_role(role)
    tx.record(born)


def names_key(store: Store, chance: Chance) -> bytes:
    """Key of the hashes that strangers meet: salts of names at login, tokens of invites.

    Made once, so that they stay the same when auth starts again. It is no secret to whoever
    has the database: the users stand in it.
    """
    fresh = chance.token(32)
    store.write(lambda tx: tx.add_meta(NAMES_KEY, fresh))
    return bytes.fromhex(store.meta(NAMES_KEY) or fresh)
