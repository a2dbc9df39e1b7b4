"""A few points of each sweep; `python -m benchmarks.faults` goes to all of them."""

from pathlib import Path

from tests.faults import crashes
from tests.faults.report import run_small
from tests.faults.warm import Warm


def test_a_first_start_that_is_killed_leaves_one_set_of_cas(tmp_path: Path, warm: Warm) -> None:
    run_small(crashes.first_start, tmp_path, warm)


def test_a_first_start_on_a_failing_disk_is_told_in_words_and_can_be_repeated(
    tmp_path: Path, warm: Warm
) -> None:
    run_small(crashes.first_start_errors, tmp_path, warm)


def test_an_acknowledged_change_survives_a_kill_at_any_call(tmp_path: Path, warm: Warm) -> None:
    run_small(crashes.changes_killed, tmp_path, warm)


def test_a_change_that_the_disk_refuses_is_refused_and_can_be_repeated(
    tmp_path: Path, warm: Warm
) -> None:
    run_small(crashes.changes_failed, tmp_path, warm)


def test_a_host_killed_while_it_joins_joins_once_with_the_same_command(
    tmp_path: Path, warm: Warm
) -> None:
    run_small(crashes.identity, tmp_path, warm)
