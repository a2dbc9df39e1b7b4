"""What strangers and visitors are shown: text, and never for long."""

import os
from pathlib import Path

import pytest

from teleport_lite.node.notices import MAX_BANNER, banner, nologin, shown


def test_a_banner_is_text_and_not_endless(tmp_path: Path) -> None:
    file = tmp_path / "banner"
    file.write_bytes(b"Hi \xff\x1b]0;x\x07\r\nthere\tyou\n" + b"x" * 100_000)
    said = banner(str(file))
    assert said.startswith("Hi \ufffd?]0;x?\nthere\tyou\nxxx")
    assert len(said) <= MAX_BANNER


@pytest.mark.parametrize("path", ["", "/no/such/file", "/dev/zero", "/etc"])
def test_what_is_no_file_is_no_banner(path: str) -> None:
    assert banner(path) == ""


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert banner(str(tmp_path / "pipe")) == ""


def test_nologin_is_the_first_of_the_files_that_is_there(tmp_path: Path) -> None:
    first, second = tmp_path / "run", tmp_path / "etc"
    assert nologin((first, second)) is None
    second.write_text("Back at noon.\n")
    assert nologin((first, second)) == "Back at noon."
    first.touch()
    assert nologin((first, second)) == "System is going down or not up yet: only root may log in."


def test_nothing_that_a_terminal_obeys_is_shown() -> None:
    assert shown("a\x1b[2Jb\x9bc\x7f\u202ed\n") == "a?[2Jb?c??d\n"
