"""A further auth server: join, keyring, and everything that is in the way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.agent import identity as identities
from teleport_lite.auth.keyring import KeyringDesk
from teleport_lite.config.model import Config
from teleport_lite.config.token_source import TokenSource
from teleport_lite.daemon.further import check_storage, fetch_keyring, needs_keyring
from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.testing.makers import TOKEN
from tests.agent.rig import Auth
from tests.daemon.configs import a_config
from tests.support import free_port

TEXT = b"teleport-lite keyring v1\nof the first\n"


@pytest.fixture
def auth() -> Any:
    with Auth() as running:
        desks = running.bench.desks
        keyrings = KeyringDesk(store=desks.store, trail=desks.trail, keyring=lambda: TEXT)
        object.__setattr__(desks, "keyrings", keyrings)
        yield running


def further(home: Path, *servers: str, token: str = TOKEN, **changes: Any) -> Config:
    config = a_config(home, auth_servers=servers)
    storage = replace(config.storage, type="postgresql")
    source = TokenSource.parse(token) if token else None
    return replace(config, storage=storage, token=source, **changes)


def test_it_joins_and_has_the_keyring_where_it_belongs(auth: Auth, tmp_path: Path) -> None:
    auth.bench.token("auth")
    config = further(tmp_path, auth.address)
    assert needs_keyring(config)
    fetch_keyring(config, (auth.pin,), auth.bench.clock)
    place = config.storage.keyring
    assert (place.read_bytes(), place.stat().st_mode & 0o777) == (TEXT, 0o600)
    me = identities.load(config.data_dir)
    assert me is not None
    assert me.roles == ("Auth",)
    assert auth.bench.last_event("cluster.keyring").facts["host_id"] == me.host_id
    assert not needs_keyring(config)


def test_a_crash_in_between_costs_no_second_token(auth: Auth, tmp_path: Path) -> None:
    auth.bench.token("auth")
    config = further(tmp_path, auth.address)
    fetch_keyring(config, (auth.pin,), auth.bench.clock)
    config.storage.keyring.unlink()
    again = further(tmp_path, auth.address, token="")
    assert needs_keyring(again)
    fetch_keyring(again, (auth.pin,), auth.bench.clock)
    assert config.storage.keyring.read_bytes() == TEXT


def test_a_token_for_nodes_makes_no_auth_server(auth: Auth, tmp_path: Path) -> None:
    auth.bench.token("node")
    config = further(tmp_path, auth.address)
    with pytest.raises(Denied, match='does not allow "Auth" role'):
        fetch_keyring(config, (auth.pin,), auth.bench.clock)
    assert not config.storage.keyring.exists()


def test_the_next_server_is_asked(auth: Auth, tmp_path: Path) -> None:
    auth.bench.token("auth")
    config = further(tmp_path, f"127.0.0.1:{free_port()}", auth.address)
    fetch_keyring(config, (auth.pin,), auth.bench.clock)
    assert config.storage.keyring.exists()


def test_with_nobody_there_it_says_how_the_first_one_is_started(tmp_path: Path) -> None:
    config = further(tmp_path, f"127.0.0.1:{free_port()}")
    with Auth() as auth, pytest.raises(Unavailable) as why:
        fetch_keyring(config, (), auth.bench.clock)
    assert "leave out --token to run the first" in why.value.hint


def test_who_has_the_keyring_or_nothing_to_show_is_the_first(tmp_path: Path) -> None:
    config = further(tmp_path, token="")
    assert not needs_keyring(config)
    config.storage.keyring.write_bytes(TEXT)
    assert not needs_keyring(further(tmp_path))


def test_sqlite_is_not_shared(tmp_path: Path) -> None:
    config = further(tmp_path)
    check_storage(config)
    with pytest.raises(Malformed, match="storage that it shares"):
        check_storage(replace(config, storage=replace(config.storage, type="sqlite")))
