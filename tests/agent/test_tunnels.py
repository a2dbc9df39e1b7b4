"""Which proxies are dialled, where and when. Time and chance are numbers here."""

import uuid

from teleport_lite.agent.tunnels import (
    BACKOFF,
    FORGET,
    LOOKS,
    NOBODY_BACKOFF,
    OWN_TIMEOUT,
    REMEMBER,
    SPACING,
    STEADY,
    Dial,
    Tunnelling,
)
from teleport_lite.proto.stream import ProxyPlace
from teleport_lite.testing.fakes import FakeChance

A, B, C = (str(uuid.UUID(int=n)) for n in (1, 2, 3))
SHARED = "balancer.example:443"
OWN = "10.0.0.1:3024"
DIAL = Dial(A, ())


def place(id: str, address: str = "", *public: str) -> ProxyPlace:
    return ProxyPlace(id=id, name="p", address=address, public=list(public))


def plan(*places: ProxyPlace, shared: tuple[str, ...] = (SHARED,), me: str = "") -> Tunnelling:
    made = Tunnelling(chance=FakeChance(), shared=shared, me=me)
    made.learn(places, 0.0)
    return made


def addresses(dial: Dial) -> list[str]:
    return [each.address for each in dial.attempts]


def only(dials: list[Dial]) -> Dial:
    assert len(dials) == 1
    return dials[0]


def up(tunnels: Tunnelling, now: float, which: int = 0, *, via: str = "") -> None:
    """What is due leads to a tunnel, at its attempt number `which`."""
    dial = only(tunnels.due(now))
    tunnels.connected(dial, dial.attempts[which], now, via=via)


def looked(tunnels: Tunnelling, start: float, end: float) -> list[tuple[float, list[str]]]:
    """When a better tunnel was dialled in vain, and where, while the one that is there stays."""
    found, now = [], start
    while (at := tunnels.next_at()) is not None and (now := max(at, now)) <= end:
        dial = only(tunnels.due(now))
        assert dial.better
        found.append((now, addresses(dial)))
        tunnels.failed(dial, now)
    return found


def test_every_live_proxy_is_dialled_once_and_at_once() -> None:
    tunnels = plan(place(A), place(B))
    assert [each.proxy_id for each in tunnels.due(0.0)] == [A, B]
    assert tunnels.due(0.0) == []
    assert tunnels.due(1e6) == [], "never two at a time"


def test_its_own_address_comes_first_and_briefly_then_the_shared_ones() -> None:
    dial = only(plan(place(A, "10.0.0.1:3024", "web.example:443")).due(0.0))
    assert addresses(dial) == ["10.0.0.1:3024", SHARED, "web.example:443"]
    assert dial.attempts[0].own
    assert dial.attempts[0].timeout == OWN_TIMEOUT == 2.0
    assert not dial.attempts[1].own


def test_an_address_is_tried_once_even_if_it_is_told_twice() -> None:
    dial = only(plan(place(A, SHARED, SHARED)).due(0.0))
    assert addresses(dial) == [SHARED]
    assert dial.attempts[0].own


def test_ports_for_tunnels_come_before_the_web_port() -> None:
    each = ProxyPlace(id=A, public=["p:443"], tunnel_public=["p:3024"])
    assert addresses(only(plan(each, shared=()).due(0.0))) == ["p:3024", "p:443"]


def test_a_tunnel_that_is_held_is_not_dialled() -> None:
    tunnels = plan(place(A))
    dial = only(tunnels.due(0.0))
    assert tunnels.held() == []
    tunnels.connected(dial, dial.attempts[0], 1.0)
    assert tunnels.held() == [A]
    assert tunnels.due(1e6) == []
    assert tunnels.next_at() is None


def test_the_shared_address_that_worked_goes_first_for_a_while() -> None:
    tunnels = plan(place(A, "10.0.0.1:3024"), shared=("dead:1", SHARED))
    up(tunnels, 0.0, 2)
    tunnels.lost(A, 60.0)
    assert addresses(only(tunnels.due(70.0))) == [SHARED, "dead:1", "10.0.0.1:3024"]
    tunnels.failed(DIAL, 71.0)
    again = only(tunnels.due(REMEMBER + 10))
    assert addresses(again)[0] == "10.0.0.1:3024", "its own may be reachable again"


def test_its_own_address_that_worked_goes_on_first() -> None:
    tunnels = plan(place(A, "10.0.0.1:3024"))
    up(tunnels, 0.0, 0)
    tunnels.lost(A, 60.0)
    assert addresses(only(tunnels.due(70.0)))[0] == "10.0.0.1:3024"


def test_failures_wait_longer_each_time_up_to_a_bound() -> None:
    low, high = BACKOFF
    tunnels, now, waits = plan(place(A)), 0.0, []
    for _ in range(8):
        only(tunnels.due(now))
        tunnels.failed(DIAL, now)
        at = tunnels.next_at()
        assert at is not None
        assert tunnels.due(at - 0.001) == []
        waits.append(at - now)
        now = at
    # FakeChance always draws the middle of what full jitter allows.
    assert waits[:3] == [low, 2 * low, 4 * low]
    assert waits[-1] == high / 2 == 4.0


def test_a_proxy_on_whose_host_nobody_listens_is_tried_again_soon() -> None:
    """It is being restarted; once it listens, and is too busy, the waits grow on."""
    tunnels, now, waits = plan(place(A)), 0.0, []
    for number in range(12):
        only(tunnels.due(now))
        tunnels.failed(DIAL, now, nobody=number < 10)
        at = tunnels.next_at()
        assert at is not None
        waits.append(at - now)
        now = at
    low, high = BACKOFF
    assert waits[:2] == [low, 2 * low]
    assert set(waits[2:10]) == {NOBODY_BACKOFF / 2}
    assert waits[10:] == [high / 2] * 2


def test_full_jitter_starts_at_nothing() -> None:
    drawn = []

    class Noted(FakeChance):
        def uniform(self, low: float, high: float) -> float:
            drawn.append((low, high))
            return low

    tunnels = Tunnelling(chance=Noted(), shared=(SHARED,))
    tunnels.learn([place(A)], 0.0)
    tunnels.due(0.0)
    tunnels.failed(DIAL, 0.0)
    assert drawn == [(0, 1.0)]


def test_a_tunnel_that_lasted_resets_the_wait() -> None:
    tunnels = plan(place(A))
    for _ in range(6):
        tunnels.due(1e3)
        tunnels.failed(DIAL, 0.0)
    up(tunnels, 1e3, 0)
    tunnels.lost(A, 1e3 + STEADY)
    assert tunnels.next_at() == 1e3 + STEADY + BACKOFF[0] / 2


def test_a_tunnel_that_ends_at_once_is_a_failure() -> None:
    """Else a clone that is turned away would hammer the proxy."""
    tunnels, now, waits = plan(place(A)), 0.0, []
    for _ in range(6):
        up(tunnels, now, 0)
        tunnels.lost(A, now + 1)
        at = tunnels.next_at()
        assert at is not None
        waits.append(at - now - 1)
        now = at
    assert waits == sorted(waits)
    assert waits[-1] == BACKOFF[1] / 2


def test_a_proxy_that_goes_away_is_dialled_within_the_time_it_asks_for() -> None:
    tunnels = plan(place(A))
    up(tunnels, 0.0, 0)
    tunnels.going_away(A, 20.0, 100.0)
    assert tunnels.held() == []
    assert tunnels.next_at() == 110.0
    tunnels.lost(A, 101.0)  # the old tunnel ends meanwhile; that changes nothing
    assert tunnels.next_at() == 110.0


def test_a_refusal_is_waited_for_in_full() -> None:
    tunnels = plan(place(A))
    tunnels.due(0.0)
    tunnels.failed(DIAL, 5.0, delay=60.0)
    at = tunnels.next_at()
    assert at is not None
    assert at >= 65.0


def test_a_proxy_that_comes_later_is_dialled() -> None:
    tunnels = plan(place(A))
    tunnels.due(0.0)
    tunnels.learn([place(A), place(B)], 3.0)
    assert [each.proxy_id for each in tunnels.due(3.0)] == [B]


def test_a_proxy_that_moved_is_tried_where_it_is_now_at_once() -> None:
    tunnels = plan(place(A, "10.0.0.1:3024"), shared=())
    tunnels.due(0.0)
    for _ in range(6):
        tunnels.failed(DIAL, 0.0)
    tunnels.learn([place(A, "10.0.0.2:3024")], 0.5)
    assert addresses(only(tunnels.due(0.5))) == ["10.0.0.2:3024"]


def test_a_proxy_that_left_the_list_is_kept_for_minutes() -> None:
    tunnels = plan(place(A), place(B))
    for dial in tunnels.due(0.0):
        tunnels.connected(dial, dial.attempts[0], 0.0)
    tunnels.learn([place(A)], 10.0)
    assert tunnels.given_up(10.0 + FORGET - 1) == []
    assert tunnels.next_at() == 10.0 + FORGET
    assert tunnels.held() == sorted([A, B])
    assert tunnels.given_up(10.0 + FORGET) == [B]
    assert tunnels.known() == tunnels.held() == [A]


def test_a_proxy_that_comes_back_is_not_given_up() -> None:
    tunnels = plan(place(A))
    tunnels.learn([], 10.0)
    tunnels.learn([place(A)], 20.0)
    assert tunnels.given_up(1e6) == []


def test_what_is_forgotten_may_still_be_told_of() -> None:
    tunnels = plan(place(A))
    dial = only(tunnels.due(0.0))
    tunnels.learn([], 0.0)
    assert tunnels.given_up(FORGET) == [A]
    tunnels.connected(dial, dial.attempts[0], FORGET)
    tunnels.lost(A, FORGET)
    tunnels.failed(DIAL, FORGET)
    tunnels.going_away(A, 1.0, FORGET)
    assert tunnels.held() == []


def test_a_proxy_does_not_dial_itself() -> None:
    assert [each.proxy_id for each in plan(place(A), place(B), me=A).due(0.0)] == [B]


def test_a_place_without_a_name_is_no_proxy() -> None:
    assert plan(place("", "10.0.0.1:3024")).due(0.0) == []


def test_without_any_address_there_is_nothing_to_try() -> None:
    assert only(plan(place(C), shared=()).due(0.0)).attempts == ()


# --- a better tunnel than the one that is there


def test_a_tunnel_that_another_proxy_passes_on_is_used_and_a_better_one_looked_for() -> None:
    tunnels = plan(place(A, OWN))
    up(tunnels, 0.0, 1, via=B)
    assert tunnels.held() == [A]
    assert tunnels.next_at() == sum(SPACING) / 2
    assert tunnels.due(SPACING[0] - 0.01) == []
    dial = only(tunnels.due(SPACING[1]))
    assert dial.better
    assert addresses(dial) == [SHARED], "its own has just failed"
    assert tunnels.due(1e6) == [], "never two at a time"


def test_one_that_lands_ends_the_search() -> None:
    tunnels = plan(place(A))
    up(tunnels, 0.0, via=B)
    up(tunnels, 5.0)
    assert tunnels.held() == [A]
    assert tunnels.next_at() is None
    assert tunnels.due(1e6) == []


def test_a_balancer_that_always_goes_elsewhere_is_asked_a_few_times_and_then_seldom() -> None:
    """Source hash: there is nothing to find."""
    tunnels = plan(place(A, OWN))
    up(tunnels, 0.0, 1, via=B)
    day = looked(tunnels, 0.0, 86_400.0)
    first = [at for at, _ in day if at < REMEMBER]
    assert len(first) == LOOKS
    assert first[-1] <= LOOKS * SPACING[1]
    for hour in range(24):
        within = [at for at, _ in day if hour * 3600 <= at < hour * 3600 + 3600]
        assert 0 < len(within) <= LOOKS * 3600 / REMEMBER + LOOKS
    assert day[LOOKS] == (REMEMBER, [OWN, SHARED]), "its own may be reachable by now"
    assert all(where == [SHARED] for _, where in day[:LOOKS])


def test_losing_such_a_tunnel_again_and_again_does_not_begin_the_search_anew() -> None:
    tunnels, looks = plan(place(A)), 0
    for now in range(0, int(REMEMBER), 30):
        up(tunnels, now, via=B)
        looks += len(looked(tunnels, now, now + 20.0))
        tunnels.lost(A, now + 20.0)
    assert looks == LOOKS


def test_a_tunnel_that_is_lost_during_the_search_is_dialled_as_ever() -> None:
    tunnels = plan(place(A))
    up(tunnels, 0.0, via=B)
    search = only(tunnels.due(10.0))
    tunnels.lost(A, 11.0)
    assert tunnels.held() == []
    at = tunnels.next_at()
    assert at is not None
    again = only(tunnels.due(at))
    assert not again.better
    tunnels.failed(search, at)
    assert tunnels.due(1e6) == [], "the dial still goes on"
    tunnels.connected(again, again.attempts[0], at, via=B)
    assert tunnels.held() == [A]
    assert only(tunnels.due(1e6)).better


def test_its_own_address_is_tried_again_while_the_shared_one_works() -> None:
    """A firewall was closed for a minute when the tunnel was made."""
    tunnels = plan(place(A, OWN))
    up(tunnels, 0.0, 1)
    assert looked(tunnels, 0.0, 2 * REMEMBER) == [(REMEMBER, [OWN]), (2 * REMEMBER, [OWN])]
    up(tunnels, 3 * REMEMBER)
    assert tunnels.next_at() is None
    tunnels.lost(A, 4 * REMEMBER)
    assert addresses(only(tunnels.due(5 * REMEMBER)))[0] == OWN


def test_not_all_hosts_try_it_at_the_same_time() -> None:
    drawn = []

    class Noted(FakeChance):
        def uniform(self, low: float, high: float) -> float:
            drawn.append((low, high))
            return super().uniform(low, high)

    tunnels = Tunnelling(chance=Noted(), shared=(SHARED,))
    tunnels.learn([place(A, OWN)], 0.0)
    up(tunnels, 0.0, 1, via=B)
    assert drawn == [(REMEMBER / 2, REMEMBER * 3 / 2), SPACING]


def test_an_own_address_that_leads_to_another_proxy_is_no_good_one() -> None:
    """Its operator has written the balancer's."""
    tunnels = plan(place(A, OWN), shared=())
    up(tunnels, 0.0, via=B)
    assert [where for _, where in looked(tunnels, 0.0, REMEMBER)][-1] == [OWN]


def test_a_proxy_that_moved_while_its_tunnel_is_shared_is_tried_soon() -> None:
    tunnels = plan(place(A))
    up(tunnels, 0.0)
    tunnels.learn([place(A, OWN)], 10.0)
    assert tunnels.due(10.0) == [], "everybody hears of it at the same time"
    assert addresses(only(tunnels.due(10.0 + SPACING[1]))) == [OWN]


def test_nothing_is_looked_for_while_a_proxy_seems_to_be_gone() -> None:
    tunnels = plan(place(A))
    up(tunnels, 0.0, via=B)
    tunnels.learn([], 1.0)
    assert tunnels.due(100.0) == []
    assert tunnels.next_at() == 1.0 + FORGET
    tunnels.learn([place(A)], 101.0)
    assert only(tunnels.due(101.0)).better


def test_a_proxy_that_refuses_a_better_tunnel_is_given_the_time_it_asks_for() -> None:
    tunnels = plan(place(A))
    up(tunnels, 0.0, via=B)
    tunnels.failed(only(tunnels.due(5.0)), 5.0, delay=60.0)
    at = tunnels.next_at()
    assert at is not None
    assert at >= 65.0


# A certificate of another CA


def test_after_a_rotation_each_tunnel_is_replaced_soon_while_it_serves() -> None:
    tunnels = plan(place(A, OWN), place(B, OWN))
    for dial in tunnels.due(0.0):
        tunnels.connected(dial, dial.attempts[0], 0.0)
    tunnels.renewed(3.0, 10.0)
    assert tunnels.due(11.0) == []
    assert tunnels.next_at() == 11.5
    dials = tunnels.due(11.5)
    assert [(each.proxy_id, each.anew) for each in dials] == [(A, True), (B, True)]
    assert tunnels.held() == [A, B], "the old ones serve"
    assert tunnels.due(1e6) == [], "never two at a time"
    for dial in dials:
        tunnels.connected(dial, dial.attempts[0], 12.0)
    assert (tunnels.due(1e6), tunnels.held()) == ([], [A, B])


def test_a_replacement_that_fails_is_tried_again_and_the_old_one_stays() -> None:
    tunnels = plan(place(A, OWN))
    up(tunnels, 0.0)
    tunnels.renewed(0.0, 10.0)
    for _ in range(5):
        now = tunnels.next_at() or 0.0
        dial = only(tunnels.due(now))
        assert dial.anew
        tunnels.failed(dial, now)
        assert tunnels.held() == [A]
        assert now < (tunnels.next_at() or 0.0) <= now + BACKOFF[1]


def test_a_tunnel_that_was_dialled_with_the_old_certificate_is_replaced_too() -> None:
    tunnels = plan(place(A, OWN))
    early = only(tunnels.due(0.0))
    tunnels.renewed(0.0, 1.0)
    tunnels.connected(early, early.attempts[0], 2.0)
    up(tunnels, 3.0)
    assert tunnels.due(1e6) == []


def test_one_that_is_lost_meanwhile_comes_back_with_the_new_certificate() -> None:
    tunnels = plan(place(A, OWN))
    up(tunnels, 0.0)
    tunnels.renewed(100.0, 20.0)
    tunnels.lost(A, 21.0)
    dial = only(tunnels.due(60.0))
    assert not dial.anew
    tunnels.connected(dial, dial.attempts[0], 60.0)
    assert tunnels.due(1e6) == []
