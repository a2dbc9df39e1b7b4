"""Two auth servers on one store: one goes, and hosts go on with the other."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import join
from teleport_lite.store.memory import MemoryStore
from tests.agent.rig import Auth
from tests.agent.test_link import Agent
from tests.support import eventually, free_port


@pytest.fixture
def both() -> Iterator[tuple[Auth, Auth]]:
    store = MemoryStore()
    with Auth(store=store, seed="a") as first, Auth(store=store, seed="b") as second:
        yield first, second


@pytest.fixture
def me(both: tuple[Auth, Auth]) -> Identity:
    both[0].bench.token()
    return join(both[0].wish())


def cut(auth: Auth) -> None:
    auth.call(lambda: auth.server.drop_connections(lambda peer: True))


def test_a_host_goes_on_with_an_auth_server_that_it_was_told_of(
    both: tuple[Auth, Auth], me: Identity
) -> None:
    first, second = both
    with Agent(me, first.address, clock=first.bench.clock) as running:
        eventually(lambda: running.lessons)
        running.link._servers.learn([second.address])  # as the daemon does
        cut(first)
        eventually(lambda: running.states[-1] == f"connected to {second.address}")
        eventually(lambda: len(running.lessons) == 2)


def test_while_there_are_others_to_ask_nobody_waits_for_long(
    both: tuple[Auth, Auth], me: Identity
) -> None:
    dead = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    servers = (*dead, both[0].address)
    with Agent(me, *servers, clock=both[0].bench.clock) as running:
        eventually(lambda: running.lessons)
        assert sum(running.stop.waits) <= 3 * 0.5
        assert running.states[-1] == f"connected to {both[0].address}"


def test_a_join_whose_server_falls_silent_in_the_middle_is_finished_by_the_next(
    both: tuple[Auth, Auth], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one has recorded the host, and its answer never comes."""
    first, second = both
    first.bench.token("bot")
    finish = first.bench.desks.joins.finish

    def lost(*words: object) -> object:
        finish(*words)  # type: ignore[arg-type]
        first.server._doorway.drop(lambda peer: True)
        raise RuntimeError("killed")

    monkeypatch.setattr(first.bench.desks.joins, "finish", lost)
    wish = first.wish(servers=(first.address, second.address), roles=("Bot",))
    joined = join(wish)
    hosts = [host.id for host, _ in second.bench.store.hosts() if host.name == "web-1"]
    assert hosts == [joined.host_id]
    with pytest.raises(Exception, match="token expired or not found"):
        join(replace(second.wish(roles=("Bot",)), node_name="another"))
