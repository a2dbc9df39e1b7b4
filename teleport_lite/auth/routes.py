"""What proxies are told of the nodes: all of them once, then what changes, at most once a second.

A proxy that has heard it goes on finding nodes while auth is away.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from threading import Lock
from typing import Protocol

from teleport_lite.ambient import Clock
from teleport_lite.model.host import Host, Presence, Report, presence
from teleport_lite.model.system_role import NODE
from teleport_lite.proto.codec import write
from teleport_lite.proto.resource import moment
from teleport_lite.proto.stream import Route, Routes

# Hosts in one frame: at most this many, and no more bytes than leave room in a frame of 1 MiB.
CHUNK, CHUNK_BYTES = 500, 512 * 1024
# Hosts fall silent without a word; this often we look who has. Stale is 33 s, offline 2 min.
LOOK_EVERY = 5.0

Tell = Callable[[Routes], None]


class Hosts(Protocol):
    """auth/hosts.py, as far as it is asked here."""

    def hosts(self) -> list[tuple[Host, Report]]: ...
    def host(self, host_id: str) -> tuple[Host, Report] | None: ...
    def reports(self) -> dict[str, Report]: ...
    def moved(self) -> set[str]: ...


class Board:
    """What all readers know is the same: `_shown`. Safe from several threads."""

    def __init__(self, *, clock: Clock, hosts: Hosts) -> None:
        self._clock, self._hosts = clock, hosts
        self._guard = Lock()  # guards what is below; taken before the lock of `hosts`
        self._readers: dict[object, Tell] = {}
        self._shown: dict[str, Route] = {}
        self._reports: dict[str, Report] = {}  # behind `_shown`
        self._owed: set[str] = set()  # hosts that have moved, and readers do not know yet
        self._look_at = 0.0

    def follow(self, tell: Tell) -> Callable[[], None]:
        """Tell everything now and changes from then on. Call what is returned to end it.

        `tell` returns at once. A stream holds 64 frames that wait, so 30,000 nodes at the most.
        """
        key = object()
        with self._guard:
            if not self._readers:
                self._begin()
            for number, hosts in enumerate(chunks(self._shown.values()) or [[]]):
                tell(Routes(first=number == 0, hosts=hosts))
            self._readers[key] = tell
        return lambda: self._leave(key)

    def tick(self) -> None:
        """Tell what has changed. For a chore that runs once a second."""
        with self._guard:
            self._owed |= self._hosts.moved()
            if not self._readers:
                self._owed.clear()
                return
            changed, gone = self._look_at_moved()
            changed |= self._look_at_silent()
            frames = [Routes(first=False, hosts=hosts) for hosts in chunks(changed.values())]
            if gone:
                frames.append(Routes(first=False, gone=gone))
            for tell in self._readers.values():
                for frame in frames:
                    tell(frame)

    def readers(self) -> int:
        return len(self._readers)

    def _leave(self, key: object) -> None:
        with self._guard:
            self._readers.pop(key, None)

    def _begin(self) -> None:
        """Nobody listened until now, so nothing was kept up to date."""
        now = self._clock.now()
        self._hosts.moved()
        nodes = [(host, report) for host, report in self._hosts.hosts() if NODE in host.roles]
        self._shown = {host.id: route(host, report, now) for host, report in nodes}
        self._reports = {host.id: report for host, report in nodes}
        self._look_at = self._clock.monotonic() + LOOK_EVERY

    def _look_at_moved(self) -> tuple[dict[str, Route], list[str]]:
        """Asks for all of them first: if the store is away, they are owed until it is back."""
        now, found = (
            self._clock.now(),
            {each: self._hosts.host(each) for each in sorted(self._owed)},
        )
        self._owed.clear()
        changed: dict[str, Route] = {}
        gone: list[str] = []
        for host_id, known in found.items():
            if known is None or NODE not in known[0].roles:
                self._reports.pop(host_id, None)
                if self._shown.pop(host_id, None) is not None:
                    gone.append(host_id)
                continue
            self._reports[host_id] = known[1]
            self._show(route(*known, now), changed)
        return changed, gone

    def _look_at_silent(self) -> dict[str, Route]:
        changed: dict[str, Route] = {}
        if self._clock.monotonic() < self._look_at:
            return changed
        self._look_at = self._clock.monotonic() + LOOK_EVERY
        now, fresh = self._clock.now(), self._hosts.reports()
        for host_id, before in self._shown.items():
            report = self._reports[host_id] = fresh.get(host_id, self._reports[host_id])
            if presence(report, now).value != before.state:
                changed[host_id] = _with_state(before, report, now)
        self._shown |= changed
        return changed

    def _show(self, now_known: Route, changed: dict[str, Route]) -> None:
        if self._shown.get(now_known.id) != now_known:
            changed[now_known.id] = self._shown[now_known.id] = now_known


def route(host: Host, report: Report, now: datetime) -> Route:
    bare = Route(
        id=host.id,
        name=host.name,
        address=report.address,
        labels=report.labels,
        tunnels=list(report.tunnels),
    )
    return _with_state(bare, report, now)


def _with_state(bare: Route, report: Report, now: datetime) -> Route:
    """When it was last seen is told of those that are missed only: else it would never rest."""
    state = presence(report, now)
    online = state is Presence.ONLINE
    return Route(
        id=bare.id,
        name=bare.name,
        address=bare.address,
        labels=bare.labels,
        tunnels=bare.tunnels,
        state=state.value,
        last_seen="" if online else moment(report.last_seen) or "",
    )


def chunks(routes: Iterable[Route]) -> list[list[Route]]:
    return list(_chunks(routes))


def _chunks(routes: Iterable[Route]) -> Iterator[list[Route]]:
    chunk: list[Route] = []
    size = 0
    for each in routes:
        length = len(write(each))
        if chunk and (len(chunk) >= CHUNK or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += length
    if chunk:
        yield chunk
