"""Which of the configured addresses are proxies?"""

from pathlib import Path

import pytest

from teleport_lite.agent import ways as module
from teleport_lite.agent.ways import FILE, behind_proxies, find_ways
from teleport_lite.net.way import Way
from tests.agent.rig import Auth
from tests.net.relays import Relay
from tests.support import free_port

OURS = "test.example"


def test_addresses_are_asked_and_the_answer_is_kept(auth: Auth, tmp_path: Path) -> None:
    with Relay(auth.address) as proxy:
        servers = (auth.address, proxy.address)
        found = find_ways(servers, cluster=OURS, data_dir=tmp_path)
        assert found == (Way(auth.address), Way(proxy.address, OURS))
    again = find_ways(servers, cluster=OURS, data_dir=tmp_path)
    assert again == found, "nobody is there, but it was a proxy"
    assert find_ways(servers, cluster="other.example", data_dir=tmp_path)[1] == Way(servers[1])
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_what_a_proxy_was_is_forgotten_when_auth_answers_there(auth: Auth, tmp_path: Path) -> None:
    with Relay(auth.address) as proxy:
        find_ways((proxy.address,), cluster=OURS, data_dir=tmp_path)
        proxy.find = {}
        proxy.cluster = "none-of-ours"
    (tmp_path / FILE).write_text(
        f'{{"cluster": "{OURS}", "proxies": ["{auth.address}", "10.0.0.1:1"]}}'
    )
    assert find_ways((auth.address,), cluster=OURS, data_dir=tmp_path) == (Way(auth.address),)
    assert auth.address not in (tmp_path / FILE).read_text()


def test_who_was_told_does_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_way", lambda *_, **__: pytest.fail("asked"))
    found = find_ways(("p:3080",), cluster=OURS, data_dir=tmp_path, only_proxies=True)
    assert found == (Way("p:3080", OURS),)


def test_a_file_that_can_not_be_read_is_made_anew(auth: Auth, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("garbage")
    assert find_ways((auth.address,), cluster=OURS, data_dir=tmp_path) == (Way(auth.address),)
    away = f"127.0.0.1:{free_port()}"
    assert find_ways((away,), cluster=OURS, data_dir=tmp_path) == (Way(away),)


def test_a_host_is_behind_proxies_when_there_is_no_other_way() -> None:
    straight, through = Way("a:1"), Way("p:1", OURS)
    assert behind_proxies([through, through])
    assert not behind_proxies([through, straight])
    assert not behind_proxies([straight])
    assert not behind_proxies([])
