"""The steps of a rotation as plain values: what may follow what, who signs, what is kept.

No store, clock or key in here; auth/rotation.py carries a step out.

    phase            signs clients  serves with  trusted     a host has to
    init             old            old          old + new   learn the new CA
    update_clients   new            old          old + new   go out with new certificates
    update_servers   new            new          old + new   serve with them
    rollback         old            old          old + new   go back to certificates of the old
    standby          survivor       survivor     survivor    forget the other
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from teleport_lite.errors import Conflict
from teleport_lite.model.authority import CaKeys, CaType
from teleport_lite.model.rotation import Phase, RetiredCa, Rotation
from teleport_lite.pki.pin import pin_of
from teleport_lite.store.protocols import Tx

# Where each phase may be entered from, in the order they are tried in.
FROM = {
    Phase.INIT: (Phase.STANDBY,),
    Phase.UPDATE_CLIENTS: (Phase.INIT,),
    Phase.UPDATE_SERVERS: (Phase.UPDATE_CLIENTS,),
    Phase.ROLLBACK: (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS),
    Phase.STANDBY: (Phase.UPDATE_SERVERS, Phase.ROLLBACK),
}
# What an automatic rotation does next; each of the three takes a third of the grace period.
AHEAD = {
    Phase.INIT: Phase.UPDATE_CLIENTS,
    Phase.UPDATE_CLIENTS: Phase.UPDATE_SERVERS,
    Phase.UPDATE_SERVERS: Phase.STANDBY,
}
NEW_SIGNS = frozenset({Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS})
# What was rotated away is remembered so that it can be named: years of rotations.
KEPT_RETIRED = 16
STATUS = "tctl status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of a rotation, whole: what `take` does in one transaction."""

    rotation: Rotation  # as it is afterwards
    after: int  # serial of what it was decided on
    add: CaKeys | None = None
    change: tuple[CaKeys, ...] = ()  # as they are afterwards
    remove: str = ""

    def take(self, tx: Tx) -> None:
        """Raises Conflict, which undoes the transaction, if somebody else was first."""
        type = self.rotation.type
        taken = tx.put_rotation(self.rotation, after=self.after)
        taken = taken and (self.add is None or tx.add_ca(self.add))
        for keys in self.change:
            taken = taken and tx.change_ca(
                type, keys.id, active=keys.active, last_rotated=keys.last_rotated
            )
        taken = taken and (not self.remove or tx.remove_ca(type, self.remove))
        if not taken:
            raise Conflict(f"the rotation of the {type} CA was changed a moment ago", hint=STATUS)


def check_step(rotation: Rotation, wanted: Phase) -> None:
    """Raises Conflict for a phase that does not follow."""
    if rotation.phase in FROM[wanted]:
        return
    type, now = rotation.type, rotation.phase
    if wanted is Phase.INIT:
        raise Conflict(
            f"can not initiate rotation of the {type} CA while another is in progress, "
            f"the current phase is {now}",
            hint=STATUS,
        )
    sources = " or ".join(FROM[wanted])
    raise Conflict(
        f"can only switch to phase {wanted} from {sources}, the current phase of the {type} CA "
        f"is {now}",
        hint=STATUS,
    )


def begin(
    before: Rotation,
    fresh: CaKeys,
    signing: CaKeys,
    *,
    id: str,
    manual: bool,
    grace: timedelta,
    now: datetime,
) -> Step:
    """Into init: a new CA that everybody is to learn. Raises Conflict if a rotation runs."""
    check_step(before, Phase.INIT)
    rotation = replace(
        before,
        serial=before.serial + 1,
        phase=Phase.INIT,
        id=id,
        manual=manual,
        started_at=now,
        phase_since=now,
        grace=grace.total_seconds(),
        old_ca=signing.id,
        new_ca=fresh.id,
    )
    return Step(rotation=rotation, after=before.serial, add=replace(fresh, active=False))


def at_once(before: Rotation, fresh: CaKeys, signing: CaKeys, *, id: str, now: datetime) -> Step:
    """From one CA to the next without an overlap. Raises Conflict if a rotation runs."""
    begun = begin(before, fresh, signing, id=id, manual=True, grace=timedelta(), now=now)
    rotation = _ended(begun.rotation, signing, now, last_rotated=now)
    active = replace(fresh, active=True, last_rotated=now)
    return Step(rotation=rotation, after=before.serial, add=active, remove=signing.id)


def advance(
    before: Rotation, cas: list[CaKeys], wanted: Phase, *, manual: bool, now: datetime
) -> Step:
    """Into `wanted`, which is not init. `cas` are the generations of the type.

    Raises Conflict for a phase that does not follow.
    """
    check_step(before, wanted)
    by_id = {keys.id: keys for keys in cas}
    if not {before.old_ca, before.new_ca} <= set(by_id):
        raise Conflict(
            f"the rotation of the {before.type} CA was changed a moment ago", hint=STATUS
        )
    old, new = by_id[before.old_ca], by_id[before.new_ca]
    if wanted is Phase.STANDBY:
        return _finish(before, old, new, now)
    is_new = wanted in NEW_SIGNS
    rotation = replace(
        before,
        serial=before.serial + 1,
        phase=wanted,
        phase_since=now,
        manual=manual or wanted is Phase.ROLLBACK,
    )
    return Step(
        rotation=rotation,
        after=before.serial,
        change=(replace(old, active=not is_new), replace(new, active=is_new)),
    )


def _finish(before: Rotation, old: CaKeys, new: CaKeys, now: datetime) -> Step:
    """The one that stays signs already, since an earlier phase."""
    grown = replace(before, serial=before.serial + 1)
    if before.phase is Phase.ROLLBACK:
        rotation = _ended(grown, new, now, last_rotated=before.last_rotated)
        return Step(rotation=rotation, after=before.serial, remove=new.id)
    survivor = replace(new, last_rotated=now)
    rotation = _ended(grown, old, now, last_rotated=now)
    return Step(rotation=rotation, after=before.serial, change=(survivor,), remove=old.id)


def _ended(
    running: Rotation, gone: CaKeys, now: datetime, *, last_rotated: datetime | None
) -> Rotation:
    retired = RetiredCa(
        id=gone.id,
        pin=pin_of(gone.public.tls_cert) if gone.public.tls_cert else "",
        ssh_key=gone.public.ssh_key,
        at=now,
    )
    return replace(
        running,
        phase=Phase.STANDBY,
        phase_since=now,
        last_rotated=last_rotated,
        retired=(retired, *running.retired)[:KEPT_RETIRED],
    )


# --- looking at one


def runs(rotation: Rotation) -> bool:
    return rotation.phase is not Phase.STANDBY


def due_at(rotation: Rotation) -> datetime | None:
    """When an automatic one may go on; None for one that is led by hand, or that does not run."""
    if rotation.manual or rotation.phase not in AHEAD or rotation.phase_since is None:
        return None
    return rotation.phase_since + timedelta(seconds=rotation.grace) / 3


def ends_at(rotation: Rotation) -> datetime | None:
    """When an automatic one is over if nobody keeps it waiting."""
    due, phase = due_at(rotation), rotation.phase
    while due is not None and AHEAD[phase] is not Phase.STANDBY:
        due, phase = due + timedelta(seconds=rotation.grace) / 3, AHEAD[phase]
    return due


def safe_marks(rotation: Rotation) -> frozenset[str]:
    """Who has caught up with one of these holds certificates of the CA that signs now."""
    if not rotation.id:
        return frozenset()
    if not runs(rotation):
        survivor_is_new = not rotation.retired or rotation.retired[0].id == rotation.old_ca
        signed = (*NEW_SIGNS,) if survivor_is_new else (Phase.ROLLBACK,)
        phases: tuple[Phase, ...] = (*signed, Phase.STANDBY)
    elif rotation.phase in NEW_SIGNS:
        phases = tuple(NEW_SIGNS)
    elif rotation.phase is Phase.ROLLBACK:
        phases = (Phase.ROLLBACK,)
    else:
        phases = (Phase.INIT,)
    return frozenset(f"{rotation.id}/{phase}" for phase in phases)


def concerns_hosts(type: CaType) -> bool:
    """Whose certificates hosts hold or check; nobody has to catch up with the others."""
    return type in (CaType.HOST, CaType.USER)
