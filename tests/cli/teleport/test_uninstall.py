"""What `uninstall --purge` takes beside the usual places."""

from pathlib import Path

import pytest

from teleport_lite.cli.teleport import uninstall
from tests.packaging.conftest import NOBODY

CONFIG = """\
version: v3
teleport:
  nodename: here
  data_dir: {root}/data
  storage: {{type: sqlite, path: {root}/big-disk}}
  log: {{output: {root}/log}}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "teleport-lite.yaml"
    file.write_text(CONFIG.format(root=tmp_path))
    monkeypatch.setenv("TELEPORT_LITE_CONFIG", str(file))
    return file


def test_data_is_where_the_configuration_says_and_what_may_hold_more_is_only_told(
    file: Path, tmp_path: Path
) -> None:
    named, others = uninstall._elsewhere(purge=True)
    assert named == [tmp_path / "data", tmp_path / "data.keyring"]
    assert set(others) == {tmp_path / "big-disk", tmp_path / "log"}


def test_a_configuration_that_can_not_be_read_names_nothing_and_that_is_told(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("surprise: [")
    assert uninstall._elsewhere(purge=True) == ([], [])
    assert "what it names that is not in /var/lib/teleport-lite stays" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME"])
def test_the_cache_of_somebody_else_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "link"))
    top = tmp_path / "top"
    cache = top / ".cache/teleport-lite" if variable == "HOME" else top / "teleport-lite"
    (tmp_path / "link").symlink_to(top)  # as a home on another disk
    assert uninstall._own_cache() == []
    cache.mkdir(parents=True)
    assert uninstall._own_cache() == [cache]
    monkeypatch.setattr("os.geteuid", lambda: NOBODY)
    assert uninstall._own_cache() == []


def test_who_has_no_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert uninstall._own_cache() == []
