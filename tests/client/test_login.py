"""Logging in through a proxy: who is believed, and what is never sent."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite import __version__
from teleport_lite.ambient import SystemChance, SystemClock
from teleport_lite.client.login import LoggedIn, LoginRequest, login
from teleport_lite.client.papers import public_line, read_papers
from teleport_lite.client.ping import ping
from teleport_lite.errors import Denied, Malformed, Unavailable
from teleport_lite.pki.pin import pin_of
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster
from tests.client.fake_proxy import CLUSTER, PASSWORD, FakeProxy, running, trust
from tests.support import free_port


@pytest.fixture
def proxy() -> Iterator[FakeProxy]:
    with running(FakeProxy()) as made:
        yield made


def never() -> Secret:
    raise AssertionError("the password was asked for")


def enter(
    proxy: FakeProxy, password: str | Callable[[], Secret] = PASSWORD, **changes: Any
) -> LoggedIn:
    request: dict[str, Any] = {
        "proxy": proxy.address,
        "user": "alice",
        "password": (lambda: Secret(password)) if isinstance(password, str) else password,
        "clock": SystemClock(),
        "chance": SystemChance(),
    }
    return login(LoginRequest(**{**request, **changes}))


def test_a_password_becomes_certificates(
    proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust(monkeypatch, proxy, tmp_path)
    found = enter(proxy)
    papers = read_papers(found.credentials.ssh_cert, "x")
    assert (papers.user, papers.roles, papers.logins) == ("alice", ("access",), ("root",))
    assert papers.traits == {"logins": ("root",)}
    assert found.credentials.cluster == CLUSTER
    assert found.ping.ssh_addr == "localhost:3023"
    assert "OPENSSH PRIVATE KEY" in found.credentials.ssh_private.reveal()


def test_neither_proxy_nor_auth_ever_see_the_password_or_a_key(proxy: FakeProxy) -> None:
    found = enter(proxy, pins=(proxy.pin,))
    assert proxy.seen
    for secret in (PASSWORD, "PRIVATE KEY", found.credentials.tls_private.reveal()):
        assert secret.encode() not in proxy.seen


def test_a_cluster_that_does_not_understand_us_any_more_says_how_to_upgrade(
    proxy: FakeProxy,
) -> None:
    proxy.ping = {"server_version": "3.1.0", "min_client_version": "2.0.0"}
    with pytest.raises(Denied) as caught:
        enter(proxy, never, pins=(proxy.pin,))
    assert caught.value.message == (
        f"{proxy.address} runs teleport-lite 3.1.0 and understands clients from 2.0.0 on; "
        f"this one is {__version__}"
    )
    assert caught.value.hint == f"curl -fsSL https://{proxy.address}/install.sh | bash"
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("version", "warnings"), [("1.0.0", 1), ("0.9.0", 0), ("of a fork", 0), ("", 0)]
)
def test_another_major_is_said_and_goes_on(proxy: FakeProxy, version: str, warnings: int) -> None:
    proxy.ping = {"server_version": version, "min_client_version": "x\x1b"}
    said: list[str] = []
    assert enter(proxy, pins=(proxy.pin,), say=said.append).user == "alice"
    assert len(said) == warnings
    assert all(f"newer by 1 major than this {__version__}" in each for each in said)


def test_a_web_certificate_nobody_vouches_for_ends_it_with_the_ways_out(proxy: FakeProxy) -> None:
    with pytest.raises(Denied) as caught:
        enter(proxy, never)
    assert f"{proxy.address} shows a certificate that nothing here vouches for" in (
        caught.value.message
    )
    assert "--ca-pin" in caught.value.hint
    assert "--insecure" in caught.value.hint
    assert proxy.asked == []


def test_a_pin_is_enough_to_know_the_cluster(proxy: FakeProxy) -> None:
    assert enter(proxy, pins=(proxy.pin,)).user == "alice"


def test_a_wrong_pin_is_refused_before_the_password_is_asked(proxy: FakeProxy) -> None:
    with pytest.raises(Denied, match="does not have the pinned CA"):
        enter(proxy, never, pins=("sha256:" + "0" * 64,))
    with pytest.raises(Denied, match="does not have the pinned CA"):
        enter(proxy, never, pins=("sha256:" + "0" * 64,), insecure=True)


def test_an_earlier_login_vouches_for_the_next(proxy: FakeProxy) -> None:
    assert enter(proxy, known_cas=tuple(proxy.cluster.host_cas)).user == "alice"
    other = PaperCluster(CLUSTER)
    with pytest.raises(Denied, match="another CA"):
        enter(proxy, never, known_cas=tuple(other.host_cas))


def test_a_web_certificate_does_not_outweigh_an_earlier_login(
    proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A proxy that was broken into has one, tells pins of its own and poses as auth."""
    trust(monkeypatch, proxy, tmp_path)
    before = PaperCluster(CLUSTER)
    with pytest.raises(Denied, match="than the one you logged in to before"):
        enter(proxy, never, known_cas=tuple(before.host_cas))


def rotated_away(proxy: FakeProxy) -> PaperCluster:
    """The generation before the one that the proxy shows."""
    before = PaperCluster(CLUSTER)
    gone = {"pin": pin_of(before.host_cas[0]), "at": 1772368200.0}
    proxy.answers["/v1/ca"] = {**proxy._bundle({}), "retired": [gone]}
    return before


def test_after_a_rotation_the_web_certificate_vouches_as_the_first_time(
    proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust(monkeypatch, proxy, tmp_path)
    said: list[str] = []
    before = rotated_away(proxy)
    assert enter(proxy, known_cas=tuple(before.host_cas), say=said.append).user == "alice"
    assert any(f"the host CA of cluster {CLUSTER} was rotated on 2026-03-01" in it for it in said)
    proxy.ping = {"ca_pins": ["sha256:" + "1" * 64]}
    with pytest.raises(Denied):
        enter(proxy, never, known_cas=tuple(before.host_cas))


def test_after_a_rotation_a_proxy_that_nobody_vouches_for_is_not_enough(proxy: FakeProxy) -> None:
    before = rotated_away(proxy)
    with pytest.raises(Denied, match="was rotated on 2026-03-01 12:30 UTC, and nothing here") as no:
        enter(proxy, never, known_cas=tuple(before.host_cas))
    assert "--ca-pin" in no.value.hint
    assert enter(proxy, known_cas=tuple(before.host_cas), pins=(proxy.pin,)).user == "alice"


def test_in_the_middle_of_a_rotation_the_old_ca_vouches(proxy: FakeProxy) -> None:
    new = PaperCluster(CLUSTER)
    both = [*proxy.cluster.host_cas, *new.host_cas]
    proxy.answers["/v1/ca"] = {**proxy._bundle({}), "host_cas": both}
    proxy.welcome = {"host_cas": both}
    found = enter(proxy, known_cas=tuple(proxy.cluster.host_cas))
    assert found.credentials.host_cas == tuple(both)


def test_a_verified_proxy_that_leads_elsewhere_is_refused(
    proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust(monkeypatch, proxy, tmp_path)
    proxy.ping = {"ca_pins": ["sha256:" + "1" * 64]}
    with pytest.raises(Denied, match="with another CA than it says"):
        enter(proxy, never)
    proxy.ping = {"ca_pins": []}
    with pytest.raises(Denied, match="does not say which CA"):
        enter(proxy, never)


def test_insecure_takes_what_is_shown(proxy: FakeProxy) -> None:
    proxy.ping = {"ca_pins": []}
    assert enter(proxy, insecure=True).user == "alice"


def test_who_does_not_know_the_password_can_not_pose_as_the_cluster(proxy: FakeProxy) -> None:
    proxy.welcome = {"server_final": "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
    with pytest.raises(Denied, match="could not prove that it knows the password"):
        enter(proxy, insecure=True)


def test_a_wrong_password_is_told_in_the_servers_words(proxy: FakeProxy) -> None:
    with pytest.raises(Denied, match="user name or password is wrong"):
        enter(proxy, "guess", pins=(proxy.pin,))


def test_a_clock_that_is_off_is_told_before_the_password_is_asked(proxy: FakeProxy) -> None:
    proxy.skew = 3600
    with pytest.raises(Denied, match=r"the clock of this machine is (0:59|1:00):\d\d behind"):
        enter(proxy, never, pins=(proxy.pin,))


@pytest.mark.parametrize("what", ["user", "cluster", "CA", "SSH CA"])
def test_certificates_of_somebody_else_are_not_taken(proxy: FakeProxy, what: str) -> None:
    other = PaperCluster(CLUSTER)
    proxy.welcome = {
        "user": {"user": "bob"},
        "cluster": {"cluster": "other.example.com"},
        "CA": {"host_cas": other.host_cas},
        "SSH CA": {"ssh_host_cas": []},
    }[what]
    with pytest.raises(Malformed, match=f"certificates of the wrong {what}"):
        enter(proxy, pins=(proxy.pin,))


def test_a_certificate_for_another_key_is_not_taken(proxy: FakeProxy) -> None:
    bob = proxy.cluster.user("alice")
    proxy.welcome = {"ssh_cert": bob.ssh_cert}
    with pytest.raises(Malformed, match="wrong SSH key"):
        enter(proxy, pins=(proxy.pin,))
    proxy.welcome = {"tls_cert": bob.tls_cert}
    with pytest.raises(Malformed, match="does not fit"):
        enter(proxy, pins=(proxy.pin,))


def test_a_certificate_that_has_ended_is_not_taken(proxy: FakeProxy) -> None:
    proxy.life = timedelta(seconds=-1)
    with pytest.raises(Malformed, match="wrong life"):
        enter(proxy, pins=(proxy.pin,))


def test_a_line_of_known_hosts_can_not_be_smuggled_in(proxy: FakeProxy) -> None:
    key = proxy.cluster.host_ca.public.ssh_key.strip()
    proxy.welcome = {"ssh_host_cas": [f"{key}\n* {key}"]}
    with pytest.raises(Malformed, match="SSH public key"):
        enter(proxy, pins=(proxy.pin,))


def test_weak_stretching_is_refused(proxy: FakeProxy) -> None:
    weak = {"salt": "00" * 16, "time": 1, "memory": 8, "lanes": 1}
    start = proxy._start
    proxy.answers["/v1/login/start"] = lambda body: {**start(body), "stretch": weak}
    with pytest.raises(Malformed, match="argon2id"):
        enter(proxy, pins=(proxy.pin,))
    assert "/v1/login/finish" not in [path for path, _ in proxy.asked]


def test_a_host_that_is_not_auth_can_not_answer_for_it() -> None:
    with running(FakeProxy()) as proxy:
        proxy.contexts["auth"] = proxy.contexts["gate"]
        with pytest.raises(Denied, match="may be intercepting"):
            enter(proxy, pins=(proxy.pin,))


def test_a_key_for_a_single_file_is_one_openssh_finds_there(proxy: FakeProxy) -> None:
    found = enter(proxy, pins=(proxy.pin,), portable=True)
    assert found.credentials.ssh_private.reveal().startswith("-----BEGIN PRIVATE KEY-----")
    assert public_line(found.credentials.ssh_cert).startswith("ecdsa-sha2-nistp256 ")


def test_a_port_nobody_listens_on_is_named() -> None:
    address = f"localhost:{free_port()}"
    with pytest.raises(Unavailable, match=address):
        ping(address)


@pytest.mark.parametrize(
    "said", [{"cluster_name": None}, {"cluster_name": "a b"}, {"cluster_name": 7}]
)
def test_an_answer_that_is_no_proxys_is_malformed(proxy: FakeProxy, said: dict[str, Any]) -> None:
    proxy.ping = said
    with pytest.raises(Malformed):
        ping(proxy.address, insecure=True)


def test_pins_and_addresses_of_any_shape_are_read(proxy: FakeProxy) -> None:
    proxy.ping = {"ca_pins": "x", "proxy": {"ssh": {"ssh_public_addr": "a b:c"}}}
    found = ping(proxy.address, insecure=True)
    assert (found.pins, found.ssh_addr, found.verified) == ((), "", False)
