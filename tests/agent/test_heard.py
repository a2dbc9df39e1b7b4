"""When auth was last heard, for who is strict about it."""

import errno
import os
import time
from pathlib import Path

import pytest

from teleport_lite.agent import heard
from teleport_lite.agent.heard import FILE, Heard, Silence, silence
from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Unavailable
from teleport_lite.testing.fakes import FakeClock


def test_silence_is_counted_from_the_last_word(tmp_path: Path) -> None:
    clock = FakeClock()
    clock.tick(seconds=100)
    assert silence(tmp_path, clock) is None
    noted = Heard(tmp_path, clock)
    noted.note()
    assert silence(tmp_path, clock) == 0
    clock.tick(seconds=700)
    assert silence(tmp_path, clock) == 700
    inode = (tmp_path / FILE).stat().st_ino
    noted.note()
    assert silence(tmp_path, clock) == 0
    assert (tmp_path / FILE).stat().st_ino == inode, "in place: a full disk has no room for more"


def test_what_was_just_heard_is_not_of_the_future(tmp_path: Path) -> None:
    clock = FakeClock()
    clock.tick(seconds=100.75)
    Heard(tmp_path, clock).note()
    heard_for = silence(tmp_path, clock)
    assert heard_for is not None
    assert 0 <= heard_for < 1


def test_what_could_not_be_kept_is_kept_later_as_it_was(tmp_path: Path) -> None:
    clock = FakeClock()
    noted, at = Heard(tmp_path, clock), clock.monotonic()
    clock.tick(seconds=700)
    noted.note(at)
    assert silence(tmp_path, clock) == 700


def test_a_disk_that_takes_nothing_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = Heard(tmp_path, FakeClock())
    noted.note()

    def fails(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fails)
    with pytest.raises(Unavailable, match=r"can not write .*heard: No space left"):
        noted.note(100.0)


def test_a_clock_that_is_put_back_makes_nothing_new(tmp_path: Path) -> None:
    clock = FakeClock()
    Heard(tmp_path, clock).note()
    clock.tick(seconds=700)
    clock.set(clock.now().replace(year=2001))
    assert silence(tmp_path, clock) == 700


def test_a_host_that_sleeps_hears_nothing_meanwhile(tmp_path: Path) -> None:
    """Nor does a process that has the file open and may not open it any more."""
    clock = FakeClock()
    noted = Heard(tmp_path, clock)
    assert Silence(tmp_path, clock).seconds() is None, "there is no file yet"
    noted.note()
    ear = Silence(tmp_path, clock)
    clock.suspend(hours=8)
    for told in (silence(tmp_path, clock), ear.seconds()):
        assert told == 8 * 3600
    noted.note()
    clock.tick(seconds=5)
    assert ear.seconds() == 5


def test_the_clock_for_it_is_one_that_goes_on_in_suspend() -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0 <= SystemClock().uptime() - now < 60


def test_what_was_heard_before_a_reboot_is_not_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    clock.tick(seconds=1000)
    Heard(tmp_path, clock).note()
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(heard, "_BOOT", tmp_path / "boot")
    assert silence(tmp_path, clock) is None


@pytest.mark.parametrize("content", [b"", b"x", b"a b c", b"\xff", b"1" * 500])
def test_what_can_not_be_read_is_silence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    (tmp_path / FILE).chmod(0o600)
    assert silence(tmp_path, FakeClock()) is None


def test_a_file_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    Heard(tmp_path, FakeClock()).note()
    (tmp_path / FILE).chmod(0o666)
    assert silence(tmp_path, FakeClock()) is None
