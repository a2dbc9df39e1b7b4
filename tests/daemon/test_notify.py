"""What systemd hears, and when: on a paper $NOTIFY_SOCKET."""

import os
import socket
from pathlib import Path

import pytest

from teleport_lite.daemon.notify import Notify
from tests.daemon.systemds import Systemd


def test_it_is_told_in_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Systemd(tmp_path, monkeypatch) as systemd:
        notify = Notify()
        assert notify.there
        notify.ready()
        notify.stopping()
        notify.pet()
        assert systemd.heard(4) == ["READY=1", "STOPPING=1", "STATUS=stopping", "WATCHDOG=1"]


def test_a_status_is_told_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Systemd(tmp_path, monkeypatch) as systemd:
        notify = Notify()
        for words in ("one", "one", "two", "one"):
            notify.status(words)
        notify.ready()
        assert systemd.heard(4) == ["STATUS=one", "STATUS=two", "STATUS=one", "READY=1"]


def test_a_status_can_say_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of strangers are in it, like a host's in an error."""
    with Systemd(tmp_path, monkeypatch) as systemd:
        Notify().status("waiting\nMAINPID=1\0\x1b[2J" + "x" * 1000)
        (said,) = systemd.heard(1)
    assert said.startswith("STATUS=waiting MAINPID=1  [2Jx")
    assert len(said) == len("STATUS=") + 300


def test_a_start_that_waits_asks_for_more_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Systemd(tmp_path, monkeypatch) as systemd:
        notify = Notify()
        notify.wait("waiting for auth", 1.5)
        notify.wait("waiting for auth", 2)
        assert systemd.heard(3) == [
            "EXTEND_TIMEOUT_USEC=1500000",
            "STATUS=waiting for auth",
            "EXTEND_TIMEOUT_USEC=2000000",
        ]


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(socket, "socket", None)
    notify = Notify()
    assert not notify.there
    notify.ready()
    notify.status("x")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": ""}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_for_whom_it_says(
    environ: dict[str, str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NOTIFY_SOCKET": "/x", **environ}.items():
        monkeypatch.setenv(name, value)
    assert Notify().watchdog == seconds
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert Notify().watchdog == 0.0
