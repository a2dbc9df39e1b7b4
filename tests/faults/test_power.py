"""Small rounds of power.py; `python -m benchmarks.faults` has the long ones."""

import os
from pathlib import Path

import pytest

from tests.faults import power
from tests.faults.report import run_small
from tests.faults.warm import Warm

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and namespaces need root")


def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path, warm: Warm) -> None:
    run_small(power.power_cuts, tmp_path, warm)
