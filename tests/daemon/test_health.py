"""How this process is."""

import threading

import pytest

from teleport_lite.daemon.health import STATUS, Health, State


def overall(**states: State) -> State:
    health = Health()
    for name, state in states.items():
        health.set(name, state)
    return health.overall()[0]


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        ({}, State.STARTING),
        ({"auth": State.OK}, State.OK),
        ({"auth": State.OK, "node": State.STARTING}, State.STARTING),
        ({"auth": State.STARTING, "node": State.RECOVERING}, State.RECOVERING),
        ({"auth": State.OK, "node": State.DEGRADED, "x": State.RECOVERING}, State.DEGRADED),
    ],
)
def test_the_worst_part_decides(states: dict[str, State], worst: State) -> None:
    assert overall(**states) is worst


def test_probes_get_200_400_or_503() -> None:
    assert {state: STATUS[state] for state in State} == {
        State.OK: 200,
        State.RECOVERING: 400,
        State.STARTING: 400,
        State.DEGRADED: 503,
    }


def test_each_part_says_how_it_is_in_its_own_words() -> None:
    health = Health()
    health.set("auth", State.OK)
    health.set("agent", State.DEGRADED, "not connected: refused")
    health.set("agent", State.DEGRADED, "not connected: no route")
    assert health.overall()[1] == {"auth": "ok", "agent": "not connected: no route"}


def test_it_is_told_from_any_thread() -> None:
    health = Health()
    threads = [
        threading.Thread(target=health.set, args=(str(number), State.OK)) for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(health.overall()[1]) == 20
