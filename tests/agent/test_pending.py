"""Keys of a join that was asked for and not answered."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.agent import pending
from teleport_lite.agent.join import Keys
from teleport_lite.agent.pending import FILE, RENEWAL_FILE, PendingKeys, PendingRenewal
from teleport_lite.errors import Denied, Unavailable
from teleport_lite.secret import Secret
from teleport_lite.testing.makers import TOKEN
from tests.agent.rig import an_identity


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


# A renewal


def test_a_renewal_is_asked_for_with_the_same_keys_until_it_is_answered(tmp_path: Path) -> None:
    me = an_identity()
    renewal = PendingRenewal(tmp_path, me)
    assert renewal.kept() is None
    keys = renewal.take()
    assert (tmp_path / RENEWAL_FILE).stat().st_mode & 0o777 == 0o600
    assert PendingRenewal(tmp_path, me).take() == renewal.take() == renewal.kept() == keys
    renewal.saved(me)
    assert renewal.kept() == keys, "this identity has other keys"
    renewed = replace(me, ssh_public=keys.ssh_public)
    renewal.saved(renewed)
    assert os.listdir(tmp_path) == []
    assert renewal.take() != keys


def test_keys_that_have_their_answer_are_not_asked_with_again(tmp_path: Path) -> None:
    """Killed after the identity was saved, and before the keys were dropped."""
    me = an_identity()
    keys = PendingRenewal(tmp_path, me).take()
    PendingRenewal(tmp_path, replace(me, ssh_public=keys.ssh_public))
    assert os.listdir(tmp_path) == []


def test_keys_of_another_host_are_not_ours(tmp_path: Path) -> None:
    keys = PendingRenewal(tmp_path, an_identity()).take()
    other = replace(an_identity(), host_id="another")
    assert PendingRenewal(tmp_path, other).take() != keys


def test_a_full_disk_is_no_reason_not_to_renew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Unavailable("no space left on device")

    monkeypatch.setattr(pending, "write_secret", full)
    assert isinstance(PendingRenewal(tmp_path, an_identity()).take(), Keys)
