"""Hosts and whether they are there."""

from datetime import timedelta

import pytest

from teleport_lite.model.host import OFFLINE_AFTER, STALE_AFTER, Presence, Report, presence
from teleport_lite.testing.fakes import T0

TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("silence", "state"),
    [
        (timedelta(), Presence.ONLINE),
        (STALE_AFTER, Presence.ONLINE),
        (STALE_AFTER + TICK, Presence.STALE),
        (OFFLINE_AFTER, Presence.STALE),
        (OFFLINE_AFTER + TICK, Presence.OFFLINE),
        (-timedelta(seconds=5), Presence.ONLINE),
    ],
)
def test_silence_makes_a_host_stale_and_then_offline(silence: timedelta, state: Presence) -> None:
    assert presence(Report(last_seen=T0 - silence), T0) is state


def test_a_goodbye_makes_it_offline_at_once() -> None:
    assert presence(Report(last_seen=T0, gone=True), T0) is Presence.OFFLINE


def test_a_host_that_never_came_is_offline() -> None:
    assert presence(Report(), T0) is Presence.OFFLINE
