"""Whose certificate is it, when several clusters are trusted; and the signed wish."""

import ssl
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from teleport_lite.errors import Conflict, Denied, Malformed
from teleport_lite.pki.foreign import (
    MAX_CA_TEXT,
    CaSet,
    check_cas,
    foreign_peer,
    host_of,
    own_certificate,
    root_of,
    tidied,
)
from teleport_lite.pki.keys import new_ssh_key, new_tls_key, ssh_blob
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


def a_ca(
    one: PaperCluster, name: str, key: "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey"
) -> str:
    """As anybody can make it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(one.now - timedelta(days=1))
        .not_valid_after(one.now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("spelling", ["{}", "{}  ", "upper"])
def test_a_ca_that_is_called_like_one_of_another_cluster_is_refused(
    one: PaperCluster, two: PaperCluster, spelling: str
) -> None:
    """OpenSSL finds issuers by their name, and would refuse hosts of that cluster."""
    [owned] = x509.load_pem_x509_certificate(two.host_cas[0].encode()).subject
    name = str(owned.value)
    name = name.upper() if spelling == "upper" else spelling.format(name).replace(" host", "  host")
    shown = replace(cas(one), user_cas=(a_ca(one, name, ec.generate_private_key(ec.SECP256R1())),))
    check_cas(shown, "one.example", known=[("three.example", CaSet())])
    with pytest.raises(Conflict, match=r"is called like one of two\.example"):
        check_cas(shown, "one.example", known=[("two.example", cas(two))])


def test_cas_are_kept_without_what_came_along(one: PaperCluster) -> None:
    """OpenSSL reads no such certificate, and a listener that loads it would not start."""
    pem, line = one.user_cas[0], one.user_ca.public.ssh_key
    odd = pem.replace("-----\n", "-----\nFoo: bar\n\n", 1)
    with pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=odd)
    shown = replace(cas(one), user_cas=(odd,), ssh_user_cas=(f"{line} \x1b[2J",))
    assert check_cas(shown, "one.example", known=()) == cas(one)


def test_weak_and_huge_cas_are_refused(one: PaperCluster) -> None:
    weak = a_ca(one, "weak", rsa.generate_private_key(65537, 1024))
    with pytest.raises(Malformed, match="RSA key of 1024 bits"):
        check_cas(replace(cas(one), user_cas=(weak,)), "one.example", known=())
    huge = tuple(f"{one.host_ca.public.ssh_key} {'x' * 9000}" for _ in range(4))
    with pytest.raises(Malformed, match="have more than 32768 characters"):
        check_cas(replace(cas(one), ssh_host_cas=huge), "one.example", known=())


def test_a_certificate_for_another_key_is_refused(one: PaperCluster) -> None:
    host = one.host()
    odd = host.tls_cert.replace("-----\n", "-----\nFoo: bar\n\n", 1)
    kept = own_certificate(odd, host.tls_private, one.host_cas, one.now)
    assert kept.strip() == host.tls_cert.strip()
    with pytest.raises(Denied, match="not for the key"):
        own_certificate(host.tls_cert, new_tls_key(), one.host_cas, one.now)


def test_a_leaf_s_certificate_is_no_ca(one: PaperCluster) -> None:
    with pytest.raises(Malformed):
        check_cas(replace(cas(one), host_cas=(one.host().tls_cert,)), "one.example", known=())


def test_the_uuid_in_a_host_certificate(one: PaperCluster) -> None:
    host = one.host()
    assert host_of(host.tls_cert) == host.id
    assert host_of("") == host_of("nonsense") == ""


def test_clusters_with_cas_of_their_own_live_side_by_side(
    one: PaperCluster, two: PaperCluster
) -> None:
    known = [("two.example", cas(two)), ("three.example", cas(PaperCluster("three.example")))]
    assert check_cas(cas(one), "one.example", known=known) == cas(one)


def test_a_certificate_that_another_cluster_has_made_is_checked(
    one: PaperCluster, two: PaperCluster
) -> None:
    host = one.host()
    kept = own_certificate(host.tls_cert, host.tls_private, one.host_cas, one.now)
    assert kept == host.tls_cert
    with pytest.raises(Denied, match="signed by no CA"):
        own_certificate(host.tls_cert, host.tls_private, two.host_cas, one.now)
    late = one.now + timedelta(days=4000)
    with pytest.raises(Denied, match="has expired"):
        own_certificate(host.tls_cert, host.tls_private, one.host_cas, late)


def test_the_first_root_says_why_somebody_is_refused(one: PaperCluster, two: PaperCluster) -> None:
    late = one.now + timedelta(days=400)
    roots = [root_word(one), root_word(two)]
    with pytest.raises(Denied) as why:
        foreign_peer(one.user("alice").tls_der, roots=roots, now=late)
    assert "has expired" in why.value.log


def test_cas_may_have_so_many_characters_and_no_more(one: PaperCluster) -> None:
    shown = cas(one)
    rest = MAX_CA_TEXT - sum(len(text) for text in (*shown.ssh_host_cas, *shown.ssh_user_cas))
    half = rest // 2
    full = replace(
        shown,
        host_cas=(shown.host_cas[0].ljust(half, "\n"),),
        user_cas=(shown.user_cas[0].ljust(rest - half, "\n"),),
    )
    assert tidied(full, "one.example") == tidied(shown, "one.example")
    longer = replace(full, user_cas=(full.user_cas[0] + "\n",))
    with pytest.raises(Malformed, match=f"more than {MAX_CA_TEXT} characters"):
        tidied(longer, "one.example")


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
