"""The identity of a host, in one file."""

import json
import os
from pathlib import Path

import pytest

from teleport_lite.agent import identity as identities
from teleport_lite.agent.identity import FILE
from teleport_lite.errors import Denied, Error, Malformed
from tests.agent.rig import an_identity

ME = an_identity()


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    home = tmp_path / "data"
    identities.save(home, ME)
    assert identities.load(home) == ME
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / FILE).stat().st_mode & 0o777 == 0o600


def test_a_host_that_has_not_joined_has_none(tmp_path: Path) -> None:
    assert identities.load(tmp_path / "nowhere") is None
    assert identities.load(tmp_path) is None


def test_saving_again_replaces_it_whole(tmp_path: Path) -> None:
    home = tmp_path / "data"
    identities.save(home, ME)
    other = an_identity()
    identities.save(home, other)
    assert identities.load(home) == other
    assert os.listdir(home) == [FILE]


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"{}", b"[]", b'{"cluster": 1}', b"\xff" * 100, b"{" * 300_000]
)
def test_a_damaged_one_is_told_and_never_shown(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / FILE).write_bytes(raw)
    (tmp_path / FILE).chmod(0o600)
    with pytest.raises(Malformed) as why:
        identities.load(tmp_path)
    assert str(tmp_path / FILE) in why.value.message


def test_a_damaged_one_does_not_show_its_keys(tmp_path: Path) -> None:
    identities.save(tmp_path / "data", ME)
    path = tmp_path / "data" / FILE
    doc = json.loads(path.read_text())
    del doc["cluster"]
    path.write_text(json.dumps(doc))
    with pytest.raises(Malformed) as why:
        identities.load(tmp_path / "data")
    assert "PRIVATE" not in why.value.message + why.value.log


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o666])
def test_one_that_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    identities.save(tmp_path / "data", ME)
    (tmp_path / "data" / FILE).chmod(mode)
    with pytest.raises(Denied, match=f"has mode {mode:04o}") as why:
        identities.load(tmp_path / "data")
    assert why.value.hint.startswith("chmod 600")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    identities.save(tmp_path / "data", ME)
    home = tmp_path / "other"
    home.mkdir(mode=0o700)
    (home / FILE).symlink_to(tmp_path / "data" / FILE)
    with pytest.raises(Error):
        identities.load(home)


def test_a_directory_that_others_can_enter_gets_none(tmp_path: Path) -> None:
    home = tmp_path / "data"
    home.mkdir()
    home.chmod(0o755)
    with pytest.raises(Denied, match="has mode 0755"):
        identities.save(home, ME)


def test_old_ones_are_kept_under_the_first_free_number(tmp_path: Path) -> None:
    home = tmp_path / "data"
    for number in (1, 2, 3):
        identities.save(home, ME)
        assert identities.set_aside(home) == home / f"{FILE}.old-{number}"
    assert identities.load(home) is None
    assert (home / f"{FILE}.old-3").stat().st_mode & 0o777 == 0o600


def test_printing_it_shows_no_key() -> None:
    assert "PRIVATE" not in repr(ME)


def test_when_it_was_written_is_known(tmp_path: Path) -> None:
    identities.save(tmp_path / "data", ME)
    os.utime(tmp_path / "data" / FILE, (1_000_000_000, 1_000_000_000))
    assert identities.written_at(tmp_path / "data").timestamp() == 1_000_000_000
