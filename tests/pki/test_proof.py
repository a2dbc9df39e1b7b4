"""The signed wish, byte by byte: two programs of different versions have to agree on it."""

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from teleport_lite.errors import Denied, Malformed
from teleport_lite.pki.proof import MAX_PROOF, prove, proved
from teleport_lite.pki.verify import Peer
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster, Papers, tls_private
from tests.pki.test_foreign import WORDS, root_word

LEAF = "leaf.example"


@pytest.fixture(scope="module")
def one() -> PaperCluster:
    return PaperCluster("one.example")


@pytest.fixture(scope="module")
def alice(one: PaperCluster) -> Papers:
    return one.user("alice")


def wish(one: PaperCluster, alice: Papers, late: timedelta = timedelta()) -> str:
    now = one.now - late
    return prove(alice.tls_cert, alice.tls_private, leaf=LEAF, words=WORDS, now=now)


def read(one: PaperCluster, proof: str) -> Peer:
    return proved(proof, roots=[root_word(one)], leaf=LEAF, words=WORDS, now=one.now)


def texts(*parts: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "big") + each for each in parts)


def test_a_wish_is_made_of_these_bytes(one: PaperCluster, alice: Papers) -> None:
    raw = base64.b64decode(wish(one, alice), validate=True)
    seconds = int(one.now.timestamp()).to_bytes(8, "big")
    assert raw[:9] == b"\x01" + seconds
    size = int.from_bytes(raw[9:11], "big")
    cert = x509.load_der_x509_certificate(raw[11 : 11 + size])
    assert cert.public_bytes(Encoding.PEM).decode() == alice.tls_cert
    signature = raw[13 + size :]
    assert len(signature) == int.from_bytes(raw[11 + size : 13 + size], "big")
    said = texts(
        b"teleport-lite: a way to a node of another cluster, version 1",
        raw[11 : 11 + size],
        seconds,
        b"leaf.example",
        *(each.encode() for each in WORDS),
    )
    key = cert.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, said, ec.ECDSA(hashes.SHA256()))


def test_a_wish_is_good_for_five_minutes_either_way(one: PaperCluster, alice: Papers) -> None:
    for minutes in (-5, 0, 5):
        assert read(one, wish(one, alice, timedelta(minutes=minutes))).name == "alice"
    for seconds in (-301, 301):
        with pytest.raises(Denied, match="the clock of your computer is 301 s off"):
            read(one, wish(one, alice, timedelta(seconds=seconds)))


def test_a_wish_of_another_version_is_refused(one: PaperCluster, alice: Papers) -> None:
    raw = base64.b64decode(wish(one, alice))
    for version in (0, 2):
        with pytest.raises(Denied) as why:
            read(one, base64.b64encode(bytes([version]) + raw[1:]).decode())
        assert why.value.message == "the wish is not signed by somebody of a trusted cluster"
        assert why.value.log == "of another version"


def test_a_wish_that_is_too_long_is_not_read(one: PaperCluster) -> None:
    with pytest.raises(Denied) as why:
        read(one, "A" * (MAX_PROOF + 1))
    assert why.value.log == f"a proof of {MAX_PROOF + 1} characters"


def test_a_wish_is_base64_and_nothing_beside(one: PaperCluster, alice: Papers) -> None:
    proof = wish(one, alice)
    for odd in (f"{proof[:40]}\n{proof[40:]}", f" {proof}", f"{proof[:40]}!{proof[40:]}"):
        with pytest.raises(Denied):
            read(one, odd)


def test_a_wish_is_signed_with_ecdsa(one: PaperCluster, alice: Papers) -> None:
    """The CA would sign other keys too; no wish is made with them."""
    like = x509.load_pem_x509_certificate(alice.tls_cert.encode())
    builder = x509.CertificateBuilder(
        like.issuer,
        like.subject,
        ed25519.Ed25519PrivateKey.generate().public_key(),
        like.serial_number,
        like.not_valid_before_utc,
        like.not_valid_after_utc,
        list(like.extensions),
    )
    der = builder.sign(tls_private(one.user_ca), hashes.SHA256()).public_bytes(Encoding.DER)
    seconds = int(one.now.timestamp()).to_bytes(8, "big")
    raw = b"\x01" + seconds + b"".join(len(e).to_bytes(2, "big") + e for e in (der, b"signature"))
    with pytest.raises(Denied) as why:
        read(one, base64.b64encode(raw).decode())
    assert why.value.log == "not signed with ECDSA"


def test_something_behind_a_wish_is_refused(one: PaperCluster, alice: Papers) -> None:
    raw = base64.b64decode(wish(one, alice))
    with pytest.raises(Denied) as why:
        read(one, base64.b64encode(raw + b"\0").decode())
    assert why.value.log == "trailing bytes"


def test_a_key_of_another_kind_signs_no_wish(one: PaperCluster, alice: Papers) -> None:
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(Malformed, match="your TLS key is not an ECDSA key") as why:
        prove(alice.tls_cert, Secret(pem.decode()), leaf=LEAF, words=WORDS, now=one.now)
    assert why.value.hint == "tsh login"
