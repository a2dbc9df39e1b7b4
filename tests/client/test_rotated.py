"""A profile and a rotation of the host CA: it catches up, or says what it missed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.client import profile
from teleport_lite.client.me import MeClient
from teleport_lite.client.person import by_profile
from teleport_lite.client.profile import Profile
from teleport_lite.client.rotated import refresh, rotated
from teleport_lite.client.transport import Transport
from teleport_lite.errors import Denied, Malformed, Unauthenticated
from teleport_lite.pki.pin import pin_of
from teleport_lite.testing.certs import PaperCluster
from tests.client.fake_proxy import CLUSTER, FakeProxy, running
from tests.client.test_profile import credentials

NEW = PaperCluster(CLUSTER)


@pytest.fixture
def proxy() -> Iterator[FakeProxy]:
    with running(FakeProxy()) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / ".tsh"


def log_in(home: Path, proxy: FakeProxy, cluster: PaperCluster | None = None) -> Profile:
    made = Profile(proxy="localhost", user="alice", cluster=CLUSTER, web_proxy_addr=proxy.address)
    profile.save(home, made, credentials(cluster or proxy.cluster, "alice"))
    return made


def shows(proxy: FakeProxy, *cas: str, retired: PaperCluster | None = None) -> None:
    gone = [{"pin": pin_of(retired.host_cas[0]), "at": 1772368200.0}] if retired else []
    doc = {**proxy._bundle({}), "retired": gone}
    proxy.answers["/v1/ca"] = doc | ({"host_cas": list(cas)} if cas else {})


def test_the_new_ca_is_learnt_while_the_old_one_vouches(proxy: FakeProxy, home: Path) -> None:
    alice = log_in(home, proxy)
    other = Profile(proxy="other.example.com", user="bob", cluster="other.example.com")
    profile.save(home, other, credentials(PaperCluster("other.example.com"), "bob"))
    before = profile.identity(home, alice)
    cas = [*NEW.host_cas, *proxy.cluster.host_cas]
    ssh = [each.host_ca.public.ssh_key for each in (NEW, proxy.cluster)]
    proxy.answers["/v1/me/cas"] = {"host_cas": cas, "ssh_host_cas": ssh}
    assert refresh(home, alice)
    after = profile.identity(home, alice)
    assert {each.strip() for each in after.host_cas} == {each.strip() for each in cas}
    assert len(after.ssh_host_cas) == 2
    assert (after.tls_cert, after.ssh_cert) == (before.tls_cert, before.ssh_cert)
    lines = (home / "known_hosts").read_text().splitlines()
    assert len([line for line in lines if CLUSTER in line]) == 2
    assert len([line for line in lines if "*.other.example.com" in line]) == 1
    current = profile.current(home)
    assert current is not None
    assert current.proxy == "other.example.com", "the one in use stays it"
    assert not refresh(home, alice), "nothing new"


def new_cas(proxy: FakeProxy, meanwhile: Callable[[], object]) -> None:
    """Auth tells of a rotation, and before its answer is here something happens."""

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        meanwhile()
        return {
            "host_cas": [*NEW.host_cas, *proxy.cluster.host_cas],
            "ssh_host_cas": [each.host_ca.public.ssh_key for each in (NEW, proxy.cluster)],
        }

    proxy.answers["/v1/me/cas"] = answer


def test_who_logs_out_while_auth_is_asked_trusts_nobody_afterwards(
    proxy: FakeProxy, home: Path
) -> None:
    alice = log_in(home, proxy)
    new_cas(proxy, lambda: profile.remove(home, alice))
    assert not refresh(home, alice)
    assert [path for path in home.rglob("*") if path.is_file() and path.name != "known_hosts"] == []
    assert (home / "known_hosts").read_text() == ""


def test_a_login_meanwhile_is_not_overwritten_by_what_the_one_before_was_told(
    proxy: FakeProxy, home: Path
) -> None:
    alice, later = log_in(home, proxy), PaperCluster(CLUSTER)
    new_cas(proxy, lambda: log_in(home, proxy, later))
    assert not refresh(home, alice)
    known = [each.strip() for each in profile.identity(home, alice).host_cas]
    assert known == [each.strip() for each in later.host_cas]


@pytest.mark.parametrize(
    "answer",
    [
        {"host_cas": [], "ssh_host_cas": []},
        {"host_cas": ["x"], "ssh_host_cas": [NEW.host_ca.public.ssh_key]},
        {"host_cas": NEW.host_cas, "ssh_host_cas": ["ssh-ed25519 AAAA\n@cert-authority * x"]},
        {"host_cas": ["".join(NEW.host_cas * 2)], "ssh_host_cas": []},
    ],
)
def test_what_is_no_ca_changes_nothing(
    proxy: FakeProxy, home: Path, answer: dict[str, object]
) -> None:
    alice = log_in(home, proxy)
    before = profile.identity(home, alice)
    proxy.answers["/v1/me/cas"] = answer
    with pytest.raises(Malformed):
        refresh(home, alice)
    assert profile.identity(home, alice) == before


def test_who_missed_a_rotation_is_told_when_it_was(proxy: FakeProxy, home: Path) -> None:
    old = PaperCluster(CLUSTER)
    alice = log_in(home, proxy, old)
    shows(proxy, retired=old)
    with pytest.raises(Unauthenticated) as why:
        MeClient(Transport(by_profile(home, alice).door())).me()
    words = f"the host CA of cluster {CLUSTER} was rotated on 2026-03-01 12:30 UTC"
    assert (why.value.message, why.value.hint) == (words, "tsh login")


def test_who_does_not_know_the_new_ca_of_one_that_runs_is_told_so(proxy: FakeProxy) -> None:
    old = PaperCluster(CLUSTER)
    shows(proxy, *old.host_cas, *proxy.cluster.host_cas)
    why = rotated(proxy.address, CLUSTER, old.host_cas)
    assert why is not None
    assert "is being rotated" in why.message
    assert why.hint == "tsh login"


def test_without_a_rotation_it_is_somebody_else(proxy: FakeProxy, home: Path) -> None:
    old = PaperCluster(CLUSTER)
    alice = log_in(home, proxy, old)
    with pytest.raises(Denied, match="is not the auth service of cluster"):
        MeClient(Transport(by_profile(home, alice).door())).me()
    shows(proxy, retired=NEW)
    assert rotated(proxy.address, CLUSTER, old.host_cas) is None
    assert rotated(proxy.address, "other.example.com", NEW.host_cas) is None
    assert rotated(proxy.address, CLUSTER, proxy.cluster.host_cas) is None
    assert rotated("localhost:1", CLUSTER, NEW.host_cas) is None
