"""Which nodes there are, and which one is meant.

Auth tells proxies in Routes frames. What was last told is kept in a file, so that a proxy that
starts while auth is away still finds its way.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from teleport_lite.ambient import Clock
from teleport_lite.errors import Conflict, Error, Malformed, NotFound
from teleport_lite.model.labels import Labels, parse_labels
from teleport_lite.model.names import UUID
from teleport_lite.pki.keyfile import read_secret, write_secret
from teleport_lite.proto.codec import Statement, read, write
from teleport_lite.proto.stream import Route, Routes

FILE = "routes.json"
# 20,000 nodes with a kilobyte of labels each.
MAX_SIZE = 32 << 20
# Older words about the network are worth less than none.
MAX_AGE = 24 * 3600.0
# One write for a burst of changes ...
_DEBOUNCE = 5.0
# ... and one now and then without any, so that the age of the file is that of our last day.
_REFRESH = 3600.0
# A first frame is followed by the rest, 500 nodes a second; until then the old ones are good.
_LEFTOVERS = 60.0
_SHOWN = 8
_NEAR = 3
# difflib compares letter by letter.
_MOST_COMPARED = 200

_log = logging.getLogger("teleport_lite.proxy")
Sees = Callable[[Route], bool]


class _Kept(Statement, frozen=True):
    saved_at: float  # Unix seconds
    hosts: list[Route]


class RouteTable:
    """All nodes of `cluster`. In a running event loop it saves itself; `close` writes the last."""

    def __init__(self, data_dir: Path, *, clock: Clock, cluster: str) -> None:
        self._path, self._clock = data_dir / FILE, clock
        self._suffix = f".{cluster.lower()}"
        self._by_id: dict[str, Route] = {}
        self._by_name: defaultdict[str, set[str]] = defaultdict(set)
        self._leftovers: set[str] = set()
        self._leftovers_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._saving: asyncio.Task[None] | None = None
        self._closed = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._load()

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, host_id: str) -> Route | None:
        return self._by_id.get(host_id)

    def apply(self, routes: Routes) -> None:
        """What auth says. After a first frame the nodes known before go as the rest arrives."""
        self._drop_leftovers()
        if routes.first:
            self._leftovers = set(self._by_id)
            self._leftovers_until = self._clock.monotonic() + _LEFTOVERS
        for route in routes.hosts:
            self._leftovers.discard(route.id)
            self._put(route)
        for host_id in routes.gone:
            self._drop(host_id)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._save_in(_DEBOUNCE)

    async def changed(self, seconds: float) -> bool:
        """Wait that long for the next word from auth; False if there was none."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=max(0.0, seconds))
            return waiter.done()
        finally:
            self._waiters.discard(waiter)

    def find(self, host: str, sees: Sees, *, most: int = 255) -> Route:
        """The one node that `host` means: a name, a UUID, `name.cluster`, or labels `k=v,k2=v2`.

        Letters count in neither case: OpenSSH's client makes host names lower-case. Only nodes
        that the caller `sees` are found or named; the rest is as if it were not there. Raises
        NotFound, Conflict if there are several, or Malformed.
        """
        if not host or len(host) > most or not host.isprintable():
            raise Malformed(f"node {host[:64]!a} is not a name", hint="tsh ls")
        self._drop_leftovers()
        if "=" in host:
            return self._only(host, self._by_labels(host, sees))
        name = host.lower().rstrip(".")
        for each in (name, name.removesuffix(self._suffix)):
            found = [route for route in self._called(each) if sees(route)]
            if found:
                return self._only(host, found)
        raise self._unknown(name.removesuffix(self._suffix), host, sees)

    async def close(self) -> None:
        """What is told from now on, to a process that stays behind, is not for the file: the next
        process writes it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._saving is not None:
            await self._saving
        await asyncio.to_thread(self._save, self._snapshot())

    # --- finding

    def _called(self, name: str) -> Iterable[Route]:
        if UUID.fullmatch(name):
            return filter(None, (self._by_id.get(name),))
        return [self._by_id[each] for each in sorted(self._by_name.get(name, ()))]

    def _by_labels(self, text: str, sees: Sees) -> list[Route]:
        """As they are written, or else in any case of letters."""
        wanted = parse_labels(text)
        folded = _folded(wanted).items()
        alike = [each for each in self._by_id.values() if folded <= _folded(each.labels).items()]
        seen = [route for route in alike if sees(route)]
        return [each for each in seen if wanted.items() <= each.labels.items()] or seen

    def _only(self, host: str, found: list[Route]) -> Route:
        if not found:
            raise NotFound(f"no node that you may reach has the labels {host}", hint="tsh ls")
        if len(found) == 1:
            return found[0]
        shown = "; ".join(_shown(route) for route in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise Conflict(
            f"{host} can mean {len(found)} nodes: {shown}{more}",
            hint=f"use the UUID: ssh {found[0].id}",
        )

    def _unknown(self, name: str, host: str, sees: Sees) -> NotFound:
        """One sentence for what is not there and for what they may not know of."""
        alike = (each for each in self._by_name if each[:1] == name[:1])
        near = get_close_matches(name, islice(alike, _MOST_COMPARED), n=2 * _NEAR)
        seen = [each for each in near if any(map(sees, self._called(each)))][:_NEAR]
        meant = f", did you mean {' or '.join(seen)}" if seen else ""
        return NotFound(f"there is no node {host} that you may reach{meant}", hint="tsh ls")

    # --- keeping

    def _put(self, route: Route) -> None:
        self._drop(route.id)
        self._by_id[route.id] = route
        self._by_name[route.name.lower()].add(route.id)

    def _drop(self, host_id: str) -> None:
        route = self._by_id.pop(host_id, None)
        if route is not None:
            name = route.name.lower()
            self._by_name[name].discard(host_id)
            if not self._by_name[name]:
                del self._by_name[name]

    def _drop_leftovers(self) -> None:
        if self._leftovers and self._clock.monotonic() >= self._leftovers_until:
            for host_id in self._leftovers:
                self._drop(host_id)
            self._leftovers = set()

    def _load(self) -> None:
        try:
            kept = read(_Kept, read_secret(self._path, limit=MAX_SIZE), limit=MAX_SIZE)
        except NotFound:
            return
        except Error as why:  # it is only a copy of what auth will tell us
            _log.warning("routes of the last time are not used: %s", why.message)
            return
        age = self._clock.now().timestamp() - kept.saved_at
        if not -_REFRESH <= age <= MAX_AGE:
            _log.warning("routes of the last time are not used: they are %d h old", age // 3600)
            return
        for route in kept.hosts:
            self._put(route)

    def _save_in(self, seconds: float) -> None:
        """Never later than a save that is planned already."""
        if self._closed:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # nobody runs us; `close` saves
        if self._timer is not None and not self._timer.cancelled():
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._begin_to_save)

    def _begin_to_save(self) -> None:
        self._timer = None
        if self._saving is not None and not self._saving.done():
            self._save_in(_DEBOUNCE)  # a slow disk: it is not writing what has changed since
            return
        save = asyncio.to_thread(self._save, self._snapshot())
        self._saving = asyncio.get_running_loop().create_task(save, name="save routes")
        self._save_in(_REFRESH)

    def _snapshot(self) -> _Kept:
        saved_at = self._clock.now().timestamp()
        return _Kept(saved_at=saved_at, hosts=list(self._by_id.values()))

    def _save(self, kept: _Kept) -> None:
        """In a thread: it waits for the disk."""
        try:
            write_secret(self._path, write(kept))
        except Error as why:
            _log.warning("routes can not be saved: %s", why.message)


def _folded(labels: Labels) -> dict[str, str]:
    return {key.casefold(): value.casefold() for key, value in labels.items()}


def _shown(route: Route) -> str:
    """UUID, and what tells it from the others."""
    labels = ",".join(f"{key}={value[:32]}" for key, value in islice(route.labels.items(), 4))
    where = route.address or "tunnel"
    return f"{route.id} ({', '.join(filter(None, (route.name, where, labels)))})"
