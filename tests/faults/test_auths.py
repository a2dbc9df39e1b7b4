"""Small rounds of auths.py; `python -m benchmarks.faults` has the long ones."""

from pathlib import Path

from tests.faults import auths
from tests.faults.report import run_small
from tests.faults.warm import Warm
from tests.postgres import Postgres


def test_one_of_two_auth_servers_is_killed_again_and_again_under_joins(
    tmp_path: Path, warm: Warm, postgres: Postgres
) -> None:
    run_small(auths.two_auths, tmp_path, warm, postgres=postgres)
