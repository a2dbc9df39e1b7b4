"""Small rounds of kills.py; `python -m benchmarks.faults` has the long ones."""

from pathlib import Path

from tests.faults import kills
from tests.faults.report import run_small
from tests.faults.warm import Warm


def test_every_answered_join_survives_kill_9_of_auth(tmp_path: Path, warm: Warm) -> None:
    run_small(kills.joins_under_kill, tmp_path, warm)


def test_no_token_for_one_use_is_used_twice_under_kill_9(tmp_path: Path, warm: Warm) -> None:
    run_small(kills.once_under_kill, tmp_path, warm)


def test_who_waits_for_a_stopped_auth_is_served_when_it_goes_on(tmp_path: Path, warm: Warm) -> None:
    run_small(kills.stopped, tmp_path, warm)
