"""One stream of a host, and what of its report counts for whom."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from teleport_lite.errors import Error
from teleport_lite.model.host import BEAT_EVERY, Host, Report

# A second stream for a host whose first one beat this recently is a clone, not a restart.
SURELY_ALIVE = BEAT_EVERY * 2
# Nobody dials a proxy that was silent for this long: two beats are missing.
PROXY_SILENCE = timedelta(seconds=30)
# What another auth server has heard is here later, and by another clock.
HEARSAY = timedelta(seconds=15)
# After a start of auth, proxies that were there before it get this long to come back: agents
# wait up to 30 s between two tries. Else every tunnel would be taken down for our restart.
GRACE = timedelta(seconds=60)


@dataclass(slots=True)
class Live:
    """One open stream."""

    host_id: str
    boot_id: str
    address: str
    version: str
    push: Callable[[], None]
    cut: Callable[[str], None]
    last_beat: datetime
    arrived: datetime | None = None  # set by `Presence.arrive`
    ca: str = ""  # id of the host CA that has issued its certificate, or renewed it on this stream
    refuse: Callable[[Error], None] | None = None  # `cut` with more to say
    over: bool = False  # was cut: what it still says does not count


def news(report: Report) -> tuple[object, ...]:
    """What other auth servers should know before the next flush."""
    where = report.proxy, report.auth, report.via, report.boot_id
    return (*way_to(report), *where, report.sessions, report.other_life)


def not_said(report: Report, before: Report) -> Report:
    """With what is known of a host otherwise than by its beats."""
    return replace(
        report,
        sessions=before.sessions,
        other_life=before.other_life,
        other_at=before.other_at,
    )


def way_to(report: Report) -> tuple[object, ...]:
    """What decides how, and whether, a host is reached."""
    return report.address, report.tunnels, report.labels, report.gone


def later(report: Report, live: Live, *, me: str) -> bool:
    """Was its stream opened after this one, which is at `me`? At the same time the name counts."""
    assert live.arrived is not None
    return (report.arrived or live.arrived, report.via) > (live.arrived, me)


def proxies_before(hosts: list[tuple[Host, Report]]) -> dict[str, Report]:
    """The proxies that were alive when auth was last seen writing; it writes every few seconds."""
    seen = [report.last_seen for _, report in hosts if report.last_seen is not None]
    if not seen:
        return {}
    since = max(seen) - PROXY_SILENCE
    return {
        host.id: report
        for host, report in hosts
        if report.proxy is not None and report.last_seen is not None and report.last_seen > since
    }
