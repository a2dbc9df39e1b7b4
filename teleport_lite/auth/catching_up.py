"""Who has caught up with the phase of a rotation, who is waited for, and who is away."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from teleport_lite.ambient import Clock
from teleport_lite.auth.phases import concerns_hosts, runs, safe_marks
from teleport_lite.model.host import OFFLINE_AFTER, Host, Presence, Report, presence
from teleport_lite.model.rotation import Rotation
from teleport_lite.model.system_role import BOT
from teleport_lite.proto.resource import moment

# Bots have no stream. One that has not renewed for as long as its certificate lasts is no more.
BOT_SILENCE = timedelta(hours=1)
# Of those that are missing, so many are named.
NAMED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A host or bot that has not caught up."""

    id: str
    name: str
    state: str  # of model/host.py
    version: str
    last_seen: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    present: int  # that can be waited for: online, or stale
    waiting: tuple[Missing, ...]  # those of them that are behind
    away: tuple[Missing, ...]  # offline, and without what the survivor has signed, or will
    offline: int = 0  # with or without

    @property
    def updated(self) -> int:
        return self.present - len(self.waiting)

    def doc(self) -> dict[str, Any]:
        return {
            "present": self.present,
            "updated": self.updated,
            "waiting": [_doc(each) for each in self.waiting[:NAMED]],
            "away": [_doc(each) for each in self.away[:NAMED]],
            "away_count": len(self.away),
            "offline": self.offline,
        }


class Awaited:
    """Hosts that were there when auth was last there itself. After an outage of auth everybody
    looks as if it were offline; who does is given as long as a host that falls silent."""

    def __init__(self, hosts: Iterable[tuple[Host, Report]], clock: Clock) -> None:
        there = [
            (host.id, report.last_seen)
            for host, report in hosts
            if report.last_seen is not None and not report.gone
        ]
        latest = max((seen for _, seen in there), default=None)
        self._seen = {id: seen for id, seen in there if latest and latest - seen < OFFLINE_AFTER}
        self._clock = clock
        self._until = clock.monotonic() + OFFLINE_AFTER.total_seconds()

    def __call__(self, host_id: str, report: Report) -> bool:
        """Has it not been heard of since auth started?"""
        seen = self._seen.get(host_id)
        is_early = seen is not None and self._clock.monotonic() < self._until
        return is_early and not report.gone and report.last_seen == seen


def progress(
    rotation: Rotation,
    hosts: Iterable[tuple[Host, Report]],
    now: datetime,
    *,
    awaited: Callable[[str, Report], bool] = lambda *_: False,
    restarts: bool = False,
) -> Progress:
    """Of the phase that runs, or of the rotation that ran last: then nobody is waited for. With
    CAs that hosts never see, nobody is missing.

    Who is `awaited` counts as present; with `restarts`, so does who said goodbye a moment ago.
    """
    if not concerns_hosts(rotation.type):
        return Progress(present=0, waiting=(), away=())
    present, offline = 0, 0
    waiting, away = list[Missing](), list[Missing]()
    safe, running = safe_marks(rotation), runs(rotation)
    for host, report in hosts:
        is_bot = host.roles == (BOT,)
        said = replace(report, gone=False) if restarts else report
        state = _bot_state(report, now) if is_bot else presence(said, now)
        if state is Presence.OFFLINE and not is_bot and awaited(host.id, report):
            state = Presence.STALE
        mark = report.rotated.get(rotation.type, "")
        if state is not Presence.OFFLINE:
            present += 1
            # Bots come every twenty minutes; that they have what a phase brings is enough.
            behind = mark != rotation.mark and not (is_bot and mark in safe)
            if running and behind:
                waiting.append(_missing(host, report, state))
        elif report.last_seen is not None and not is_bot:
            offline += 1
            if rotation.id and mark not in safe:
                away.append(_missing(host, report, state))
    return Progress(present=present, waiting=tuple(waiting), away=tuple(away), offline=offline)


def named(missing: Iterable[Missing], most: int = 5) -> str:
    """web-1, web-2 and 3 more"""
    names = [each.name for each in missing]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _bot_state(report: Report, now: datetime) -> Presence:
    seen = report.last_seen
    return Presence.OFFLINE if seen is None or now - seen > BOT_SILENCE else Presence.ONLINE


def _missing(host: Host, report: Report, state: Presence) -> Missing:
    return Missing(
        id=host.id,
        name=host.name,
        state=state.value,
        version=report.version,
        last_seen=report.last_seen,
    )


def _doc(missing: Missing) -> dict[str, Any]:
    return {
        "id": missing.id,
        "name": missing.name,
        "state": missing.state,
        "version": missing.version,
        "last_seen": moment(missing.last_seen),
    }
