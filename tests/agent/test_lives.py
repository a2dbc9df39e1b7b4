"""Which life of the cluster told this host last."""

import os
from pathlib import Path

import pytest

from teleport_lite.agent import knowledge as lessons
from teleport_lite.agent.lives import Lives
from teleport_lite.proto.stream import Knowledge
from teleport_lite.testing.fakes import FakeClock

ONE, TWO = "1-00000000", "2-11111111"


def known(life: str) -> Knowledge:
    return Knowledge(
        cluster="test.example",
        serial=1,
        host_cas=[],
        ssh_host_cas=[],
        ssh_user_cas=[],
        user_cas=[],
        roles=[],
        locks=[],
        life=life,
    )


def test_who_was_told_nothing_says_nothing(tmp_path: Path) -> None:
    lives = Lives(FakeClock(), tmp_path)
    assert lives.before()[0] == ""


def test_what_was_told_last_is_known_with_the_time_since(tmp_path: Path) -> None:
    clock = FakeClock()
    lives = Lives(clock)
    lives.learnt(known(ONE), "a:3025")
    clock.tick(minutes=5)
    assert lives.before() == (ONE, 300.0)
    lives.heard()
    assert lives.before() == (ONE, 0.0)


def test_a_restart_knows_it_too(tmp_path: Path) -> None:
    clock = FakeClock()
    lessons.save(tmp_path, known(ONE))
    at = clock.now().timestamp() - 60
    os.utime(tmp_path / lessons.FILE, (at, at))
    life, ago = Lives(clock, tmp_path).before()
    assert (life, round(ago)) == (ONE, 60)


def test_another_life_is_said_and_the_same_is_not(caplog: pytest.LogCaptureFixture) -> None:
    lives = Lives(FakeClock())
    for life in (ONE, ONE, "", ONE):
        lives.learnt(known(life), "a:3025")
    assert not caplog.records
    lives.learnt(known(TWO), "b:3025")
    [said] = caplog.records
    assert f"auth server b:3025 is life {TWO} of cluster test.example, and life {ONE}" in (
        said.getMessage()
    )
    assert lives.last == TWO
