"""Auth servers whose clocks differ."""

import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.auth.test_sharing import B, Pair


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "clock of auth" in each.getMessage()]


def test_a_clock_that_is_ahead_is_told_once_by_the_other_and_again_when_it_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    pair = Pair()
    pair.tick()
    assert warnings(caplog) == []
    for seconds in (4, 90, 91, 0, 60):
        known = pair.store.host(B)
        assert known is not None
        ahead = replace(known[1], last_seen=pair.clock.now() + timedelta(seconds=seconds))
        pair.store.write(lambda tx, ahead=ahead: tx.put_report(B, ahead))
        pair.a.desks.heed(frozenset({"hosts"}))
        pair.a.desks.spread()
        pair.clock.tick(seconds=1)
    assert warnings(caplog) == [
        f"the clock of auth server auth-b is {seconds} s ahead of ours; have both follow NTP"
        for seconds in (90, 60)
    ]
