"""One timer for all tunnels: who is asked, who is given up, and when."""

import asyncio
import time
from collections.abc import Callable

import pytest

from teleport_lite.net.mux_heart import Heart, Pace
from tests.tunnel_rig import until

PACE = Pace(interval=0.1, deadline=0.4, greeting=0.3)


class Tunnel:
    def __init__(self, *, greeted: bool = True, answers: bool = False) -> None:
        self.heard = self.asked = asyncio.get_running_loop().time()
        self.patience, self.greeted, self._answers = PACE.interval, greeted, answers
        self.pings = 0
        self.why: list[str] = []

    def ping(self) -> None:
        self.asked = asyncio.get_running_loop().time()
        self.pings += 1
        if self._answers:
            self.heard = self.asked

    def die(self, why: str) -> None:
        self.why.append(why)


def beating(make: Callable[[], Tunnel], done: Callable[[Tunnel], object]) -> tuple[Tunnel, float]:
    """A tunnel after it is `done`, and how long that took."""

    async def work() -> tuple[Tunnel, float]:
        heart, tunnel, loop = Heart(PACE), make(), asyncio.get_running_loop()
        began = loop.time()
        heart.add(tunnel)
        await until(lambda: done(tunnel))
        took = loop.time() - began
        heart.discard(tunnel)
        assert heart._timer is None, "nothing runs when there is nobody"
        return tunnel, took

    return asyncio.run(work())


def test_who_answers_is_asked_again_and_lives() -> None:
    tunnel, took = beating(lambda: Tunnel(answers=True), lambda t: t.pings >= 5)
    assert took >= 5 * PACE.interval - 0.05
    assert tunnel.why == []


def test_who_does_not_answer_is_given_up_after_the_deadline() -> None:
    tunnel, took = beating(Tunnel, lambda t: t.why)
    assert took >= PACE.deadline
    assert tunnel.pings >= 2, "asked before"
    assert "nothing was heard" in tunnel.why[0]


def test_who_does_not_greet_is_given_up_sooner_and_not_asked() -> None:
    tunnel, took = beating(lambda: Tunnel(greeted=False), lambda t: t.why)
    assert PACE.greeting <= took
    assert tunnel.pings == 0
    assert "greeting" in tunnel.why[0]


def test_time_in_which_we_did_not_run_does_not_count() -> None:
    async def work() -> None:
        heart, tunnel, loop = Heart(PACE), Tunnel(), asyncio.get_running_loop()
        heart.add(tunnel)
        time.sleep(3 * PACE.deadline)
        await asyncio.sleep(0)
        began = loop.time()
        await until(lambda: tunnel.why)
        assert loop.time() - began >= PACE.deadline / 2, "it was given time to be heard"
        heart.discard(tunnel)

    asyncio.run(work())


@pytest.mark.parametrize("count", [1, 200])
def test_any_number_of_tunnels_has_one_timer(count: int) -> None:
    async def work() -> None:
        heart, tunnels = Heart(PACE), [Tunnel(answers=True) for _ in range(count)]
        for tunnel in tunnels:
            heart.add(tunnel)
        timer = heart._timer
        assert timer is not None
        await until(lambda: all(tunnel.pings for tunnel in tunnels))
        for tunnel in tunnels:
            heart.discard(tunnel)
        assert heart._timer is None

    asyncio.run(work())
