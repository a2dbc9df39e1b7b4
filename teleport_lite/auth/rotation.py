"""Rotating the CAs: each step is one transaction, so there is nothing in between to be found in.

Read `rotate` and `tick` first. What a step is, auth/phases.py says; who waits for whom,
auth/catching_up.py. Of several auth servers any may take a step: it names the serial it has read,
and of two that try at once one is refused by the store.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from threading import RLock
from typing import Any, Protocol

from teleport_lite.ambient import Chance, Clock
from teleport_lite.audit.trail import Trail
from teleport_lite.auth.caller import Caller
from teleport_lite.auth.cas import Cas
from teleport_lite.auth.catching_up import Awaited, Progress, named, progress
from teleport_lite.auth.hosts import Live
from teleport_lite.auth.phases import (
    AHEAD,
    FROM,
    Step,
    advance,
    at_once,
    begin,
    check_step,
    due_at,
    ends_at,
    runs,
)
from teleport_lite.errors import Conflict, Denied, Error, Malformed
from teleport_lite.model.authority import CaType
from teleport_lite.model.duration import parse_duration
from teleport_lite.model.event import Event
from teleport_lite.model.host import Host, Report
from teleport_lite.model.rotation import Phase, Rotation
from teleport_lite.pki.authority import new_ca
from teleport_lite.pki.pin import issuer_pin, pin_of
from teleport_lite.proto.admin import RotateCa
from teleport_lite.proto.resource import moment
from teleport_lite.store.protocols import Store, Tx

log = logging.getLogger("teleport_lite.auth")

OK, REFUSED = "TCA00I", "TCA00E"
MAX_GRACE = timedelta(days=365)
ALL = "all"
REJOIN = "join again with a new token: tctl tokens add"
BY_ITSELF = "auth"  # who takes the steps of an automatic rotation, in the trail


class Hosts(Protocol):
    """auth/hosts.py, as far as it is asked here."""

    def hosts(self) -> list[tuple[Host, Report]]: ...
    def streams(self) -> list[Live]: ...
    def cut(self, host_id: str, why: str, hint: str = "") -> None: ...


class RotationDesk:
    """Safe from several threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        chance: Chance,
        store: Store,
        trail: Trail,
        cas: Cas,
        hosts: Hosts,
        changed: Callable[[], None],
    ) -> None:
        """`changed` tells everybody what CAs there are now."""
        self._clock, self._chance = clock, chance
        self._store, self._trail, self._cas = store, trail, cas
        self._hosts, self._changed = hosts, changed
        self._followers: list[Callable[[], None]] = []
        self._guard = RLock()  # guards `_told`; taken before every other lock
        self._told = dict(cas.view.rotations)
        self._awaited = Awaited(hosts.hosts(), clock)

    def follow(self, call: Callable[[], None]) -> None:
        """Call when the CAs have changed, before hosts are told: our own doors come first."""
        self._followers.append(call)

    def rotate(self, caller: Caller, asked: RotateCa) -> dict[str, Any]:
        """Begin a rotation, or take its next step; of all types asked for, or of none.

        Raises Malformed, and Conflict for a phase that does not follow, or that would lock out
        hosts which are there.
        """
        types = _types(asked.types)
        phase, grace = _phase(asked), _grace(asked.grace_period)
        facts = {
            "types": ",".join(types),
            "phase": phase or Phase.INIT,
            "user": caller.label,
            "addr.remote": caller.address,
        }
        if asked.force:
            facts["force"] = "yes"
        with self._trail.attempt("cert_authority.rotate", ok=OK, refused=REFUSED, **facts) as entry:
            self._cas.refresh(types)
            steps = [self._step(type, phase, asked, grace) for type in types]
            entry.facts |= _facts(steps)

            def change(tx: Tx) -> None:
                for step in steps:
                    step.take(tx)
                entry.commit(tx)

            self._store.write(change)
        try:
            self.look()
        except Error as why:  # the step is taken; the next tick looks again
            log.warning("a step of a rotation is not told yet: %s", why.message)
        return self.listing(types)

    def tick(self) -> None:
        """Take the steps of automatic rotations that are due, and see what others have done."""
        self.look()
        now, view = self._clock.now(), self._cas.view
        for type, rotation in view.rotations.items():
            due = due_at(rotation)
            if due is None or now < due or self.progress(type, restarts=True).waiting:
                continue
            step = advance(rotation, view.of(type), AHEAD[rotation.phase], manual=False, now=now)
            try:
                self._store.write(partial(self._take, step))
            except Conflict:
                continue  # another auth server, or a person, was first
            log.info("rotation of the %s CA: phase %s", type, step.rotation.phase)
        self.look()

    def look(self) -> bool:
        """Take up what this or another auth server has changed; False if nothing has.

        In this order: we trust and show what is now, then everybody is told, then who has stayed
        behind is sent away. If that fails the next call does all of it again. Raises Unavailable.
        """
        with self._guard:
            self._cas.refresh(CaType)
            view = self._cas.view
            if view.rotations == self._told:
                return False
            for call in self._followers:
                call()
            self._changed()
            self._send_away()
            self._told = dict(view.rotations)
        return True

    def check(self, caller: Caller) -> None:
        """For a connection older than a step. Raises Denied for a certificate of a retired CA."""
        type = caller.ca_type
        self._cas.refresh((type,))  # another auth server may have been quicker than its news
        view = self._cas.view
        if not caller.ca or caller.ca in {keys.id for keys in view.of(type)}:
            return
        rotation = view.rotations[type]
        raise missed(rotation) if type is CaType.HOST else retired(rotation)

    def signer_of(self, tls_cert: str) -> str:
        """Id of the host CA that has signed what a host was just given. "" if it is retired."""
        cas = self._cas.view.of(CaType.HOST)
        pin = issuer_pin(tls_cert, [keys.public.tls_cert for keys in cas])
        return next((keys.id for keys in cas if pin_of(keys.public.tls_cert) == pin), "")

    def signs_now(self, live: Live) -> bool:
        """Has a host certificates of the CA that signs now? Only then has it caught up, whatever
        it says."""
        return live.ca == self._cas.view.of(CaType.HOST)[0].id

    def progress(self, type: CaType, *, restarts: bool = False) -> Progress:
        """`restarts`: wait for who said goodbye a moment ago, too; it may be an upgrade."""
        return self._progress(type, self._hosts.hosts(), restarts=restarts)

    def listing(self, types: Sequence[CaType] = tuple(CaType)) -> dict[str, Any]:
        """Where each CA stands."""
        hosts = self._hosts.hosts()
        return {"rotations": [self._doc(type, hosts) for type in types]}

    def _step(self, type: CaType, phase: Phase | None, asked: RotateCa, grace: timedelta) -> Step:
        rotation, cas = self._cas.view.rotations[type], self._cas.view.of(type)
        now = self._clock.now()
        if phase is None or phase is Phase.INIT:
            fresh = new_ca(type, cluster=self._cas.cluster, id=self._chance.uuid(), now=now)
            id = self._chance.uuid()
            if grace == timedelta():
                return at_once(rotation, fresh, cas[0], id=id, now=now)
            return begin(rotation, fresh, cas[0], id=id, manual=asked.manual, grace=grace, now=now)
        check_step(rotation, phase)
        if phase is Phase.STANDBY and not asked.force:
            self._check_nobody_is_behind(rotation)
        manual = rotation.manual or asked.manual
        return advance(rotation, cas, phase, manual=manual, now=now)

    def _check_nobody_is_behind(self, rotation: Rotation) -> None:
        """Raises Conflict. Who misses an earlier phase catches up; who misses this one is out."""
        missing = self.progress(rotation.type).waiting
        if missing:
            raise Conflict(
                f"{len(missing)} of the hosts that are online have not caught up with phase "
                f"{rotation.phase} of the {rotation.type} CA: {named(missing)}",
                hint="tctl auth rotate --watch shows who is missing; --force leaves them behind",
            )

    def _take(self, step: Step, tx: Tx) -> None:
        step.take(tx)
        facts = {"types": step.rotation.type.value, "phase": step.rotation.phase.value}
        facts |= {"user": BY_ITSELF, **_facts([step])}
        tx.record(
            Event(
                kind="cert_authority.rotate",
                code=OK,
                at=self._clock.now(),
                outcome="ok",
                facts=facts,
            )
        )

    def _send_away(self) -> None:
        """Those whose certificate, or what they have renewed to on their stream, is of a host CA
        that is trusted no more. What a host says of itself counts for nothing here."""
        view = self._cas.view
        rotation = view.rotations[CaType.HOST]
        if runs(rotation) or not rotation.retired:
            return
        trusted = {keys.id for keys in view.of(CaType.HOST)}
        why = missed(rotation)
        for live in self._hosts.streams():
            if live.ca not in trusted:
                log.warning("host %s was left behind: %s", live.host_id, why.message)
                self._hosts.cut(live.host_id, why.message, why.hint)

    def _doc(self, type: CaType, hosts: Sequence[tuple[Host, Report]]) -> dict[str, Any]:
        rotation = self._cas.view.rotations[type]
        running = runs(rotation)
        return {
            "type": type.value,
            "phase": rotation.phase.value,
            "id": rotation.id,
            "mode": ("manual" if rotation.manual else "automatic") if running else "",
            "started": moment(rotation.started_at) if running else None,
            "phase_since": moment(rotation.phase_since) if running else None,
            "grace_seconds": round(rotation.grace) if running else 0,
            "due": moment(due_at(rotation)),
            "ends": moment(ends_at(rotation)),
            "last_rotated": moment(rotation.last_rotated),
            "next": [each.value for each, sources in FROM.items() if rotation.phase in sources],
            "pins": self._cas.pins(type),
            "hosts": self._progress(type, hosts).doc(),
        }

    def _progress(
        self, type: CaType, hosts: Sequence[tuple[Host, Report]], *, restarts: bool = False
    ) -> Progress:
        rotation, now = self._cas.view.rotations[type], self._clock.now()
        return progress(rotation, hosts, now, awaited=self._awaited, restarts=restarts)


def missed(rotation: Rotation) -> Denied:
    """What a host hears that was away, or behind, when the old CA was retired."""
    when = rotation.phase_since
    return Denied(
        f"the {rotation.type} CA was rotated on {stamp(when)} while this host was away",
        hint=REJOIN,
    )


def retired(rotation: Rotation, *, log: str = "") -> Denied:
    """For a certificate that was good until its CA was retired."""
    when, type = stamp(rotation.phase_since), rotation.type
    hint = REJOIN if type is CaType.HOST else "tsh login, or tctl auth sign"
    return Denied(f"the {type} CA of this certificate was rotated on {when}", hint=hint, log=log)


def stamp(when: datetime | None) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC" if when else "a day unknown"


def _types(words: Sequence[str]) -> tuple[CaType, ...]:
    """Without repetitions. Raises Malformed."""
    there_are = ", ".join((*CaType, ALL))
    if not words:
        raise Malformed("type of the CA is missing", hint=f"--type one of {there_are}")
    if ALL in words:
        return tuple(CaType)
    for word in words:
        if word not in [each.value for each in CaType]:
            raise Malformed(f"CA type {word[:40]!a} does not exist", hint=f"one of {there_are}")
    return tuple(dict.fromkeys(CaType(word) for word in words))


def _phase(asked: RotateCa) -> Phase | None:
    if not asked.phase:
        return None
    if asked.phase not in [each.value for each in Phase]:
        raise Malformed(
            f"phase {asked.phase[:40]!a} does not exist", hint=f"one of {', '.join(Phase)}"
        )
    return Phase(asked.phase)


def _grace(text: str) -> timedelta:
    grace = timedelta() if text == "0" else parse_duration(text, "grace period")
    if not timedelta() <= grace <= MAX_GRACE:
        raise Malformed("grace period must be between 0s and 365 days")
    return grace


def _facts(steps: Sequence[Step]) -> dict[str, str]:
    modes = {"manual" if step.rotation.manual else "automatic" for step in steps}
    return {
        "phase": ",".join(dict.fromkeys(step.rotation.phase.value for step in steps)),
        "mode": ",".join(sorted(modes)),
        "rotation_ids": ",".join(step.rotation.id for step in steps),
    }
