"""What must hold when many ask at once, and when auth dies while they do."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.cluster import Cluster
from tests.support import eventually

RACERS = [sys.executable, str(Path(__file__).parent / "racers.py")]
# The full round of a release: FLOW_KILLS=50.
KILLS = int(os.environ.get("FLOW_KILLS", "6"))
REPO = Path(__file__).parent.parent.parent


@pytest.fixture
def cluster(tmp_path: Path):
    with Cluster(tmp_path) as running:
        yield running


def test_of_200_processes_that_race_for_one_bot_token_exactly_one_joins(cluster: Cluster) -> None:
    token = cluster.token("bot")
    done = subprocess.run(
        [*RACERS, "race", cluster.address, token, "200"],
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


def test_every_answered_join_survives_kill_9_of_auth(cluster: Cluster, tmp_path: Path) -> None:
    token, answered = cluster.token("app", "--ttl=1h"), tmp_path / "answered"
    chance = random.Random(7)
    flood = subprocess.Popen(
        [*RACERS, "flood", cluster.address, token, "3", str(answered)],
        env={**cluster.env, "PYTHONPATH": str(REPO)},
        stdin=subprocess.PIPE,
    )
    try:
        for _ in range(KILLS):
            before = _count(answered)
            goal = before + chance.randint(1, 25)
            eventually(lambda goal=goal: _count(answered) >= goal, seconds=20, what="joins")
            cluster.auth.stop(signal.SIGKILL)
            cluster.start_auth()
    finally:
        flood.stdin.close()
        flood.wait(timeout=10)
    cluster.auth.stop(signal.SIGKILL)
    with sqlite3.connect(cluster.data / "backend" / "auth.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    cluster.start_auth()
    recorded = [e["host_id"] for e in cluster.events("instance.join") if e["outcome"] == "ok"]
    docs = cluster.json("get", "hosts")
    hosts = {doc["metadata"]["name"] for doc in docs if doc["spec"]["token_id"] != "local"}
    assert set(answered.read_text().split()) <= hosts
    assert set(recorded) == hosts, "a host without its event, or an event without its host"
    assert cluster.json("audit", "verify")["broken_at"] is None


def _count(path: Path) -> int:
    return len(path.read_text().split()) if path.exists() else 0
