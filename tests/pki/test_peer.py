"""Who is at the other end of a TLS connection (the X.509 half of pki/verify.py)."""

import os
import subprocess
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Denied, Malformed
from teleport_lite.model import names
from teleport_lite.model.authority import CaType
from teleport_lite.pki.authority import new_ca
from teleport_lite.pki.verify import Peer, check_leaf, ends_at, peer_identity
from teleport_lite.testing.certs import PaperCluster, TlsForgery, tls_private

CLUSTER = PaperCluster()
NOW = CLUSTER.now
UUID = "11111111-2222-4333-8444-555555555555"


def identify(der: bytes, **more: object) -> Peer:
    wanted = {"host_cas": CLUSTER.host_cas, "user_cas": CLUSTER.user_cas, "now": NOW, **more}
    return peer_identity(der, **wanted)  # type: ignore[arg-type]  # keyword arguments above


def reason(der: bytes, **more: object) -> str:
    with pytest.raises(Denied) as refusal:
        identify(der, **more)
    assert refusal.value.message == "client certificate is not accepted"
    assert refusal.value.log
    assert refusal.value.log.isprintable()
    return refusal.value.log


def test_a_host_is_known_by_its_uuid() -> None:
    papers = CLUSTER.host("web1", roles=("Node", "Proxy"))
    assert identify(papers.tls_der) == Peer(
        kind="host",
        cluster="test.example",
        name=papers.id,
        roles=("Node", "Proxy"),
        not_after=NOW + timedelta(days=7),
    )


def test_a_person_is_known_by_the_name() -> None:
    papers = CLUSTER.user("alice@example.com", roles=("access", "editor"))
    assert identify(papers.tls_der) == Peer(
        kind="user",
        cluster="test.example",
        name="alice@example.com",
        roles=("access", "editor"),
        not_after=NOW + timedelta(hours=12),
    )


def test_a_bot_is_known_by_its_name_and_instance() -> None:
    papers = CLUSTER.user("bot-ci", bot=True, roles=())
    peer = identify(papers.tls_der)
    assert (peer.kind, peer.name, peer.bot_id, peer.roles) == ("user", "bot-ci", papers.id, ())


def test_a_person_can_not_be_named_like_a_bot() -> None:
    papers = CLUSTER.user("bot", logins=("bot",))
    assert identify(papers.tls_der).bot_id == ""


@pytest.mark.parametrize("length", [64, 100, 128])
def test_a_long_cluster_name_still_identifies(length: int) -> None:
    name = ("c" * 60 + ".") * 2 + "example"
    cluster = PaperCluster(name[:length].rstrip("."), now=NOW)
    papers = cluster.host()
    peer = peer_identity(papers.tls_der, host_cas=cluster.host_cas, user_cas=[], now=NOW)
    assert (peer.cluster, peer.name) == (cluster.name, papers.id)
    person = cluster.user("u" * 128)
    found = peer_identity(person.tls_der, host_cas=[], user_cas=cluster.user_cas, now=NOW)
    assert found.name == "u" * 128


def test_a_host_ca_makes_no_users_and_a_user_ca_no_hosts() -> None:
    person = (f"spiffe://{CLUSTER.name}/user/alice",)
    by_host_ca = CLUSTER.tls_forgery(CaType.HOST, common_names=("alice",), uris=person)
    assert "none that this CA gives" in reason(by_host_ca.der())
    host = (f"spiffe://{CLUSTER.name}/host/{UUID}",)
    called = (f"{UUID}.{CLUSTER.name}",)
    by_user_ca = CLUSTER.tls_forgery(CaType.USER, common_names=called, uris=host)
    assert "none that this CA gives" in reason(by_user_ca.der())


def test_without_the_ca_nobody_is_known() -> None:
    assert "no CA" in reason(CLUSTER.host().tls_der, host_cas=[])
    assert "no CA" in reason(CLUSTER.user().tls_der, user_cas=[])
    assert "no CA" in reason(CLUSTER.host().tls_der, host_cas=CLUSTER.user_cas)


def test_another_cluster_of_the_same_name_is_another_cluster() -> None:
    assert "no CA" in reason(PaperCluster(CLUSTER.name, now=NOW).host().tls_der)


def test_while_a_ca_is_rotated_both_generations_count() -> None:
    later = PaperCluster(CLUSTER.name, now=NOW)
    both = later.host_cas + CLUSTER.host_cas
    assert identify(CLUSTER.host().tls_der, host_cas=both).kind == "host"
    assert identify(later.host().tls_der, host_cas=both).kind == "host"


def test_time_is_looked_at() -> None:
    der = CLUSTER.host(life=timedelta(days=1)).tls_der
    assert identify(der, now=NOW + timedelta(hours=23)).kind == "host"
    assert identify(der, now=NOW + timedelta(days=1)).kind == "host"
    assert identify(der, now=NOW - timedelta(seconds=120)).kind == "host"
    assert "expired" in reason(der, now=NOW + timedelta(days=1, seconds=1))
    assert "not valid before" in reason(der, now=NOW - timedelta(seconds=121))


def test_an_expired_ca_vouches_for_nobody() -> None:
    old = new_ca(CaType.HOST, cluster="c", id="1", now=NOW - timedelta(days=3651))
    forgery = CLUSTER.tls_forgery(
        signer=tls_private(old),
        issuer=x509.load_pem_x509_certificate(old.public.tls_cert.encode()).subject,
    )
    assert "CA has expired" in reason(forgery.der(), host_cas=[old.public.tls_cert])


def alt(*uris: str) -> dict[str, object]:
    return {"uris": uris}


BAD: dict[str, dict[str, object]] = {
    "a CA": {"is_ca": True},
    "no basic constraints": {"is_ca": None},
    "no key usage": {"digital_signature": None},
    "key usage of a CA": {"key_cert_sign": True},
    "key usage without signing": {"digital_signature": False},
    "no extended key usage": {"purposes": None},
    "server only": {"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]},
    "any purpose": {"purposes": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]},
    "no alternative names": alt(),
    "two URIs": alt(f"spiffe://{CLUSTER.name}/host/{UUID}", f"spiffe://{CLUSTER.name}/host/{UUID}"),
    "URI of another scheme": alt(f"https://{CLUSTER.name}/host/{UUID}"),
    "URI with a longer path": alt(f"spiffe://{CLUSTER.name}/host/{UUID}/x"),
    "URI with a query": alt(f"spiffe://{CLUSTER.name}/host/{UUID}?x"),
    "URI with a newline": alt(f"spiffe://{CLUSTER.name}/host/{UUID}\n"),
    "URI with NUL": alt(f"spiffe://{CLUSTER.name}/host/{UUID}\0"),
    "URI with dots": alt(f"spiffe://{CLUSTER.name}/host/../user/alice"),
    "URI with a capital UUID": alt(f"spiffe://{CLUSTER.name}/host/{UUID[:-1]}A"),
    "URI without a cluster": alt(f"spiffe:///host/{UUID}"),
    "host id that is no UUID": alt(f"spiffe://{CLUSTER.name}/host/web1"),
    "no common name": {"common_names": ()},
    "two common names": {
        "common_names": (f"{UUID}.{CLUSTER.name}", f"{UUID}.{CLUSTER.name}"),
        "uris": (f"spiffe://{CLUSTER.name}/host/{UUID}",),
    },
    "common name of another": {"common_names": (f"{UUID}.{CLUSTER.name}",)},
    "common name with NUL": {
        "common_names": (f"{UUID}.{CLUSTER.name}\0",),
        "uris": (f"spiffe://{CLUSTER.name}/host/{UUID}",),
    },
    "unknown critical extension": {
        "others": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)]
    },
    "name constraints on a leaf": {
        "others": [(x509.NameConstraints([x509.DNSName("example")], excluded_subtrees=None), True)]
    },
    "RSA of 1024 bits": {"public": rsa.generate_private_key(65537, 1024)},
    "curve P-521": {"public": ec.generate_private_key(ec.SECP521R1())},
    "curve P-224": {"public": ec.generate_private_key(ec.SECP224R1())},
    "Ed448": {"public": ed448.Ed448PrivateKey.generate()},
    "signed by another key": {"signer": ec.generate_private_key(ec.SECP256R1())},
    "signed by the user CA under the host CA's name": {"signer": tls_private(CLUSTER.user_ca)},
}


def test_the_forgery_is_right_before_it_is_bent() -> None:
    assert identify(CLUSTER.tls_forgery().der()).kind == "host"
    assert identify(CLUSTER.tls_forgery(CaType.USER).der()).kind == "user"
    ours = f"spiffe://{CLUSTER.name}/host/{UUID}"
    right = CLUSTER.tls_forgery(common_names=(f"{UUID}.{CLUSTER.name}",), uris=(ours,))
    assert identify(right.der()).name == UUID


@pytest.mark.parametrize("name", BAD)
def test_a_forged_certificate_is_refused(name: str) -> None:
    assert reason(CLUSTER.tls_forgery(**BAD[name]).der())


@pytest.mark.parametrize(
    "public",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ],
)
def test_other_strong_keys_are_taken(public: object) -> None:
    assert identify(CLUSTER.tls_forgery(public=public).der()).kind == "host"


def test_a_chain_behind_a_leaf_is_no_way_in() -> None:
    """A host whose key signs another certificate, and a CA below the CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    middle = CLUSTER.tls_forgery(public=key, is_ca=True, key_cert_sign=True)
    below = CLUSTER.tls_forgery(signer=key, issuer=middle.cert().subject)
    assert "no CA" in reason(below.der())
    assert reason(below.der() + middle.der())
    assert reason(middle.der() + CLUSTER.host().tls_der)
    # Even if somebody hands it over as a trusted one, it is not self-signed.
    assert reason(below.der(), host_cas=[middle.pem()])


def test_a_self_signed_certificate_under_our_name_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    forgery = CLUSTER.tls_forgery(signer=key, public=key)
    assert "no CA" in reason(forgery.der())


def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    return subprocess.run(
        ["openssl", *arguments], input=stdin, capture_output=True, check=True
    ).stdout


@pytest.mark.parametrize(
    ("digest", "extensions", "expected"),
    [
        ("sha256", "extendedKeyUsage=clientAuth", ""),
        ("sha384", "extendedKeyUsage=clientAuth", ""),
        ("sha1", "extendedKeyUsage=clientAuth", "nsupported"),
        ("sha224", "extendedKeyUsage=clientAuth", "weak hash"),
        # CVE-2026-40097: an extended key usage with nothing in it crashed a CA.
        ("sha256", "extendedKeyUsage=DER:3000", "."),
        ("sha256", "extendedKeyUsage=DER:30", "."),
        ("sha256", "extendedKeyUsage=clientAuth\nnameConstraints=DER:3000", "."),
        ("sha256", "extendedKeyUsage=clientAuth\n2.5.29.54=critical,DER:020100", "critical"),
    ],
)
def test_certificates_made_by_openssl(
    tmp_path: Path, digest: str, extensions: str, expected: str
) -> None:
    """What our own library refuses to write, openssl writes."""
    host_ca = CLUSTER.host_ca
    assert host_ca.tls_private is not None
    (tmp_path / "ca.key").write_text(host_ca.tls_private.reveal())
    (tmp_path / "ca.pem").write_text(host_ca.public.tls_cert)
    request = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subject = ["-subj", f"/CN={UUID}.{CLUSTER.name}/O=Node"]
    openssl("req", *request, *subject, "-keyout", os.devnull, "-out", tmp_path / "csr")
    (tmp_path / "ext").write_text(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        f"subjectAltName=URI:spiffe://{CLUSTER.name}/host/{UUID}\n{extensions}\n"
    )
    sign = ["-CA", tmp_path / "ca.pem", "-CAkey", tmp_path / "ca.key", "-CAcreateserial"]
    openssl(
        "x509", "-req", "-in", tmp_path / "csr", *sign, "-extfile", tmp_path / "ext",
        f"-{digest}", "-days", "2", "-out", tmp_path / "leaf.der", "-outform", "DER",
    )  # fmt: skip
    der = (tmp_path / "leaf.der").read_bytes()
    now = x509.load_der_x509_certificate(der).not_valid_before_utc
    if expected:
        assert expected in reason(der, now=now) or expected == "."
    else:
        assert identify(der, now=now).name == UUID


def test_every_prefix_and_flipped_byte_is_refused() -> None:
    der = CLUSTER.tls_forgery().der()
    for size in range(0, len(der), 7):
        assert reason(der[:size])
    for at in range(len(der)):
        assert reason(der[:at] + bytes([der[at] ^ 0x55]) + der[at + 1 :])


def test_the_size_limit_is_32_kib() -> None:
    def of_size(size: int) -> bytes:
        padding = b"\0" * (size - 900)
        while True:  # an ECDSA signature takes 70 to 72 bytes
            oid = x509.ObjectIdentifier("1.2.3.4")
            extension = x509.UnrecognizedExtension(oid, padding)
            der = CLUSTER.tls_forgery(others=[(extension, False)]).der()
            if len(der) == size:
                return der
            padding = padding[: len(padding) + size - len(der)] + b"\0" * (size - len(der))

    assert identify(of_size(32 * 1024)).kind == "host"
    assert "32769 bytes" in reason(of_size(32 * 1024 + 1))


def test_identifying_a_peer_is_cheap() -> None:
    """Well below a TLS handshake, some 1 to 2 ms; the CAs are not parsed again each time."""
    der, many = CLUSTER.host().tls_der, 50
    identify(der)
    started = time.process_time()
    for _ in range(many):
        identify(der)
    assert (time.process_time() - started) / many < 0.005


# --- fuzz -----------------------------------------------------------------------------------


@given(st.binary(max_size=400))
def test_any_bytes_are_denied(der: bytes) -> None:
    assert reason(der)


LEAF = CLUSTER.tls_forgery()
LEAF_DER = LEAF.der()


@settings(deadline=None, max_examples=300)
@given(
    at=st.integers(0, len(LEAF_DER) - 1),
    size=st.integers(0, 8),
    patch=st.binary(max_size=8),
)
def test_a_bent_certificate_is_denied(at: int, size: int, patch: bytes) -> None:
    bent = LEAF_DER[:at] + patch + LEAF_DER[at + size :]
    if bent != LEAF_DER:
        assert reason(bent)


@settings(deadline=None, max_examples=200)
@given(
    payload=st.binary(max_size=60),
    oid=st.sampled_from(["2.5.29.37", "2.5.29.19", "2.5.29.15", "2.5.29.17", "2.5.29.30"]),
    critical=st.booleans(),
)
def test_hostile_extensions_that_our_ca_signed_are_denied(
    payload: bytes, oid: str, critical: bool
) -> None:
    """No such thing would be signed; a parser that dies of it would still be a hole."""
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), payload)
    changes: dict[str, object] = {
        "2.5.29.37": {"purposes": None},
        "2.5.29.19": {"is_ca": None},
        "2.5.29.15": {"digital_signature": None},
        "2.5.29.17": {"uris": ()},
    }.get(oid, {})
    forgery: TlsForgery = CLUSTER.tls_forgery(others=[(extension, critical)], **changes)
    try:
        identify(forgery.der())
    except Denied:
        return


def der_of(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 + len(digits)]) + digits + content


def signed_again(body: bytes) -> bytes:
    """`body` (a TBSCertificate, or what is left of it) under a signature of our host CA."""
    signature = tls_private(CLUSTER.host_ca).sign(body, ec.ECDSA(hashes.SHA256()))
    ecdsa_with_sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    return der_of(0x30, body + ecdsa_with_sha256 + der_of(0x03, b"\0" + signature))


BODY = LEAF.cert().tbs_certificate_bytes


def test_signing_again_changes_nothing() -> None:
    assert identify(signed_again(BODY)) == identify(LEAF_DER)


@settings(deadline=None, max_examples=300)
@given(at=st.integers(0, len(BODY) - 1), size=st.integers(0, 4), patch=st.binary(max_size=4))
def test_a_bent_certificate_that_our_ca_signed_is_a_peer_or_denied(
    at: int, size: int, patch: bytes
) -> None:
    """Past the signature every field is read: none may crash us (CVE-2026-40097)."""
    bent = signed_again(BODY[:at] + patch + BODY[at + size :])
    try:
        peer = identify(bent)
    except Denied:
        return
    assert peer.kind == "host"
    assert names.UUID.fullmatch(peer.name)


@pytest.mark.filterwarnings("default")
def test_a_certificate_that_the_library_only_warns_about_is_refused_or_identified() -> None:
    """A serial of zero, a country name of 20 letters: with and without warnings as errors."""
    zero = BODY.replace(b"\x02\x01\x07", b"\x02\x01\x00", 1)
    with pytest.warns(Warning, match="serial"):
        assert identify(signed_again(zero)).kind == "host"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "serial" in reason(signed_again(zero))


# --- check_leaf -----------------------------------------------------------------------------


def test_our_own_certificate_passes_until_it_expires() -> None:
    papers = CLUSTER.host(life=timedelta(days=1))
    check_leaf(papers.tls_cert, CLUSTER.host_cas, NOW)
    with pytest.raises(Denied, match="expired"):
        check_leaf(papers.tls_cert, CLUSTER.host_cas, NOW + timedelta(days=2))


def test_our_own_certificate_tells_what_is_wrong() -> None:
    papers = CLUSTER.host()
    with pytest.raises(Denied, match="no CA of the cluster"):
        check_leaf(papers.tls_cert, CLUSTER.user_cas, NOW)
    with pytest.raises(Denied, match="exactly one PEM block"):
        check_leaf(papers.tls_cert + CLUSTER.host_cas[0], CLUSTER.host_cas, NOW)
    with pytest.raises(Denied, match="exactly one PEM block"):
        check_leaf("", CLUSTER.host_cas, NOW)
    with pytest.raises(Denied, match="it is a CA"):
        check_leaf(CLUSTER.host_cas[0], CLUSTER.host_cas, NOW)


def test_der_of_our_certificates_reads_back() -> None:
    papers = CLUSTER.host()
    cert = x509.load_der_x509_certificate(papers.tls_der)
    assert cert.public_bytes(Encoding.PEM).decode() == papers.tls_cert


def test_our_own_certificate_tells_when_it_ends() -> None:
    assert ends_at(CLUSTER.host(life=timedelta(days=3)).tls_cert) == NOW + timedelta(days=3)
    for junk in ("", "x", CLUSTER.host_cas[0] * 2):
        with pytest.raises(Malformed, match="can not be read"):
            ends_at(junk)
