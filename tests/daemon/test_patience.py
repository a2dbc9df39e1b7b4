"""A host that is up before its cluster is."""

from pathlib import Path

import pytest

from teleport_lite.daemon import patience
from teleport_lite.daemon.notify import Notify
from teleport_lite.daemon.patience import PATIENCE, until_reached
from teleport_lite.errors import Denied, Unavailable
from tests.daemon.systemds import Systemd


class Cluster:
    """Answers after so many tries; each failure has its words."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.tries = list(failures), 0

    def __call__(self) -> None:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)


AWAY = Unavailable("auth.example.com:3025: Connection refused")


def test_it_waits_for_the_cluster_and_says_what_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, pauses = Cluster(AWAY, AWAY, Unavailable("no route to host")), []
    with Systemd(tmp_path, monkeypatch) as systemd:
        until_reached(cluster, Notify(), pause=pauses.append)
        said = systemd.rest()
    assert cluster.tries == 4
    assert pauses == [1.0, 2.0, 4.0]
    assert said[1] == "STATUS=joining the cluster"
    assert caplog.text.count("Connection refused") == 1
    assert caplog.text.count("no route to host") == 1


def test_each_pause_is_told_with_time_enough_for_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Systemd(tmp_path, monkeypatch) as systemd:
        until_reached(Cluster(AWAY), Notify(), pause=lambda _: None)
        said = systemd.rest()
    status = [each for each in said if each.startswith("STATUS=")]
    assert status[-1] == f"STATUS=waiting for the cluster: {AWAY.message}"
    longest = max(int(each.partition("=")[2]) for each in said if each.startswith("EXTEND"))
    assert longest == (patience._ONE_TRY + 1.0) * 1e6


def test_who_waits_for_systemctl_hears_of_it_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, pauses = Cluster(*[AWAY] * 100), []
    with Systemd(tmp_path, monkeypatch) as systemd:

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            systemd.rest()

        with pytest.raises(Unavailable, match="Connection refused"):
            until_reached(cluster, Notify(), pause=pause)
    assert PATIENCE <= sum(pauses) < PATIENCE + 10


def test_who_starts_by_hand_hears_of_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    cluster = Cluster(AWAY)
    with pytest.raises(Unavailable):
        until_reached(cluster, Notify(), pause=pytest.fail)
    assert cluster.tries == 1


def test_who_is_refused_is_not_told_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(Denied("token expired or not found"))
    with Systemd(tmp_path, monkeypatch), pytest.raises(Denied):
        until_reached(cluster, Notify(), pause=pytest.fail)
    assert cluster.tries == 1
