"""Which proxies are dialled, where and when. Time and chance are numbers here."""

import uuid

from teleport_lite.agent.tunnels import (
    BACKOFF,
    FORGET,
    OWN_TIMEOUT,
    REMEMBER,
    STEADY,
    Dial,
    Tunnelling,
)
from teleport_lite.proto.stream import ProxyPlace
from teleport_lite.testing.fakes import FakeChance

A, B, C = (str(uuid.UUID(int=n)) for n in (1, 2, 3))
SHARED = "balancer.example:443"


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
    tunnels.connected(A, dial.attempts[0], 1.0)
    assert tunnels.held() == [A]
    assert tunnels.due(1e6) == []
    assert tunnels.next_at() is None


def test_the_shared_address_that_worked_goes_first_for_a_while() -> None:
    tunnels = plan(place(A, "10.0.0.1:3024"), shared=("dead:1", SHARED))
    tunnels.connected(A, only(tunnels.due(0.0)).attempts[2], 0.0)
    tunnels.lost(A, 60.0)
    assert addresses(only(tunnels.due(70.0))) == [SHARED, "dead:1", "10.0.0.1:3024"]
    tunnels.failed(A, 71.0)
    again = only(tunnels.due(REMEMBER + 10))
    assert addresses(again)[0] == "10.0.0.1:3024", "its own may be reachable again"


def test_its_own_address_that_worked_goes_on_first() -> None:
    tunnels = plan(place(A, "10.0.0.1:3024"))
    tunnels.connected(A, only(tunnels.due(0.0)).attempts[0], 0.0)
    tunnels.lost(A, 60.0)
    assert addresses(only(tunnels.due(70.0)))[0] == "10.0.0.1:3024"


def test_failures_wait_longer_each_time_up_to_a_bound() -> None:
    low, high = BACKOFF
    tunnels, now, waits = plan(place(A)), 0.0, []
    for _ in range(8):
        only(tunnels.due(now))
        tunnels.failed(A, now)
        at = tunnels.next_at()
        assert at is not None
        assert tunnels.due(at - 0.001) == []
        waits.append(at - now)
        now = at
    # FakeChance always draws the middle of what full jitter allows.
    assert waits[:3] == [low, 2 * low, 4 * low]
    assert waits[-1] == high / 2 == 4.0


def test_full_jitter_starts_at_nothing() -> None:
    drawn = []

    class Noted(FakeChance):
        def uniform(self, low: float, high: float) -> float:
            drawn.append((low, high))
            return low

    tunnels = Tunnelling(chance=Noted(), shared=(SHARED,))
    tunnels.learn([place(A)], 0.0)
    tunnels.due(0.0)
    tunnels.failed(A, 0.0)
    assert drawn == [(0, 1.0)]


def test_a_tunnel_that_lasted_resets_the_wait() -> None:
    tunnels = plan(place(A))
    for _ in range(6):
        tunnels.due(1e3)
        tunnels.failed(A, 0.0)
    tunnels.connected(A, only(tunnels.due(1e3)).attempts[0], 1e3)
    tunnels.lost(A, 1e3 + STEADY)
    assert tunnels.next_at() == 1e3 + STEADY + BACKOFF[0] / 2


def test_a_tunnel_that_ends_at_once_is_a_failure() -> None:
    """Else a clone that is turned away would hammer the proxy."""
    tunnels, now, waits = plan(place(A)), 0.0, []
    for _ in range(6):
        tunnels.connected(A, only(tunnels.due(now)).attempts[0], now)
        tunnels.lost(A, now + 1)
        at = tunnels.next_at()
        assert at is not None
        waits.append(at - now - 1)
        now = at
    assert waits == sorted(waits)
    assert waits[-1] == BACKOFF[1] / 2


def test_a_proxy_that_goes_away_is_dialled_within_the_time_it_asks_for() -> None:
    tunnels = plan(place(A))
    tunnels.connected(A, only(tunnels.due(0.0)).attempts[0], 0.0)
    tunnels.going_away(A, 20.0, 100.0)
    assert tunnels.held() == []
    assert tunnels.next_at() == 110.0
    tunnels.lost(A, 101.0)  # the old tunnel ends meanwhile; that changes nothing
    assert tunnels.next_at() == 110.0


def test_a_refusal_is_waited_for_in_full() -> None:
    tunnels = plan(place(A))
    tunnels.due(0.0)
    tunnels.failed(A, 5.0, delay=60.0)
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
        tunnels.failed(A, 0.0)
    tunnels.learn([place(A, "10.0.0.2:3024")], 0.5)
    assert addresses(only(tunnels.due(0.5))) == ["10.0.0.2:3024"]


def test_a_proxy_that_left_the_list_is_kept_for_minutes() -> None:
    tunnels = plan(place(A), place(B))
    for dial in tunnels.due(0.0):
        tunnels.connected(dial.proxy_id, dial.attempts[0], 0.0)
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
    tunnels.connected(A, dial.attempts[0], FORGET)
    tunnels.lost(A, FORGET)
    tunnels.failed(A, FORGET)
    tunnels.going_away(A, 1.0, FORGET)
    assert tunnels.held() == []


def test_a_proxy_does_not_dial_itself() -> None:
    assert [each.proxy_id for each in plan(place(A), place(B), me=A).due(0.0)] == [B]


def test_a_place_without_a_name_is_no_proxy() -> None:
    assert plan(place("", "10.0.0.1:3024")).due(0.0) == []


def test_without_any_address_there_is_nothing_to_try() -> None:
    assert only(plan(place(C), shared=()).due(0.0)).attempts == ()
