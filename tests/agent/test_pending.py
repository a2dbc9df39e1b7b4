"""Keys of a join that was asked for and not answered."""

import os
from pathlib import Path

import pytest

from teleport_lite.agent.join import Keys
from teleport_lite.agent.pending import FILE, PendingKeys
from teleport_lite.errors import Denied
from teleport_lite.secret import Secret
from teleport_lite.testing.makers import TOKEN


def keeper(home: Path, token: str = TOKEN) -> PendingKeys:
    return PendingKeys(home, Secret(token))


def test_the_keys_of_this_token_come_back(tmp_path: Path) -> None:
    home, keys = tmp_path / "data", Keys.new()
    keeper(home).keep(keys)
    assert keeper(home).take() == keys
    assert (home / FILE).stat().st_mode & 0o777 == 0o600
    assert TOKEN not in (home / FILE).read_text()


def test_another_token_gets_new_keys(tmp_path: Path) -> None:
    keys = Keys.new()
    keeper(tmp_path / "data").keep(keys)
    assert keeper(tmp_path / "data", "another-token-of-ours").take() != keys


@pytest.mark.parametrize("raw", [b"", b"{}", b"x" * 99_999])
def test_what_cannot_be_read_is_no_reason_not_to_join(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / FILE).write_bytes(raw)
    (tmp_path / FILE).chmod(0o600)
    assert isinstance(keeper(tmp_path).take(), Keys)


def test_looking_makes_nothing(tmp_path: Path) -> None:
    keeper(tmp_path / "data").take()
    keeper(tmp_path / "data").drop()
    assert os.listdir(tmp_path) == []


def test_what_it_made_is_gone_when_the_answer_is_there(tmp_path: Path) -> None:
    kept = keeper(tmp_path / "data")
    kept.keep(Keys.new())
    kept.drop()
    assert os.listdir(tmp_path) == []


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    home = tmp_path / "data"
    home.mkdir(mode=0o700)
    kept = keeper(home)
    kept.keep(Keys.new())
    kept.drop()
    assert os.listdir(home) == []
    kept.keep(Keys.new())
    (home / "identity.json").write_text("x")
    kept.drop()
    assert os.listdir(home) == ["identity.json"]


def test_a_directory_that_others_can_enter_gets_no_keys(tmp_path: Path) -> None:
    home = tmp_path / "data"
    home.mkdir()
    home.chmod(0o755)
    with pytest.raises(Denied, match="has mode 0755"):
        keeper(home).keep(Keys.new())
