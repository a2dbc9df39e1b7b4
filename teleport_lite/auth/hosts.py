"""Who is there: streams of agents, what they report, and what they are told.

What hosts report lives in memory and is flushed in batches; losing the last seconds of it costs
a beat. What a host *is* was written durably when it joined.
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from teleport_lite.ambient import Clock
from teleport_lite.errors import Malformed
from teleport_lite.model.host import BEAT_EVERY, LOCAL, Host, Place, Report, Resource
from teleport_lite.model.labels import check_labels
from teleport_lite.model.names import RESOURCE_NAME, UUID, checked
from teleport_lite.proto.stream import Announced, Beat, ProxyPlace
from teleport_lite.store.protocols import Store, Tx

# A second stream for a host whose first one beat this recently is a clone, not a restart.
SURELY_ALIVE = BEAT_EVERY * 2
# A name or an IP address, and a port.
ADDRESS = re.compile(r"[A-Za-z0-9.:\[\]-]{1,262}")
# Nobody dials a proxy that was silent for this long: two beats are missing.
PROXY_SILENCE = timedelta(seconds=30)
# After a start of auth, proxies that were there before it get this long to come back: agents
# wait up to 30 s between two tries. Else every tunnel would be taken down for our restart.
GRACE = timedelta(seconds=60)
# A host has a tunnel to every proxy; a proxy has a few names.
MAX_TUNNELS = 256
MAX_ADDRESSES = 32


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


class Presence:
    """Streams and reports by host. Safe from several threads."""

    def __init__(self, *, clock: Clock, store: Store) -> None:
        self._clock, self._store = clock, store
        self._guard = threading.Lock()  # guards the five below
        self._live: dict[str, Live] = {}
        self._reports: dict[str, Report] = _proxies_before(store.hosts())
        self._dirty: set[str] = set()
        self._moved: set[str] = set()
        self._awaited = set(self._reports)
        self._grace_ends = clock.monotonic() + GRACE.total_seconds()

    def arrive(self, live: Live) -> Live | None:
        """Register a stream. Returns the other one if this host is connected already.

        One that was silent for long, or is an older one of the same process, is cut instead.
        """
        kept = None if live.host_id in self._reports else self._store.host(live.host_id)
        with self._guard:
            other = self._live.get(live.host_id)
            if other and other.boot_id != live.boot_id and self._fresh(other):
                return other
            self._live[live.host_id] = live
            self._awaited.discard(live.host_id)
            old = self._reports.get(live.host_id, kept[1] if kept else Report())
            self._note(
                live.host_id,
                replace(old, version=live.version, last_seen=self._clock.now(), gone=False),
            )
        if other:
            other.cut("this host has connected anew")
        return None

    def beat(
        self, live: Live, beat: Beat, kinds: frozenset[str], *, is_proxy: bool = False
    ) -> float:
        """Take a heartbeat; returns how many seconds the host's clock is ahead of ours.

        Resources of other than `kinds` are passed over: a later version may announce more. Raises
        Malformed for what people should not find in a listing, and for the place of a proxy from
        a host that is none.
        """
        if beat.proxy is not None and not is_proxy:
            raise Malformed("a host without role Proxy can not be reached as a proxy")
        now = self._clock.now()
        skew = beat.time - now.timestamp()
        report = Report(
            version=live.version,
            address=_address(beat.address),
            labels=check_labels(beat.labels),
            resources=tuple(_resource(each) for each in beat.resources if each.kind in kinds),
            last_seen=now,
            skew=skew,
            tunnels=_tunnels(beat.tunnels),
            proxy=_place(beat.proxy) if beat.proxy else None,
        )
        with self._guard:
            live.last_beat = now
            self._note(live.host_id, report)
        return skew

    def leave(self, live: Live, *, said_goodbye: bool) -> None:
        with self._guard:
            if self._live.get(live.host_id) is not live:
                return
            del self._live[live.host_id]
            if said_goodbye and live.host_id in self._reports:
                self._note(live.host_id, replace(self._reports[live.host_id], gone=True))

    def proxies(self) -> list[ProxyPlace]:
        """The proxies that are alive, by id. One that said goodbye is not, nor a silent one."""
        now = self._clock.now()
        with self._guard:
            alive = [
                (host_id, report.proxy)
                for host_id, report in sorted(self._reports.items())
                if report.proxy is not None and self._is_alive(host_id, report, now)
            ]
        found: list[ProxyPlace] = []
        for host_id, place in alive:
            known = self._store.host(host_id)
            if known is not None:
                found.append(_shown(known[0], place))
        return found

    def moved(self) -> set[str]:
        """Hosts that came, went, or are reached in another way since this was last asked."""
        with self._guard:
            moved, self._moved = self._moved, set()
        return moved

    def tell_everybody(self) -> None:
        """CAs, roles, locks or proxies have changed."""
        with self._guard:
            streams = list(self._live.values())
        for live in streams:
            live.push()

    def cut(self, host_id: str, why: str) -> None:
        """End its stream. It counts as gone from now on, not after a silence."""
        with self._guard:
            live = self._live.get(host_id)
            if host_id in self._reports:
                self._note(host_id, replace(self._reports[host_id], gone=True))
        if live:
            live.cut(why)

    def hosts(self) -> list[tuple[Host, Report]]:
        """Everybody who ever joined, with the freshest report."""
        kept = self._store.hosts()
        with self._guard:
            return [(host, self._reports.get(host.id, report)) for host, report in kept]

    def host(self, host_id: str) -> tuple[Host, Report] | None:
        """One of `hosts`; None if it is not part of the cluster."""
        kept = self._store.host(host_id)
        with self._guard:
            return (kept[0], self._reports.get(host_id, kept[1])) if kept else None

    def reports(self) -> dict[str, Report]:
        """By host, of those that were heard of since auth started."""
        with self._guard:
            return dict(self._reports)

    def forget(self, host_id: str) -> None:
        with self._guard:
            self._moved.add(host_id)
            self._reports.pop(host_id, None)
            self._dirty.discard(host_id)

    def flush(self) -> int:
        """Write what has changed since the last call; the daemon calls this every few seconds."""
        with self._guard:
            changed = [(host_id, self._reports[host_id]) for host_id in self._dirty]
            self._dirty.clear()

        def put(tx: Tx) -> None:
            for host_id, report in changed:
                tx.put_report(host_id, report)

        if changed:
            self._store.write(put)
        return len(changed)

    def retire(self, after: timedelta) -> list[str]:
        """Remove hosts that nobody has seen for `after`. Returns their UUIDs.

        Not the auth host itself: where auth runs alone it has no agent that would beat.
        """
        limit = self._clock.now() - after
        old = [
            host.id
            for host, report in self.hosts()
            if max(host.joined_at, report.last_seen or host.joined_at) < limit
            and host.token_id != LOCAL
        ]
        for host_id in old:
            self._store.write(lambda tx, gone=host_id: tx.remove_host(gone))  # type: ignore[misc]  # mypy can not infer a lambda with a default
            self.forget(host_id)
        return old

    def connected(self) -> int:
        with self._guard:
            return len(self._live)

    def versions(self) -> dict[str, int]:
        """How many of the connected hosts run which version."""
        with self._guard:
            return dict(Counter(live.version for live in self._live.values()))

    def _fresh(self, live: Live) -> bool:
        return self._clock.now() - live.last_beat < SURELY_ALIVE

    def _is_alive(self, host_id: str, report: Report, now: datetime) -> bool:
        if report.gone or report.last_seen is None:
            return False
        awaited = host_id in self._awaited and self._clock.monotonic() < self._grace_ends
        return awaited or now - report.last_seen < PROXY_SILENCE

    def _note(self, host_id: str, report: Report) -> None:
        old = self._reports.get(host_id)
        if old is None or _way(old) != _way(report):
            self._moved.add(host_id)
        self._reports[host_id] = report
        self._dirty.add(host_id)


def _way(report: Report) -> tuple[object, ...]:
    """What decides how, and whether, a host is reached."""
    return report.address, report.tunnels, report.labels, report.gone


def _proxies_before(hosts: list[tuple[Host, Report]]) -> dict[str, Report]:
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


def _address(text: str) -> str:
    return checked(ADDRESS, text, "address", example="10.0.0.5:3022") if text else ""


def _addresses(said: Sequence[str]) -> tuple[str, ...]:
    if len(said) > MAX_ADDRESSES:
        raise Malformed(f"{len(said)} addresses of a proxy, the most is {MAX_ADDRESSES}")
    return tuple(_address(each) for each in said if each)


def _tunnels(said: Sequence[str]) -> tuple[str, ...]:
    if len(said) > MAX_TUNNELS:
        raise Malformed(f"{len(said)} tunnels of a host, the most is {MAX_TUNNELS}")
    example = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
    return tuple(sorted({checked(UUID, each, "proxy id", example=example) for each in said}))


def _place(said: ProxyPlace) -> Place:
    """Who it is, `id` and `name`, comes from its certificate and not from its words."""
    return Place(
        address=_address(said.address),
        public=_addresses(said.public),
        tunnel_public=_addresses(said.tunnel_public),
        ssh_public=_addresses(said.ssh_public),
    )


def _shown(host: Host, place: Place) -> ProxyPlace:
    return ProxyPlace(
        id=host.id,
        name=host.name,
        address=place.address,
        public=list(place.public),
        tunnel_public=list(place.tunnel_public),
        ssh_public=list(place.ssh_public),
    )


def _resource(said: Announced) -> Resource:
    for key, value in said.spec.items():
        if not (key.isprintable() and value.isprintable()):
            raise Malformed(f"{said.kind}: spec must be printable text")
    return Resource(
        kind=said.kind,
        name=checked(RESOURCE_NAME, said.name, f"{said.kind} name", example="grafana"),
        labels=check_labels(said.labels),
        spec=dict(said.spec),
    )
