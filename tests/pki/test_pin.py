"""CA pins: how a host knows a cluster it has never met."""

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Denied, Malformed
from teleport_lite.pki import pin
from teleport_lite.pki.pin import MAX_CA, issuer_pin, load_ca, parse_pins, pin_of, pinned
from teleport_lite.testing.certs import PaperCluster, tls_private

CLUSTER, OTHER = PaperCluster(), PaperCluster("other.example")
CA, ROGUE = CLUSTER.host_cas[0], OTHER.host_cas[0]
PIN = pin_of(CA)


def test_a_pin_is_what_openssl_computes(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CA)
    command = (
        f"openssl x509 -in {tmp_path}/ca.pem -noout -pubkey"
        " | openssl pkey -pubin -outform DER | sha256sum"
    )
    printed = subprocess.run(["sh", "-c", command], capture_output=True, check=True, text=True)
    assert "sha256:" + printed.stdout.split()[0] == PIN


def test_a_pin_survives_a_new_certificate_for_the_same_key() -> None:
    key = tls_private(CLUSTER.host_ca)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "again")])
    again = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(CLUSTER.now)
        .not_valid_after(CLUSTER.now.replace(year=CLUSTER.now.year + 1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    assert pin_of(again.public_bytes(Encoding.PEM).decode()) == PIN


@pytest.mark.parametrize(
    "wrong",
    [
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "g" * 64,
        "SHA256:" + "a" * 64,
        "sha1:" + "a" * 40,
        "md5:" + "a" * 32,
        "a" * 64,
        " sha256:" + "a" * 64,
        "sha256:" + "a" * 64 + " ",
        "sha256:" + "a" * 64 + "\n",
        "sha256: " + "a" * 64,
        "sha256:" + "٣" * 64,
        "sha256:" + "a" * 64 + ",sha256:" + "b" * 64,
        "relative/path",
        "\0",
        " ",
    ],
)
def test_a_wrong_pin_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(Malformed) as refusal:
        parse_pins(["sha256:" + "b" * 64, wrong])
    assert ascii(wrong[:80]) in refusal.value.message


def test_pins_are_read_in_order_in_lower_case_and_once() -> None:
    upper = "sha256:" + "AB" * 32
    assert parse_pins([upper, PIN, upper.lower(), PIN]) == (upper.lower(), PIN)


def test_an_empty_pin_is_none() -> None:
    # `configure` writes ca_pin: "" into every file.
    assert parse_pins(["", ""]) == ()


def test_pins_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pins"
    file.write_text(f"# the cluster\n\n  {PIN}\r\nsha256:{'B' * 64}\n")
    assert parse_pins([str(file), PIN]) == (PIN, "sha256:" + "b" * 64)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no pin in it"),
        (b"# nothing\n", "has no pin in it"),
        (b"sha256:abc\n", "sha256:abc' in /"),
        (b"\xff\xfe", "can not be read"),
        (b"#" * 70_000, "longer than 65536"),
    ],
)
def test_a_wrong_pin_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "pins"
    file.write_bytes(content)
    with pytest.raises(Malformed) as refusal:
        parse_pins([str(file)])
    assert said in refusal.value.message
    assert str(file) in refusal.value.message


def test_a_pin_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="No such file"):
        parse_pins([str(tmp_path / "none")])
    with pytest.raises(Malformed, match="Is a directory"):
        parse_pins([str(tmp_path)])
    with pytest.raises(Malformed, match="null byte"):
        parse_pins(["/\0"])


def test_only_the_pinned_ca_is_trusted() -> None:
    """B12: the pinned CA comes together with a rogue one."""
    assert pinned([ROGUE, CA], [PIN]) == [CA]
    assert pinned([ROGUE, CA], [PIN.upper().replace("SHA", "sha"), pin_of(ROGUE)]) == [ROGUE, CA]


def test_a_rogue_ca_behind_the_pinned_one_is_no_stowaway() -> None:
    """A TLS library would load every certificate of the text as trusted."""
    for bundle in (CA + ROGUE, CA + "\n" + ROGUE, ROGUE + CA, CA.strip() + ROGUE):
        with pytest.raises(Malformed, match="exactly one PEM block"):
            pinned([bundle], [PIN])


def test_what_is_returned_is_written_anew() -> None:
    decorated = "\n\n" + CA.replace("\n", "\r\n") + "\n  "
    assert pinned([decorated], [PIN]) == [CA]


def test_a_mismatch_shows_both_sides() -> None:
    with pytest.raises(Denied) as refusal:
        pinned([CA], [pin_of(ROGUE)])
    assert pin_of(ROGUE) in refusal.value.message
    assert PIN in refusal.value.message
    with pytest.raises(Denied, match="seen none"):
        pinned([], [PIN])
    with pytest.raises(Denied, match="expected none"):
        pinned([CA], [])


def test_only_a_ca_can_be_pinned() -> None:
    leaf = CLUSTER.host().tls_cert
    with pytest.raises(Malformed, match="it is not a CA"):
        pin_of(leaf)
    without = CLUSTER.tls_forgery(is_ca=None).pem()
    with pytest.raises(Malformed, match="BasicConstraints"):
        pin_of(without)


def test_a_ca_must_have_signed_itself() -> None:
    """Anybody can wrap the pinned public key into a certificate of their own making."""
    thief = ec.generate_private_key(ec.SECP256R1())
    forged = CLUSTER.tls_forgery(
        signer=thief,
        public=tls_private(CLUSTER.host_ca),
        issuer=load_ca(CA).subject,
        common_names=("test.example host CA",),
        roles=(),
        is_ca=True,
        key_cert_sign=True,
    )
    spki = forged.cert().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert spki == load_ca(CA).public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(Malformed):
        pinned([forged.pem()], [PIN])


@pytest.mark.parametrize(
    "junk",
    ["", "x", CA[:100], CA.replace("M", "N"), "\udcff", "x" * 20_000],
    ids=["nothing", "text", "cut", "bent", "not ASCII", "20 kB"],
)
def test_junk_is_no_ca(junk: str) -> None:
    with pytest.raises(Malformed, match="CA certificate can not be used"):
        pin_of(junk)


def test_a_ca_longer_than_any_is_not_parsed() -> None:
    with pytest.raises(Malformed, match="longer than 16384"):
        pin_of(CA + "\n" * (16 * 1024 + 1 - len(CA)))
    assert pin_of(CA + "\n" * (16 * 1024 - len(CA))) == PIN


@given(st.lists(st.text(max_size=80) | st.just(PIN) | st.just("/etc/hostname"), max_size=3))
def test_any_pins_are_pins_or_malformed(values: list[str]) -> None:
    try:
        found = parse_pins(values)
    except Malformed:
        return
    assert all(pin.startswith("sha256:") and len(pin) == 71 for pin in found)


@given(st.lists(st.text(max_size=80) | st.just(CA) | st.just(ROGUE), max_size=3))
def test_any_bundle_is_pinned_denied_or_malformed(bundle: list[str]) -> None:
    try:
        found = pinned(bundle, [PIN])
    except (Malformed, Denied):
        return
    assert set(found) == {CA}


def test_the_signature_says_which_ca_of_a_name_has_signed() -> None:
    """While a CA is rotated there are two that are called alike."""
    twin = PaperCluster(CLUSTER.name).host_cas[0]
    leaf = CLUSTER.host().tls_cert
    assert load_ca(twin).subject == load_ca(CA).subject
    for cas in ([CA], [twin, CA], [ROGUE, twin, CA]):
        assert issuer_pin(leaf, cas) == PIN
    for cas in ([], [twin], [ROGUE, twin]):
        assert issuer_pin(leaf, cas) == ""


@pytest.mark.parametrize("leaf", ["", "x", CA + CA])
def test_what_is_no_certificate_has_no_issuer(leaf: str) -> None:
    with pytest.raises(Malformed, match="certificate can not be read"):
        issuer_pin(leaf, [CA])


def test_a_ca_of_exactly_the_limit_is_read() -> None:
    assert load_ca(CA.ljust(MAX_CA, "\n")) == load_ca(CA)
    with pytest.raises(Malformed, match=f"longer than {MAX_CA} characters"):
        load_ca(CA.ljust(MAX_CA + 1, "\n"))


def test_a_file_of_pins_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    file = tmp_path / "pins"
    file.write_text(PIN.ljust(pin._MAX_FILE, "\n"))
    assert parse_pins([str(file)]) == (PIN,)
    file.write_text(PIN.ljust(pin._MAX_FILE + 1, "\n"))
    with pytest.raises(Malformed, match=f"longer than {pin._MAX_FILE} bytes"):
        parse_pins([str(file)])
