"""Who is there: streams of agents, what they report, and what they are told.

What hosts report lives in memory and is flushed in batches; losing the last seconds of it costs
a beat. What a host *is* was written durably when it joined.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from teleport_lite.ambient import Clock
from teleport_lite.errors import Malformed
from teleport_lite.model.host import BEAT_EVERY, LOCAL, Host, Report, Resource
from teleport_lite.model.labels import check_labels
from teleport_lite.model.names import RESOURCE_NAME, checked
from teleport_lite.proto.stream import Announced, Beat
from teleport_lite.store.protocols import Store, Tx

# A second stream for a host whose first one beat this recently is a clone, not a restart.
SURELY_ALIVE = BEAT_EVERY * 2
# A name or an IP address, and a port.
ADDRESS = re.compile(r"[A-Za-z0-9.:\[\]-]{1,262}")


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
        self._guard = threading.Lock()  # guards the three below
        self._live: dict[str, Live] = {}
        self._reports: dict[str, Report] = {}
        self._dirty: set[str] = set()

    def arrive(self, live: Live) -> Live | None:
        """Register a stream. Returns the other one if this host is connected already.

        One that was silent for long, or is an older one of the same process, is cut instead.
        """
        with self._guard:
            other = self._live.get(live.host_id)
            if other and other.boot_id != live.boot_id and self._fresh(other):
                return other
            self._live[live.host_id] = live
            old = self._reports.get(live.host_id, Report())
            self._note(
                live.host_id,
                replace(old, version=live.version, last_seen=self._clock.now(), gone=False),
            )
        if other:
            other.cut("this host has connected anew")
        return None

    def beat(self, live: Live, beat: Beat, kinds: frozenset[str]) -> float:
        """Take a heartbeat; returns how many seconds the host's clock is ahead of ours.

        Raises Malformed for what people should not find in a listing, and for resources of
        other than `kinds`.
        """
        now = self._clock.now()
        skew = beat.time - now.timestamp()
        report = Report(
            version=live.version,
            address=_address(beat.address),
            labels=check_labels(beat.labels),
            resources=tuple(_resource(each, kinds) for each in beat.resources),
            last_seen=now,
            skew=skew,
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

    def tell_everybody(self) -> None:
        """CAs, roles or locks have changed."""
        with self._guard:
            streams = list(self._live.values())
        for live in streams:
            live.push()

    def cut(self, host_id: str, why: str) -> None:
        with self._guard:
            live = self._live.get(host_id)
        if live:
            live.cut(why)

    def hosts(self) -> list[tuple[Host, Report]]:
        """Everybody who ever joined, with the freshest report."""
        kept = self._store.hosts()
        with self._guard:
            return [(host, self._reports.get(host.id, report)) for host, report in kept]

    def forget(self, host_id: str) -> None:
        with self._guard:
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

    def _fresh(self, live: Live) -> bool:
        return self._clock.now() - live.last_beat < SURELY_ALIVE

    def _note(self, host_id: str, report: Report) -> None:
        self._reports[host_id] = report
        self._dirty.add(host_id)


def _address(text: str) -> str:
    return checked(ADDRESS, text, "address", example="10.0.0.5:3022") if text else ""


def _resource(said: Announced, kinds: frozenset[str]) -> Resource:
    if said.kind not in kinds:
        raise Malformed(f"a host with these roles can not announce {said.kind[:40]!a}")
    for key, value in said.spec.items():
        if not (key.isprintable() and value.isprintable()):
            raise Malformed(f"{said.kind}: spec must be printable text")
    return Resource(
        kind=said.kind,
        name=checked(RESOURCE_NAME, said.name, f"{said.kind} name", example="grafana"),
        labels=check_labels(said.labels),
        spec=dict(said.spec),
    )
