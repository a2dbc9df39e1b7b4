"""SIGHUP: what is wrong is said, what a restart would change is named, the log changes at once."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.config.model import Config, LogConfig
from teleport_lite.daemon import logs
from teleport_lite.daemon.process import Process
from teleport_lite.daemon.reload import reload
from teleport_lite.errors import Malformed
from teleport_lite.plugin.builtin import seat_builtin
from teleport_lite.plugin.guests import Guests
from teleport_lite.testing.fakes import FakeChance, FakeClock
from tests.daemon.configs import a_config


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[LogConfig]:
    found: list[LogConfig] = []
    monkeypatch.setattr(logs, "set_up", lambda config, debug: found.append(config))
    return found


@pytest.fixture
def process(tmp_path: Path) -> Process:
    guests = seat_builtin(Guests())
    return Process(a_config(tmp_path), guests, clock=FakeClock.here(), chance=FakeChance())


def told(process: Process, new: Config) -> list[str]:
    words: list[str] = []
    reload(process, lambda: new, words.append)
    return [each.split("\n")[0] for each in words]


def test_systemd_hears_when_it_begins_and_ends(process: Process) -> None:
    assert told(process, process.config) == ["RELOADING=1", "READY=1"]


def test_the_same_again_needs_no_restart(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    told(process, process.config)
    assert "needs no restart" in caplog.text


def test_what_a_restart_would_change_is_named(
    process: Process, caplog: pytest.LogCaptureFixture, used: list[LogConfig]
) -> None:
    old = process.config
    node = replace(old.node, public_addrs=("web-1:3022",), labels={"env": "prod"})
    told(process, replace(old, nodename="other", node=node))
    assert "teleport.nodename, ssh_service.public_addr, ssh_service.labels" in caplog.text
    assert "restart" in caplog.text
    assert process.config is old
    assert used == []


def test_the_log_changes_at_once(process: Process, used: list[LogConfig]) -> None:
    new = LogConfig(severity="DEBUG")
    told(process, replace(process.config, log=new))
    assert used == [new]
    assert process.config.log == new


def test_a_broken_file_changes_nothing_and_is_told(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Config:
        raise Malformed("line 3: no such key", hint="teleport-lite configure --test FILE")

    old, words = process.config, []
    reload(process, broken, words.append)
    assert process.config is old
    assert "stays as it was: line 3: no such key (try: teleport-lite configure" in caplog.text
    assert words[-1] == "READY=1"
