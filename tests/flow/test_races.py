"""What must hold when many ask at once. What if auth dies meanwhile: tests/faults."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.cluster import Cluster

RACERS = [sys.executable, str(Path(__file__).parent / "racers.py")]
REPO = Path(__file__).parent.parent.parent


@pytest.fixture
def cluster(tmp_path: Path):
    with Cluster(tmp_path) as running:
        yield running


def test_of_200_processes_that_race_for_one_bot_token_exactly_one_joins(cluster: Cluster) -> None:
    token = cluster.token("bot")
    done = subprocess.run(
        [*RACERS, cluster.address, token, "200"],
        env={**cluster.env, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 200, done.stderr
    assert sum(line.startswith("joined") for line in lines) == 1
    others = [line for line in lines if not line.startswith("joined")]
    assert all("token expired or not found" in line for line in others), others[:3]
    assert len([e for e in cluster.events("instance.join") if e["outcome"] == "ok"]) == 1
