"""Small rounds of links.py; `python -m benchmarks.faults` has the long ones."""

import os
from pathlib import Path

import pytest

from tests.faults import links
from tests.faults.report import run_small
from tests.faults.warm import Warm

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and namespaces need root")


def test_bits_that_flip_on_the_way_are_an_error_and_never_believed(
    tmp_path: Path, warm: Warm
) -> None:
    run_small(links.bit_flips, tmp_path, warm)


def test_hosts_join_and_stay_over_a_slow_line_that_loses_packets(
    tmp_path: Path, warm: Warm
) -> None:
    run_small(links.slow_link, tmp_path, warm)
