"""How long a lock holds."""

from dataclasses import replace
from datetime import timedelta

from teleport_lite.model.lock import Lock, Target
from teleport_lite.testing.fakes import T0

LOCK = Lock(id="1", target=Target.USER, value="alice", created_at=T0)


def test_a_lock_without_an_end_holds_for_ever() -> None:
    assert LOCK.in_force(T0 + timedelta(days=36500))


def test_a_lock_is_over_at_its_last_moment() -> None:
    short = replace(LOCK, expires_at=T0)
    assert short.in_force(T0 - timedelta(microseconds=1))
    assert not short.in_force(T0)
