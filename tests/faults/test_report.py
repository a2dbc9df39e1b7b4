"""A scenario can fail: by what it finds, and by what it has not done."""

import pytest

from tests.faults.report import BESIDE, Report
from tests.faults.sweep import Spot, spread


def a_report() -> Report:
    report = Report("example")
    report.fault("kill -9")
    report.at_most("start", 1, 5, "s", count=1)
    return report


def test_a_scenario_that_reaches_its_goals_has_missed_nothing() -> None:
    assert a_report().missed == []


def test_a_run_without_a_fault_fails() -> None:
    report = Report("example")
    report.at_most("start", 1, 5, "s", count=1)
    assert report.missed == ["no fault was made, so nothing was shown"]


def test_a_run_without_a_goal_fails() -> None:
    report = Report("example")
    report.fault("kill -9")
    report.told("joins", 5)
    assert report.missed == ["nothing was measured against a goal"]


def test_a_goal_that_is_missed_is_told_with_examples() -> None:
    report = a_report()
    report.none("lost", ["web-1", "web-2"], count=9)
    assert report.missed == ["lost: 2 (N = 9, goal 0)\n    web-1\n    web-2"]


@pytest.mark.parametrize("seconds", [(), (2.0, 6.0)])
def test_what_is_too_slow_or_was_never_measured_is_a_miss(seconds: tuple[float, ...]) -> None:
    report = a_report()
    report.slowest("back", seconds, 5)
    assert len(report.missed) == 1


def test_beside_the_suite_seconds_may_be_more_and_nothing_else() -> None:
    report = Report("example", slower=BESIDE)
    report.fault("kill -9")
    report.slowest("back", [5 * BESIDE], 5)
    assert report.missed == []
    report.slowest("back", [5 * BESIDE + 0.1], 5)
    report.at_most("lines", 6, 5, count=1)
    assert len(report.missed) == 2


def test_nothing_lost_of_nothing_is_a_miss() -> None:
    report = a_report()
    report.none("lost", [], count=0)
    assert len(report.missed) == 1


def test_points_are_spread_over_all_calls() -> None:
    spots = [Spot("write", number) for number in range(1, 101)]
    assert [each.nth for each in spread(spots, 4)] == [13, 38, 63, 88]
    assert spread(spots, 0) == spots
