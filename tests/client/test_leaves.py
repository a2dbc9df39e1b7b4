"""Leaf clusters in a profile: whom to believe there, and who one is."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.cli.tsh.quick import _read
from teleport_lite.client import profile
from teleport_lite.client.facts import Facts
from teleport_lite.client.identity_file import IdentityFile
from teleport_lite.client.leaf_proof import proof_by_file
from teleport_lite.client.leaves import (
    Leaf,
    at_leaf,
    at_leaf_in,
    keep,
    keep_in,
    known,
    leaves_of,
    place_of_file,
)
from teleport_lite.client.person import by_profile
from teleport_lite.client.profile import Files, Profile
from teleport_lite.errors import Malformed, NotFound
from teleport_lite.pki.proof import proved
from teleport_lite.testing.certs import PaperCluster

ME = Profile(
    proxy="localhost", user="alice", cluster="root.example", web_proxy_addr="localhost:3080"
)


@pytest.fixture(scope="module")
def root() -> PaperCluster:
    return PaperCluster("root.example")


@pytest.fixture(scope="module")
def away() -> PaperCluster:
    return PaperCluster("leaf.test")


@pytest.fixture
def home(tmp_path: Path, root: PaperCluster) -> Path:
    papers = root.user("alice")
    profile.save(
        tmp_path,
        ME,
        IdentityFile(
            cluster=root.name,
            ssh_private=papers.ssh_private,
            ssh_cert=papers.ssh_cert,
            tls_private=papers.tls_private,
            tls_cert=papers.tls_cert,
            ssh_host_cas=(root.host_ca.public.ssh_key,),
            host_cas=tuple(root.host_cas),
        ),
    )
    return tmp_path


def a_leaf(cluster: PaperCluster, **changes: Any) -> Leaf:
    fields: dict[str, Any] = {
        "name": cluster.name,
        "status": "online",
        "labels": {},
        "host_cas": tuple(cluster.host_cas),
        "ssh_host_cas": (cluster.host_ca.public.ssh_key,),
    }
    return Leaf(**(fields | changes))


def test_the_way_to_a_leaf_is_by_our_proxy_and_its_own_cas(
    home: Path, root: PaperCluster, away: PaperCluster
) -> None:
    keep(home, ME, [a_leaf(away)])
    person = at_leaf(by_profile(home, ME), home, ME, "LEAF.test")
    assert (person.cluster, person.root, person.through()) == (
        "leaf.test",
        "root.example",
        "localhost:3080",
    )
    assert [ca.strip() for ca in person.host_cas] == [ca.strip() for ca in away.host_cas]
    assert [ca.strip() for ca in person.proxy_cas] == [ca.strip() for ca in root.host_cas]
    assert person.ssh.known_hosts.read_text() == (
        f"@cert-authority *.leaf.test {away.host_ca.public.ssh_key}\n"
    )
    # A leaf vouches for its own nodes alone.
    everything = Files(home, ME).all_known_hosts.read_text()
    assert away.host_ca.public.ssh_key not in everything
    own = Files(home, ME).known_hosts.read_text()
    assert away.host_ca.public.ssh_key not in own


def test_what_the_cluster_does_not_tell_of_any_more_is_forgotten(
    home: Path, away: PaperCluster
) -> None:
    keep(home, ME, [a_leaf(away), a_leaf(PaperCluster("other.test"))])
    assert known(home, ME) == ["leaf.test", "other.test"]
    keep(home, ME, [a_leaf(away)])
    assert known(home, ME) == ["leaf.test"]
    with pytest.raises(NotFound, match=r"cluster other\.test is not known"):
        at_leaf(by_profile(home, ME), home, ME, "other.test")
    assert sorted(path.name for path in Files(home, ME).cas.parent.iterdir()) == [
        "leaf.test.known_hosts",
        "leaf.test.leaf",
        "leaf.test.pem",
        "root.example.known_hosts",
        "root.example.pem",
    ]


def test_logging_out_forgets_them(home: Path, away: PaperCluster) -> None:
    keep(home, ME, [a_leaf(away)])
    profile.remove(home, ME)
    assert not (home / "keys" / "localhost").exists()


def test_a_leaf_can_not_take_the_place_of_the_cluster_itself(
    home: Path, root: PaperCluster
) -> None:
    before = Files(home, ME).known_hosts.read_text()
    keep(home, ME, [a_leaf(PaperCluster("x"), name="ROOT.example")])
    assert Files(home, ME).known_hosts.read_text() == before
    assert known(home, ME) == []


@pytest.mark.parametrize(
    "line",
    [
        "ssh-ed25519 AAAA\n@cert-authority * ssh-ed25519 AAAA",
        "* ssh-ed25519 AAAA",
        "command=x ssh-ed25519 AAAA",
        "",
    ],
)
def test_nothing_but_keys_gets_into_a_known_hosts_file(
    home: Path, away: PaperCluster, line: str
) -> None:
    keep(home, ME, [a_leaf(away, ssh_host_cas=(line, away.host_ca.public.ssh_key))])
    text = (Files(home, ME).cas.parent / "leaf.test.known_hosts").read_text()
    assert text == f"@cert-authority *.leaf.test {away.host_ca.public.ssh_key}\n"


def test_names_that_are_none_are_passed_over() -> None:
    said: dict[str, Any] = {
        "name": "../../x",
        "status": "online",
        "labels": {},
        "host_cas": [],
        "ssh_host_cas": [],
    }
    assert leaves_of(Facts({"clusters": [said]}, "auth")) == []
    with pytest.raises(Malformed):
        leaves_of(Facts({"clusters": [{"name": 1}]}, "auth"))


def test_every_ssh_to_a_leaf_proves_who_one_is(
    home: Path, root: PaperCluster, away: PaperCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tsh proxy ssh` reads files and asks nobody: root's CAs for the proxy, and a proof."""
    monkeypatch.setenv("TELEPORT_HOME", str(home))
    keep(home, ME, [a_leaf(away)])
    words = ["--proxy=localhost:3080", "--cluster=leaf.test", "--user=alice", "root@db-1:22"]
    found = _read(words)
    assert found is not None
    tls, cas, _, _ = found
    assert cas.endswith("/cas/root.example.pem")
    asked = {"host": "db-1", "port": 22, "login": "root", "cluster": "leaf.test"}
    peer = proved(
        proof_by_file(asked, tls),
        roots=[_Root("root.example", root.user_cas, [])],
        leaf="leaf.test",
        words=("db-1", "22", "root"),
        now=datetime.now(UTC),
    )
    assert peer.name == "alice"
    own = _read([words[0], "--cluster=root.example", *words[2:]])
    assert own is not None
    assert own[1] == cas


class _Root:
    def __init__(self, cluster: str, user_cas: list[str], ssh_user_cas: list[str]) -> None:
        self.cluster, self.user_cas, self.ssh_user_cas = cluster, user_cas, ssh_user_cas


def test_who_has_an_identity_file_keeps_leaves_by_the_cas_of_the_root(
    tmp_path: Path, root: PaperCluster, away: PaperCluster, home: Path
) -> None:
    """A cluster of the same name, which somebody else has, tells us of nobody."""
    person = by_profile(home, ME)
    place = place_of_file(tmp_path, person)
    keep_in(place, root.name, [a_leaf(away), a_leaf(root)])
    found = at_leaf_in(person, place, "leaf.test")
    assert (found.cluster, found.root) == ("leaf.test", "root.example")
    assert found.ssh.known_hosts.parent == place
    twin = replace(person, host_cas=tuple(PaperCluster("root.example").host_cas))
    with pytest.raises(NotFound, match=r"cluster leaf.test is not known"):
        at_leaf_in(twin, place_of_file(tmp_path, twin), "leaf.test")
    keep_in(place, root.name, [])
    with pytest.raises(NotFound):
        at_leaf_in(person, place, "leaf.test")
