"""Whose certificate is it, when several clusters are trusted; and the signed wish."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from teleport_lite.errors import Conflict, Denied, Malformed
from teleport_lite.pki.foreign import CaSet, check_cas, foreign_peer, host_of, root_of
from teleport_lite.pki.keys import new_ssh_key, ssh_blob
from teleport_lite.pki.proof import LIFE, MAX_PROOF, prove, proved
from teleport_lite.testing.certs import PaperCluster, Papers

WORDS = ("db-1", "22", "root")


@dataclass(frozen=True, slots=True)
class Root:
    cluster: str
    user_cas: list[str]
    ssh_user_cas: list[str]


def root_word(cluster: PaperCluster, name: str = "") -> Root:
    return Root(name or cluster.name, cluster.user_cas, [cluster.user_ca.public.ssh_key])


@pytest.fixture(scope="module")
def one() -> PaperCluster:
    return PaperCluster("one.example")


@pytest.fixture(scope="module")
def two() -> PaperCluster:
    return PaperCluster("two.example")


def cas(cluster: PaperCluster) -> CaSet:
    host, user = cluster.host_ca.public, cluster.user_ca.public
    return CaSet(
        host_cas=(host.tls_cert,),
        ssh_host_cas=(host.ssh_key,),
        user_cas=(user.tls_cert,),
        ssh_user_cas=(user.ssh_key,),
    )


def test_the_ca_says_which_cluster_somebody_is_from(one: PaperCluster, two: PaperCluster) -> None:
    roots = [root_word(one), root_word(two)]
    peer = foreign_peer(two.user("alice").tls_der, roots=roots, now=two.now)
    assert (peer.kind, peer.cluster, peer.name) == ("user", "two.example", "alice")


def test_a_root_can_not_sign_for_another_cluster(one: PaperCluster, two: PaperCluster) -> None:
    """Its own CA, and a certificate that says it is somebody of the other one."""
    liar = PaperCluster("two.example")
    roots = [root_word(liar, "one.example"), root_word(two)]
    with pytest.raises(Denied) as why:
        foreign_peer(liar.user("alice").tls_der, roots=roots, now=liar.now)
    assert "has signed a user of two.example" in why.value.log


@pytest.mark.parametrize("kind", ["host", "stranger", "expired"])
def test_nobody_else_is_from_a_root(one: PaperCluster, two: PaperCluster, kind: str) -> None:
    papers = {
        "host": one.host(),
        "stranger": two.user("alice"),
        "expired": one.user("alice"),
    }[kind]
    now = one.now + timedelta(days=2 if kind == "expired" else 0)
    with pytest.raises(Denied):
        foreign_peer(papers.tls_der, roots=[root_word(one)], now=now)
    with pytest.raises(Denied):
        foreign_peer(papers.tls_der, roots=[], now=now)


def test_ssh_cas_belong_to_their_root(one: PaperCluster, two: PaperCluster) -> None:
    roots = [root_word(one), root_word(two)]
    assert root_of(ssh_blob(two.user_ca.public.ssh_key), roots) == "two.example"
    assert root_of(ssh_blob(two.host_ca.public.ssh_key), roots) == ""


@pytest.mark.parametrize("which", ["host_cas", "ssh_host_cas", "user_cas", "ssh_user_cas"])
@pytest.mark.parametrize("as_what", ["user_cas", "host_cas"])
def test_a_ca_of_another_cluster_is_not_shown_as_one_s_own(
    one: PaperCluster, two: PaperCluster, which: str, as_what: str
) -> None:
    """Whatever it is called: who may be signed by it would be of two clusters at once."""
    stolen = getattr(cas(two), which)
    as_what = f"ssh_{as_what}" if which.startswith("ssh") else as_what
    shown = replace(cas(one), **{as_what: (*getattr(cas(one), as_what), *stolen)})
    check_cas(shown, "one.example", known=[("three.example", CaSet())])
    with pytest.raises(Conflict, match=r"shows a CA that belongs to cluster two\.example"):
        check_cas(shown, "one.example", known=[("two.example", cas(two))])


@pytest.mark.parametrize(
    "change",
    [
        {"host_cas": ("no certificate",)},
        {"ssh_user_cas": ("ssh-ed25519 AAAA",)},
        {"ssh_user_cas": tuple(new_ssh_key()[1] for _ in range(5))},
    ],
)
def test_what_are_no_cas_is_refused(one: PaperCluster, change: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(Malformed):
        check_cas(replace(cas(one), **change), "one.example", known=())


def test_a_leaf_s_certificate_is_no_ca(one: PaperCluster) -> None:
    with pytest.raises(Malformed):
        check_cas(replace(cas(one), host_cas=(one.host().tls_cert,)), "one.example", known=())


def test_the_uuid_in_a_host_certificate(one: PaperCluster) -> None:
    host = one.host()
    assert host_of(host.tls_cert) == host.id
    assert host_of("") == host_of("nonsense") == ""


# The wish


def wish(cluster: PaperCluster, papers: Papers, leaf: str = "leaf.example") -> str:
    return prove(papers.tls_cert, papers.tls_private, leaf=leaf, words=WORDS, now=cluster.now)


def test_who_signs_a_wish_is_who_wishes_it(one: PaperCluster) -> None:
    proof = wish(one, one.user("alice", roles=("access", "dev")))
    peer = proved(proof, roots=[root_word(one)], leaf="LEAF.example", words=WORDS, now=one.now)
    assert (peer.cluster, peer.name, peer.roles) == ("one.example", "alice", ("access", "dev"))


def test_the_wish_of_somebody_with_a_hundred_roles_fits(one: PaperCluster) -> None:
    roles = tuple(f"role-of-a-quite-long-name-{number}" for number in range(100))
    assert len(wish(one, one.user("alice", roles=roles))) < MAX_PROOF


@pytest.mark.parametrize("what", ["leaf", "host", "login", "port"])
def test_a_wish_is_good_for_nothing_else(one: PaperCluster, what: str) -> None:
    proof = wish(one, one.user("alice"))
    words = {
        "host": ("db-2", *WORDS[1:]),
        "port": (WORDS[0], "23", WORDS[2]),
        "login": (*WORDS[:2], "postgres"),
    }.get(what, WORDS)
    leaf = "other.example" if what == "leaf" else "leaf.example"
    with pytest.raises(Denied, match="is not signed by somebody of a trusted cluster"):
        proved(proof, roots=[root_word(one)], leaf=leaf, words=words, now=one.now)


def test_a_wish_of_somebody_else_s_certificate_is_refused(
    one: PaperCluster, two: PaperCluster
) -> None:
    alice, bob = one.user("alice"), one.user("bob")
    mixed = replace(alice, tls_private=bob.tls_private)
    for cluster, papers in ((one, mixed), (two, two.user("alice")), (one, one.host())):
        with pytest.raises(Denied):
            proved(
                wish(cluster, papers),
                roots=[root_word(one)],
                leaf="leaf.example",
                words=WORDS,
                now=one.now,
            )


@pytest.mark.parametrize("late", [LIFE + timedelta(seconds=2), -LIFE - timedelta(seconds=2)])
def test_an_old_wish_is_refused_and_the_clock_named(one: PaperCluster, late: timedelta) -> None:
    proof = prove(
        (alice := one.user("alice")).tls_cert,
        alice.tls_private,
        leaf="leaf.example",
        words=WORDS,
        now=one.now - late,
    )
    with pytest.raises(Denied, match="the clock of your computer is 302 s off"):
        proved(proof, roots=[root_word(one)], leaf="leaf.example", words=WORDS, now=one.now)


def test_every_flipped_bit_and_every_cut_is_refused(one: PaperCluster) -> None:
    proof = wish(one, one.user("alice"))
    bad = [proof[:at] for at in range(0, len(proof), 97)]
    bad += [
        proof[:at] + ("A" if proof[at] != "A" else "B") + proof[at + 1 :]
        for at in range(0, len(proof) - 2, 31)
    ]
    for each in (*bad, "", "é", "=" * 9, "A" * (MAX_PROOF + 1)):
        with pytest.raises(Denied):
            proved(each, roots=[root_word(one)], leaf="leaf.example", words=WORDS, now=one.now)


def test_a_key_that_can_not_sign_a_wish_says_what_to_do(one: PaperCluster) -> None:
    alice = one.user("alice")
    with pytest.raises(Malformed, match="can not be read"):
        prove("", alice.tls_private, leaf="leaf.example", words=WORDS, now=one.now)
