"""Where `install self` puts the program of whom."""

from pathlib import Path

import pytest

from teleport_lite.cli.teleport.install import prefix_of
from teleport_lite.errors import NotFound
from tests.packaging.conftest import NOBODY


def test_root_installs_for_all_and_others_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert prefix_of("") == Path("/usr/local")
    monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert prefix_of("") == Path("/home/somebody/.local")
    assert prefix_of("/opt/x") == Path("/opt/x")


def test_who_has_no_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a uid without a name
    with pytest.raises(NotFound, match="HOME is not set"):
        prefix_of("")
