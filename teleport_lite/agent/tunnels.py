"""Which proxies to dial, where, and when. Pure decisions: nothing here waits or connects.

Every live proxy gets exactly one tunnel. A proxy is dialled at its own address, where that can be
reached, else at an address that several share; the server name in the first packet says which
of them is meant, and the others pass us on. So it does not matter how a balancer chooses.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from teleport_lite.ambient import Chance
from teleport_lite.proto.stream import ProxyPlace

# Seconds for a connection. Its own address often can not be reached from here, and then a
# firewall may drop the packets without a word.
OWN_TIMEOUT = 2.0
SHARED_TIMEOUT = 5.0
# Seconds before the next try, drawn from nothing up to this, doubling with each failure.
BACKOFF = (0.5, 8.0)
# A tunnel that lasted this long was a success; one that ends before counts as a failure.
STEADY = 10.0
# Which kind of address worked is remembered for so long, then its own is tried first again.
REMEMBER = 600.0
# A proxy that is not in the list for this long is given up. It may only be cut off from auth.
FORGET = 180.0


@dataclass(frozen=True, slots=True)
class Attempt:
    address: str
    timeout: float  # seconds, for the connection
    own: bool  # of this proxy alone


@dataclass(frozen=True, slots=True)
class Dial:
    """Try these one after the other, and tell how it went."""

    proxy_id: str
    attempts: tuple[Attempt, ...]


@dataclass(slots=True)
class _Proxy:
    place: ProxyPlace
    failures: int = 0
    not_before: float = 0.0
    dialling: bool = False
    up_since: float | None = None  # None: it needs a tunnel
    worked: str = ""  # the shared address that led to it
    shared_until: float = 0.0  # it goes first, until then
    missing_since: float | None = None


class Tunnelling:
    """Feed it what happens, ask it what is `due`. Times are monotonic seconds."""

    def __init__(self, *, chance: Chance, shared: Sequence[str], me: str = "") -> None:
        """`shared` are the addresses that the agent was configured with. `me` is our own UUID:
        a proxy does not dial itself."""
        self._chance, self._shared, self._me = chance, tuple(shared), me
        self._proxies: dict[str, _Proxy] = {}

    def learn(self, places: Iterable[ProxyPlace], now: float) -> None:
        """The proxies that are alive, as auth says."""
        alive = {each.id: each for each in places if each.id and each.id != self._me}
        for id, place in alive.items():
            known = self._proxies.setdefault(id, _Proxy(place))
            if known.place != place:  # it has moved: what failed before says nothing
                known.failures, known.shared_until = 0, 0.0
                known.not_before = min(known.not_before, now)
            known.place, known.missing_since = place, None
        for id, known in self._proxies.items():
            if id not in alive and known.missing_since is None:
                known.missing_since = now

    def known(self) -> list[str]:
        """UUIDs of the proxies that should have a tunnel."""
        return sorted(self._proxies)

    def held(self) -> list[str]:
        """UUIDs of those that have one."""
        return sorted(id for id, each in self._proxies.items() if each.up_since is not None)

    def due(self, now: float) -> list[Dial]:
        """What to dial now; the answer counts as begun."""
        dials = []
        for id, each in self._proxies.items():
            if self._idle(each) and each.not_before <= now:
                each.dialling = True
                dials.append(Dial(id, self._attempts(each, now)))
        return dials

    def next_at(self) -> float | None:
        """When to ask again at the latest. None: when something happens."""
        times = [each.not_before for each in self._proxies.values() if self._idle(each)]
        times += [
            each.missing_since + FORGET
            for each in self._proxies.values()
            if each.missing_since is not None
        ]
        return min(times, default=None)

    def given_up(self, now: float) -> list[str]:
        """UUIDs of proxies that have been gone for too long. They are forgotten."""
        gone = [
            id
            for id, each in self._proxies.items()
            if each.missing_since is not None and now >= each.missing_since + FORGET
        ]
        for id in gone:
            del self._proxies[id]
        return gone

    # --- what has happened

    def connected(self, proxy_id: str, attempt: Attempt, now: float) -> None:
        each = self._proxies.get(proxy_id)
        if each is not None:
            each.dialling, each.up_since = False, now
            each.shared_until = 0.0 if attempt.own else now + REMEMBER
            each.worked = "" if attempt.own else attempt.address

    def failed(self, proxy_id: str, now: float, *, delay: float = 0.0) -> None:
        """All attempts of a dial have failed. `delay`: the proxy refuses, and asks for so much."""
        each = self._proxies.get(proxy_id)
        if each is not None:
            each.dialling = False
            self._back_off(each, now + delay)

    def lost(self, proxy_id: str, now: float) -> None:
        """Its tunnel has ended."""
        each = self._proxies.get(proxy_id)
        if each is not None and each.up_since is not None:
            if now - each.up_since >= STEADY:
                each.failures = -1
            each.up_since = None
            self._back_off(each, now)

    def going_away(self, proxy_id: str, delay: float, now: float) -> None:
        """The proxy wants another tunnel, at some time within `delay` seconds."""
        each = self._proxies.get(proxy_id)
        if each is not None and each.up_since is not None:
            each.up_since, each.failures = None, 0
            each.not_before = now + self._chance.uniform(0, delay)

    # --- the rest

    def _idle(self, each: _Proxy) -> bool:
        return each.up_since is None and not each.dialling

    def _back_off(self, each: _Proxy, start: float) -> None:
        each.failures += 1
        low, high = BACKOFF
        most = min(high, low * 2 ** min(each.failures, 10))
        each.not_before = start + self._chance.uniform(0, most)

    def _attempts(self, each: _Proxy, now: float) -> tuple[Attempt, ...]:
        place = each.place
        own = [Attempt(place.address, OWN_TIMEOUT, True)] if place.address else []
        found = dict.fromkeys((*self._shared, *place.tunnel_public, *place.public))
        found.pop(place.address, None)
        shared = [Attempt(address, SHARED_TIMEOUT, False) for address in found]
        shared.sort(key=lambda attempt: attempt.address != each.worked)
        first, second = (shared, own) if now < each.shared_until else (own, shared)
        return (*first, *second)
