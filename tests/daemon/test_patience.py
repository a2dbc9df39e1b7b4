"""A host that is up before its cluster is."""

from pathlib import Path

import pytest

from teleport_lite.agent.rotation import BEHIND
from teleport_lite.cli.exit import CODE
from teleport_lite.daemon import patience
from teleport_lite.daemon.notify import Notify
from teleport_lite.daemon.patience import PATIENCE, has_served, not_for_good, until_reached
from teleport_lite.errors import (
    Conflict,
    Denied,
    Error,
    Malformed,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from teleport_lite.release import assets
from teleport_lite.release.systemd import DAEMONS
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


# Who has served is started again, whatever refuses it


@pytest.mark.parametrize("kind", [Denied, NotFound, Unauthenticated, Unavailable])
def test_a_refusal_is_not_for_good_with_the_same_words(kind: type[Error]) -> None:
    with pytest.raises(Unavailable) as why, not_for_good():
        raise kind("the clock is wrong", hint="set it")
    assert (why.value.message, why.value.hint) == ("the clock is wrong", "set it")


def test_what_is_wrong_with_the_settings_is_said_as_it_is() -> None:
    with pytest.raises(Malformed), not_for_good():
        raise Malformed("no role is enabled")


def test_auth_and_whoever_has_joined_have_served(tmp_path: Path) -> None:
    assert has_served(tmp_path, ("Auth", "Proxy"))
    assert not has_served(tmp_path, ("Node",))
    (tmp_path / "identity.json").touch()
    assert has_served(tmp_path, ("Node",))


def test_systemd_stops_after_a_refusal_and_after_nothing_else_that_time_may_mend() -> None:
    """What RestartPreventExitStatus= of the units stands for."""
    final = {code for kind, code in CODE.items() if kind not in (Malformed, Conflict, Unavailable)}
    assert final == {3, 4}
    for name in DAEMONS:
        unit = assets.text(f"systemd/{name}")
        assert "\nRestartPreventExitStatus=2 3 4\n" in unit
        assert "\nStartLimitIntervalSec=0\n" in unit


def test_who_missed_a_rotation_asks_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why = Denied("the host CA was rotated on 2026-03-01 12:30 UTC", log=BEHIND)
    cluster, pauses = Cluster(*[why] * 9), []

    def attempt() -> None:
        with not_for_good():
            cluster()

    with Systemd(tmp_path, monkeypatch), pytest.raises(Unavailable, match="was rotated"):
        until_reached(attempt, Notify(), pause=pauses.append)
    assert (cluster.tries, pauses) == (2, [PATIENCE])
