"""A rotation led by two auth servers on one PostgreSQL."""

import threading
from collections.abc import Iterator

import pytest

from teleport_lite.model.authority import CaType
from teleport_lite.model.rotation import Phase
from teleport_lite.secret import Secret
from teleport_lite.store.postgres import open_postgres
from tests.auth.bench import Bench
from tests.auth.fleet import Member
from tests.store.makers import a_keyring
from tests.support import eventually


@pytest.fixture
def pair(database: str) -> Iterator[tuple[Bench, Bench]]:
    """Each heeds what the store tells of, as the daemon has it."""
    stores = [open_postgres(Secret(database), a_keyring()) for _ in range(2)]
    one = Bench(store=stores[0])
    other = Bench(store=stores[1], clock=one.clock, seed="other")
    ends = [each.store.watch(each.desks.heed) for each in (one, other)]
    yield one, other
    for end in ends:
        end()
    for store in stores:
        store.close()


def rotate(bench: Bench, phase: str, **words: object) -> None:
    bench.ask("/v1/auth/rotate", types=["host"], phase=phase, **({"manual": True} | words))


def test_steps_of_either_reach_the_hosts_of_both(pair: tuple[Bench, Bench]) -> None:
    one, other = pair
    members = [Member(one, "of-one").come(), Member(other, "of-the-other").come()]
    steps = ("init", "update_clients", "update_servers", "standby")
    for number, phase in enumerate(steps):
        rotate(pair[number % 2], phase, force=True)  # reports are shared elsewhere
        for each in members:
            eventually(lambda each=each, phase=phase: told(each, phase), what=phase)  # type: ignore[misc]
            each.follow()
    assert not any(each.gone() for each in members)
    for bench in pair:
        assert len(bench.desks.cas.tls(CaType.HOST)) == 1
    for each, bench in zip(members, reversed(pair), strict=True):
        each.bench = bench
        each.come()


def told(member: Member, phase: str) -> bool:
    return any(word.mark.endswith(f"/{phase}") for word in member.knowledge().rotations)


def test_of_many_that_take_the_steps_that_are_due_each_is_taken_once(
    pair: tuple[Bench, Bench],
) -> None:
    rotate(pair[0], "", manual=False, grace_period="3h")
    for wanted in (Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY):
        pair[0].later(hours=1)
        threads = [threading.Thread(target=each.desks.rotation.tick) for each in pair * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pair[1].store.rotation(CaType.HOST).phase is wanted
    assert pair[1].store.rotation(CaType.HOST).serial == 4
    assert len(pair[0].events("cert_authority.rotate")) == 4
    assert pair[0].store.verify_trail()[1] is None
