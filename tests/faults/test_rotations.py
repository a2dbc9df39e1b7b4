"""Small rounds of rotations.py; `python -m benchmarks.faults` has the long ones."""

from pathlib import Path

from tests.faults import rotations
from tests.faults.report import run_small
from tests.faults.warm import Warm


def test_a_step_that_is_killed_is_taken_or_not_taken(tmp_path: Path, warm: Warm) -> None:
    run_small(rotations.steps_killed, tmp_path, warm)


def test_every_host_follows_a_rotation_in_which_auth_is_killed(tmp_path: Path, warm: Warm) -> None:
    run_small(rotations.hosts_follow, tmp_path, warm)
