"""Which proxies to dial, where, and when. Pure decisions: nothing here waits or connects.

Every live proxy gets exactly one tunnel. A proxy is dialled at its own address, where that can be
reached, else at an address that several share; the server name in the first packet says which
of them is meant, and the others pass us on. So it does not matter how a balancer chooses.

A tunnel that another proxy passes on would die with that one, and a shared address is one more
thing that can fail. So while there is a tunnel, a better one is looked for: often at first, then
seldom, and never in a hurry.
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
# The most while nobody listens there: that costs nobody anything, and a proxy that is restarted is
# back in seconds. Half of the hosts should not wait for as long again.
NOBODY_BACKOFF = 3.0
# A tunnel that lasted this long was a success; one that ends before counts as a failure.
STEADY = 10.0
# Which kind of address worked is remembered for so long, more or less, so that not everybody asks
# at once; then its own is tried first again, also while there is a tunnel.
REMEMBER = 600.0
# Dials of the shared address, in that time, that want to land on the proxy itself. Behind a
# balancer that takes turns a few are enough. Behind one that goes by the source none ever is, but
# each costs it no more than a first packet that is refused.
LOOKS = 8
# Seconds between them.
SPACING = (1.0, 4.0)
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
    better: bool = False  # there is a tunnel: only one that nobody passes on is worth having
    anew: bool = False  # there is a tunnel: any that shows our certificate of now
    generation: int = 0  # of our certificates


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
    # Of the tunnel that is there:
    own: bool = False  # it leads to an address of this proxy alone
    via: str = ""  # the proxy that passes it on
    looking: bool = False
    looks: int = 0  # in vain, since `shared_until` was set
    look_at: float | None = None  # None: there is nothing better
    anew_at: float | None = None  # None: it shows our certificate of now


class Tunnelling:
    """Feed it what happens, ask it what is `due`. Times are monotonic seconds."""

    def __init__(self, *, chance: Chance, shared: Sequence[str], me: str = "") -> None:
        """`shared` are the addresses that the agent was configured with. `me` is our own UUID:
        a proxy does not dial itself."""
        self._chance, self._shared, self._me = chance, tuple(shared), me
        self._proxies: dict[str, _Proxy] = {}
        self._generation = 0

    def learn(self, places: Iterable[ProxyPlace], now: float) -> None:
        """The proxies that are alive, as auth says."""
        alive = {each.id: each for each in places if each.id and each.id != self._me}
        for id, place in alive.items():
            known = self._proxies.setdefault(id, _Proxy(place))
            moved, known.place, known.missing_since = known.place != place, place, None
            if moved:  # what failed before says nothing
                known.failures, known.shared_until, known.looks = 0, 0.0, 0
                known.not_before = min(known.not_before, now)
                known.look_at = self._next_look(known, now)
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
                dials.append(Dial(id, self._attempts(each, now), generation=self._generation))
            elif (at := self._anew_at(each)) is not None and at <= now:
                each.looking = True
                dial = Dial(id, self._attempts(each, now), anew=True, generation=self._generation)
                dials.append(dial)
            elif (at := self._looks_at(each)) is not None and at <= now:
                each.looking = True
                better = self._better(each, now)
                dials.append(Dial(id, better, better=True, generation=self._generation))
        return dials

    def next_at(self) -> float | None:
        """When to ask again at the latest. None: when something happens."""
        times = [each.not_before for each in self._proxies.values() if self._idle(each)]
        looks = [self._looks_at(each) for each in self._proxies.values()]
        looks += [self._anew_at(each) for each in self._proxies.values()]
        times += [at for at in looks if at is not None]
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

    def connected(self, dial: Dial, attempt: Attempt, now: float, *, via: str = "") -> None:
        """There is a tunnel, in the place of the one that was there if any. `via`: the proxy that
        passes it on."""
        each = self._proxies.get(dial.proxy_id)
        if each is None:
            return
        self._over(each, dial)
        if dial.generation == self._generation:
            each.anew_at = None
        each.up_since, each.own, each.via = now, attempt.own, via
        each.worked = "" if attempt.own else attempt.address
        if attempt.own and not via:
            each.shared_until, each.looks = 0.0, 0
        elif now >= each.shared_until:  # its own address was tried
            self._rest(each, now)
        each.look_at = self._next_look(each, now)

    def failed(self, dial: Dial, now: float, *, delay: float = 0.0, nobody: bool = False) -> None:
        """All attempts of a dial have failed. `delay`: the proxy refuses, and asks for so much.
        `nobody` listens there."""
        each = self._proxies.get(dial.proxy_id)
        if each is None:
            return
        self._over(each, dial)
        if dial.anew:
            each.anew_at = now + delay + self._chance.uniform(*BACKOFF)
            return
        if not dial.better:
            self._back_off(each, now + delay, NOBODY_BACKOFF if nobody else BACKOFF[1])
            return
        if now >= each.shared_until:
            self._rest(each, now)
        each.looks += 1
        each.look_at = self._next_look(each, now + delay)

    def lost(self, proxy_id: str, now: float) -> None:
        """Its tunnel has ended."""
        each = self._proxies.get(proxy_id)
        if each is not None and each.up_since is not None:
            if now - each.up_since >= STEADY:
                each.failures = -1
            each.up_since = None
            self._back_off(each, now, BACKOFF[1])

    def renewed(self, spread: float, now: float) -> None:
        """Our certificate is of another CA than before. Each tunnel is replaced by one that shows
        it, at some time within `spread` seconds; until then the old one serves."""
        self._generation += 1
        for each in self._proxies.values():
            each.anew_at = now + self._chance.uniform(0, spread)

    def going_away(self, proxy_id: str, delay: float, now: float) -> None:
        """The proxy wants another tunnel, at some time within `delay` seconds."""
        each = self._proxies.get(proxy_id)
        if each is not None and each.up_since is not None:
            each.up_since, each.failures = None, 0
            each.not_before = now + self._chance.uniform(0, delay)

    # --- the rest

    def _idle(self, each: _Proxy) -> bool:
        return each.up_since is None and not each.dialling

    def _over(self, each: _Proxy, dial: Dial) -> None:
        if dial.better or dial.anew:
            each.looking = False
        else:
            each.dialling = False

    def _looks_at(self, each: _Proxy) -> float | None:
        """When a better tunnel is dialled. None if none is wanted now."""
        steady = each.up_since is not None and each.missing_since is None
        return each.look_at if steady and not each.looking else None

    def _anew_at(self, each: _Proxy) -> float | None:
        """When its tunnel is replaced. None if it need not be, or is none."""
        return each.anew_at if each.up_since is not None and not each.looking else None

    def _next_look(self, each: _Proxy, now: float) -> float | None:
        soon = now + self._chance.uniform(*SPACING)
        if each.via and each.looks < LOOKS:
            return soon
        if each.via or (each.place.address and not each.own):
            return max(soon, each.shared_until)
        return None

    def _rest(self, each: _Proxy, now: float) -> None:
        each.shared_until = now + self._chance.uniform(REMEMBER / 2, REMEMBER * 3 / 2)
        each.looks = 0

    def _back_off(self, each: _Proxy, start: float, high: float) -> None:
        each.failures += 1
        low, _ = BACKOFF
        most = min(high, low * 2 ** min(each.failures, 10))
        each.not_before = start + self._chance.uniform(0, most)

    def _attempts(self, each: _Proxy, now: float) -> tuple[Attempt, ...]:
        own, shared = self._addresses(each)
        first, second = (shared, own) if now < each.shared_until else (own, shared)
        return (*first, *second)

    def _better(self, each: _Proxy, now: float) -> tuple[Attempt, ...]:
        own, shared = self._addresses(each)
        return (*(own if now >= each.shared_until else ()), *(shared if each.via else ()))

    def _addresses(self, each: _Proxy) -> tuple[list[Attempt], list[Attempt]]:
        place = each.place
        own = [Attempt(place.address, OWN_TIMEOUT, True)] if place.address else []
        found = dict.fromkeys((*self._shared, *place.tunnel_public, *place.public))
        found.pop(place.address, None)
        shared = [Attempt(address, SHARED_TIMEOUT, False) for address in found]
        shared.sort(key=lambda attempt: attempt.address != each.worked)
        return own, shared
