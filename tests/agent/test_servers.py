"""Which auth server is asked first."""

from teleport_lite.agent.servers import FORGIVE, MAX_LEARNT, Servers
from teleport_lite.testing.fakes import FakeClock

A, B, C = "a:3025", "b:3025", "c:3025"


def test_they_are_asked_as_configured_and_then_as_learnt() -> None:
    servers = Servers([A, B], FakeClock())
    servers.learn([C, A, C])
    assert list(servers) == [A, B, C]
    assert (servers.first(), len(servers)) == (A, 3)


def test_one_that_has_failed_comes_last_and_is_forgiven() -> None:
    clock = FakeClock()
    servers = Servers([A, B, C], clock)
    servers.failed(A)
    clock.tick(seconds=1)
    servers.failed(B)
    assert list(servers) == [C, A, B]
    clock.tick(seconds=FORGIVE)
    assert list(servers) == [A, B, C]


def test_who_worked_last_is_asked_first_until_it_fails() -> None:
    servers = Servers([A, B, C], FakeClock())
    servers.failed(A)
    servers.worked(B)
    assert list(servers) == [B, C, A]
    servers.failed(B)
    assert servers.first() == C
    servers.worked(A)
    assert list(servers)[:2] == [A, C]


def test_what_is_learnt_replaces_what_was_learnt() -> None:
    servers = Servers([A], FakeClock())
    servers.learn([B])
    servers.worked(B)
    servers.learn([C])
    assert list(servers) == [A, C]
    servers.learn(f"h{number}:3025" for number in range(1000))
    assert len(servers) == 1 + MAX_LEARNT


def test_the_only_one_is_waited_for_longer() -> None:
    servers = Servers([A], FakeClock())
    alone = servers.patience
    servers.learn([B])
    assert servers.patience < alone
