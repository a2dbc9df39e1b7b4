"""The keyring of auth opens as the config says, or auth does not start."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from teleport_lite.config.model import PluginsConfig
from teleport_lite.config.passphrase import PassphraseSource
from teleport_lite.daemon import custody
from teleport_lite.daemon.auth_role import AuthRole
from teleport_lite.daemon.custody import custody_of
from teleport_lite.errors import Denied, NotFound, Unavailable
from teleport_lite.pki.seal import Keyring, way_of
from teleport_lite.plugin.builtin import builtin_book, seat_builtin
from teleport_lite.plugin.guests import Guests
from teleport_lite.testing.fakes import FakeChance, FakeClock
from tests.daemon.configs import a_config
from tests.plugin import keeper

WORDS = "correct horse battery staple"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real cost of a passphrase takes a third of a second; tests/pki has it."""
    monkeypatch.setattr(custody, "Custody", partial(custody.Custody, cost=4))


def a_role(home: Path, guests: Guests | None = None, **storage: object) -> AuthRole:
    """Auth with a config that says `storage` about its keyring."""
    config = a_config(home)
    settings = {"keeper": {"master": str(home / "master")}}
    config = replace(
        config,
        storage=replace(config.storage, **storage),
        plugins=PluginsConfig(settings=settings),
    )
    return AuthRole(
        config,
        builtin_book(),
        clock=FakeClock.here(),
        chance=FakeChance(),
        own_uid=0,
        custody=custody_of(config, guests or seat_builtin(Guests())),
    )


def words_of(home: Path, text: str = WORDS) -> PassphraseSource:
    path = home / "words"
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return PassphraseSource.parse(str(path))


def test_a_new_keyring_is_sealed_at_once_and_opens_at_the_next_start(tmp_path, caplog):
    source = words_of(tmp_path)
    role = a_role(tmp_path, keyring_passphrase=source)
    cas = role.store.cas()
    role.store.close()
    assert way_of(tmp_path / "keyring") == "passphrase"
    again = a_role(tmp_path, keyring_passphrase=source)
    assert again.store.cas() == cas
    again.store.close()
    assert "keyring" not in caplog.text


def test_without_the_passphrase_auth_does_not_start_and_makes_nothing_new(tmp_path):
    a_role(tmp_path, keyring_passphrase=words_of(tmp_path)).store.close()
    before = (tmp_path / "keyring").read_bytes()
    with pytest.raises(Denied, match="sealed under a passphrase, and none is given"):
        a_role(tmp_path)
    with pytest.raises(Denied, match="the passphrase is another one"):
        a_role(tmp_path, keyring_passphrase=words_of(tmp_path, "another long passphrase"))
    source = words_of(tmp_path)
    (tmp_path / "words").unlink()
    with pytest.raises(NotFound, match="words does not exist"):
        a_role(tmp_path, keyring_passphrase=source)
    assert (tmp_path / "keyring").read_bytes() == before


def test_an_open_keyring_is_used_and_warned_of(tmp_path, caplog):
    a_role(tmp_path).store.close()
    assert caplog.text == ""
    a_role(tmp_path, keyring_passphrase=words_of(tmp_path)).store.close()
    assert "is sealed by: plain, the configuration says: passphrase; tctl keyring seal" in (
        caplog.text
    )
    assert WORDS not in caplog.text
    assert way_of(tmp_path / "keyring") == "plain"


def test_a_plugin_opens_it_and_its_being_away_stops_the_start(tmp_path):
    (tmp_path / "master").write_bytes(b"m")
    guests = seat_builtin(Guests())
    guests.seat("keeper", keeper, source="test")
    a_role(tmp_path, guests, keyring_plugin="keeper").store.close()
    assert way_of(tmp_path / "keyring") == "plugin keeper"
    a_role(tmp_path, guests, keyring_plugin="keeper").store.close()
    (tmp_path / "master").unlink()
    with pytest.raises(Unavailable, match="the keeper can not be asked"):
        a_role(tmp_path, guests, keyring_plugin="keeper")
    with pytest.raises(NotFound, match="plugin keeper is to keep the key"):
        a_role(tmp_path, keyring_plugin="keeper")


def test_a_key_that_is_put_into_the_file_is_used_by_a_running_auth(tmp_path):
    role = a_role(tmp_path)
    ring = Keyring.load(tmp_path / "keyring")
    fresh = Keyring.new()
    ring.added(fresh).preferring(fresh.ids[0]).save(tmp_path / "keyring")
    found = role.desks.reseals
    assert list(found.look()["rows"]) == [ring.ids[0]]
    found._refresh()
    role.store.write(lambda tx: tx.reseal())
    assert list(found.look()["rows"]) == [fresh.ids[0]]
    role.store.close()
