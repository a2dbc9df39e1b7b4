"""Keys: ours, and those that others send."""

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.pki import keys
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster, packed
from tests.pki.forgeries import ec_key, ed_key, rsa_key

LABEL = "CERTIFICATE REQUEST"


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def line_of(key: object) -> str:
    return keys.ssh_line(key.public_key())  # type: ignore[attr-defined]  # any private key


def request_of(key: object, digest: hashes.HashAlgorithm | None = None) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if digest is None and not isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        digest = hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode()  # type: ignore[arg-type]  # any key


def spki_of(key: object) -> str:
    return (
        key.public_key()  # type: ignore[attr-defined]  # any private key
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


# --- ours -----------------------------------------------------------------------------------


def test_our_ssh_key_is_one_that_openssh_uses(tmp_path: Path) -> None:
    private, public = keys.new_ssh_key()
    file = tmp_path / "key"
    file.write_text(private.reveal())
    file.chmod(0o600)
    assert run("ssh-keygen", "-y", "-f", file).split()[:2] == public.split()
    assert public.startswith("ssh-ed25519 AAAA")
    assert len(public.split()) == 2


def test_a_portable_ssh_key_is_one_that_openssh_finds_behind_other_text(tmp_path: Path) -> None:
    private, public = keys.new_portable_ssh_key()
    file = tmp_path / "key"
    file.write_text(PaperCluster().host_cas[0] + private.reveal())
    file.chmod(0o600)
    assert run("ssh-keygen", "-y", "-f", file).split()[:2] == public.split()
    assert keys.check_ssh_public(public) == public
    assert keys.public_of_csr(keys.csr(private, "x"))


def test_keys_are_different_every_time_and_do_not_show() -> None:
    first, second = keys.new_ssh_key()[0], keys.new_ssh_key()[0]
    assert first.reveal() != second.reveal()
    assert keys.new_tls_key().reveal() != keys.new_tls_key().reveal()
    assert "PRIVATE" not in repr(first)


def test_our_tls_key_is_p256_pkcs8() -> None:
    pem = keys.new_tls_key().reveal()
    assert pem.startswith("-----BEGIN PRIVATE KEY-----")
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"


def test_a_request_carries_the_public_key_only() -> None:
    private = keys.new_tls_key()
    request = keys.csr(private, "c" * 100)
    assert "PRIVATE" not in request
    public = keys.public_of_csr(request)
    own = serialization.load_pem_private_key(private.reveal().encode(), None)
    assert public == spki_of(own)


def test_a_request_needs_a_key_that_signs_with_sha256() -> None:
    pem = ed_key().private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="ECDSA or RSA"):
        keys.csr(Secret(pem.decode()), "x")


# --- requests of others ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [ec_key(256), ec_key(384), rsa_key(2048), ed_key()],
    ids=["P-256", "P-384", "RSA", "Ed25519"],
)
def test_strong_requests_are_taken(key: object) -> None:
    assert keys.public_of_csr("\n" + request_of(key) + "\n") == spki_of(key)


WEAK_REQUESTS: dict[str, tuple[str, str]] = {
    "RSA of 1024 bits": (request_of(rsa_key(1024)), "1024 bits"),
    "RSA with exponent 3": (request_of(rsa_key(2048, 0, 3)), "exponent"),
    "P-521": (request_of(ec_key(521)), "secp521r1"),
    "P-224": (request_of(ec.generate_private_key(ec.SECP224R1())), "secp224r1"),
    "secp256k1": (request_of(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
    "Ed448": (request_of(ed448.Ed448PrivateKey.generate()), "not allowed"),
    "SHA-224": (request_of(ec_key(256), hashes.SHA224()), "sha224"),
    "nothing": ("", "exactly one PEM block"),
    "20 kB": ("x" * 20_000, "20000 characters"),
    "text in front of it": ("x" + request_of(ec_key(256)), "exactly one PEM block"),
    "two requests": (request_of(ec_key(256)) * 2, "exactly one PEM block"),
    "another label": (request_of(ec_key(256)).replace("REQUEST", "X"), "exactly one PEM block"),
    "cut": (request_of(ec_key(256))[:200], "exactly one PEM block"),
    "a certificate": (PaperCluster().host_cas[0], "exactly one PEM block"),
    "not ASCII": (f"-----BEGIN {LABEL}-----\n\udcff\n-----END {LABEL}-----", "can not be used"),
    "no DER": (f"-----BEGIN {LABEL}-----\nAAAA\n-----END {LABEL}-----", "can not be used"),
}


@pytest.mark.parametrize("name", WEAK_REQUESTS)
def test_a_weak_or_broken_request_is_refused(name: str) -> None:
    request_pem, said = WEAK_REQUESTS[name]
    with pytest.raises(Malformed) as refusal:
        keys.public_of_csr(request_pem)
    assert refusal.value.message.startswith("certificate request")
    assert said in refusal.value.message
    assert refusal.value.message.isprintable()


def test_a_request_whose_signature_is_of_another_key_is_refused() -> None:
    """Else anybody could have a certificate made for a key they do not hold."""
    der = bytearray(DER)
    der[-1] ^= 1
    pem = _request_pem(bytes(der))
    with pytest.raises(Malformed, match="signature does not fit"):
        keys.public_of_csr(pem)


def test_a_private_key_in_a_request_is_pointed_out_and_not_repeated() -> None:
    private = keys.new_tls_key().reveal()
    with pytest.raises(Malformed) as refusal:
        keys.public_of_csr(request_of(ec_key(256)) + private)
    assert "private key" in refusal.value.message
    assert private.splitlines()[1] not in refusal.value.message + refusal.value.log


# --- SSH keys of others ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [ed_key(), ec_key(256), ec_key(384), ec_key(521), rsa_key(2048)],
    ids=["Ed25519", "P-256", "P-384", "P-521", "RSA"],
)
def test_strong_ssh_keys_are_taken_without_their_comment(key: object) -> None:
    line = line_of(key)
    assert keys.check_ssh_public(f"  {line} me@laptop (work)\n") == line


WEAK_LINES: dict[str, tuple[str, str]] = {
    "nothing": ("", "not a line"),
    "a type alone": ("ssh-ed25519", "not a line"),
    "two lines": (line_of(ed_key()) + "\n" + line_of(ed_key()), "not a line"),
    "two lines by carriage return": (line_of(ed_key()) + "\r" + "ssh-rsa x", "not a line"),
    "9 kB": ("ssh-ed25519 " + "A" * 9000, "not a line"),
    "no base64": ("ssh-ed25519 !!!", "can not be used"),
    "too short": ("ssh-ed25519 AAAA", "can not be used"),
    "another type inside": ("ssh-rsa " + line_of(ed_key()).split()[1], "can not be used"),
    "cut": (line_of(ed_key())[:-4], "can not be used"),
    "not ASCII": ("ssh-ed25519 \ud800", "can not be used"),
    "options before it": (
        'command="id" ' + line_of(ed_key()),
        "is not allowed",
    ),
    "DSA": ("ssh-dss AAAA", "'ssh-dss' is not allowed"),
    "security key": ("sk-ssh-ed25519@openssh.com AAAA", "is not allowed"),
    "a short certificate": ("ssh-ed25519-cert-v01@openssh.com AAAA", "is a certificate"),
    "a certificate": (PaperCluster().user().ssh_cert, "is a certificate"),
    "RSA of 1024 bits": (line_of(rsa_key(1024)), "1024 bits"),
    "RSA with exponent 3": (line_of(rsa_key(2048, 0, 3)), "exponent"),
}


@pytest.mark.parametrize("name", WEAK_LINES)
def test_a_weak_or_broken_ssh_key_is_refused(name: str) -> None:
    line, said = WEAK_LINES[name]
    with pytest.raises(Malformed) as refusal:
        keys.check_ssh_public(line)
    assert said in refusal.value.message
    assert refusal.value.message.isprintable()


def test_a_private_ssh_key_is_pointed_out_and_not_repeated() -> None:
    private = keys.new_ssh_key()[0].reveal()
    with pytest.raises(Malformed) as refusal:
        keys.check_ssh_public(private)
    assert "is a private key" in refusal.value.message
    assert private.splitlines()[1] not in refusal.value.message + refusal.value.log


def test_a_key_written_oddly_comes_out_as_openssh_writes_it() -> None:
    numbers = rsa_key(2048).public_key().public_numbers()
    odd = (
        packed(b"ssh-rsa") + packed(b"\0\0\1\0\1") + packed(b"\0" + numbers.n.to_bytes(257, "big"))
    )
    assert keys.check_ssh_public("ssh-rsa " + _b64(odd)) == line_of(rsa_key(2048))


def test_a_dsa_key_is_no_tls_key() -> None:
    with pytest.raises(ValueError, match="not allowed"):
        keys.tls_public(dsa.generate_private_key(2048).public_key())
    with pytest.raises(ValueError, match="not allowed"):
        keys.ssh_line(dsa.generate_private_key(2048).public_key())


def test_tls_public_keys_are_checked_too() -> None:
    assert keys.check_tls_public(spki_of(ec_key(256))) == spki_of(ec_key(256))
    for wrong in ("", "x", spki_of(rsa_key(1024)), spki_of(ec_key(256)) * 2):
        with pytest.raises(ValueError, match="TLS public key can not be used"):
            keys.check_tls_public(wrong)


def test_a_fingerprint_is_what_ssh_keygen_shows(tmp_path: Path) -> None:
    for nth, key in enumerate((ed_key(), rsa_key(2048), ec_key(384))):
        file = tmp_path / f"{nth}.pub"
        file.write_text(line_of(key) + "\n")
        assert run("ssh-keygen", "-lf", file).split()[1] == keys.ssh_fingerprint(line_of(key))


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 ?", "ssh-ed25519 A", "x \ud800"])
def test_the_fingerprint_of_nothing_is_malformed(line: str) -> None:
    with pytest.raises(Malformed):
        keys.ssh_fingerprint(line)


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: "ssh-rsa " + _b64(raw)))
def test_any_line_is_a_key_or_malformed(line: str) -> None:
    with pytest.raises(Malformed):
        keys.check_ssh_public(line)


DER = x509.load_pem_x509_csr(request_of(ec_key(256)).encode()).public_bytes(Encoding.DER)


@settings(deadline=None, max_examples=300)
@given(at=st.integers(0, len(DER) - 1), size=st.integers(0, 6), patch=st.binary(max_size=6))
def test_any_bent_request_is_malformed(at: int, size: int, patch: bytes) -> None:
    bent = DER[:at] + patch + DER[at + size :]
    pem = _request_pem(bent)
    if bent == DER:
        assert keys.public_of_csr(pem) == spki_of(ec_key(256))
        return
    with pytest.raises(Malformed):
        keys.public_of_csr(pem)


@given(st.text(max_size=300))
def test_any_text_is_no_request(text: str) -> None:
    with pytest.raises(Malformed):
        keys.public_of_csr(text)


def test_the_limits_are_those_we_promise() -> None:
    assert (keys.MIN_RSA, keys.MAX_RSA) == (2048, 8192)
    with pytest.raises(ValueError, match="8200 bits"):
        keys.check_strength(rsa.RSAPublicNumbers(65537, (1 << 8199) + 1).public_key())


@pytest.mark.parametrize(
    ("exponent", "fit"),
    [((1 << 16) - 1, False), (65537, True), ((1 << 32) - 1, True), ((1 << 32) + 1, False)],
)
def test_rsa_exponents_have_limits(exponent: int, fit: bool) -> None:
    modulus = rsa_key(2048).public_key().public_numbers().n
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if fit:
        assert keys.check_strength(key) is key
    else:
        with pytest.raises(ValueError, match="exponent"):
            keys.check_strength(key)


def test_lines_and_requests_of_exactly_the_limit_are_read() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    line, request = line_of(key), request_of(ec.generate_private_key(ec.SECP256R1()))
    assert keys.check_ssh_public(line.ljust(keys.MAX_PUBLIC_LINE))
    with pytest.raises(Malformed, match="is not a line like"):
        keys.check_ssh_public(line.ljust(keys.MAX_PUBLIC_LINE + 1))
    assert keys.public_of_csr(request.ljust(keys.MAX_CSR, "\n"))
    with pytest.raises(Malformed, match=f"the most is {keys.MAX_CSR}"):
        keys.public_of_csr(request.ljust(keys.MAX_CSR + 1, "\n"))


@pytest.mark.parametrize(
    ("bits", "fit"), [(2047, False), (2048, True), (8192, True), (8193, False)]
)
def test_rsa_keys_have_limits(bits: int, fit: bool) -> None:
    """Nobody has made these: it takes a minute for the long ones, and only the size is read."""
    key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    assert key.key_size == bits
    if fit:
        assert keys.check_strength(key) is key
    else:
        with pytest.raises(ValueError, match=f"RSA key of {bits} bits, 2048 to 8192 are allowed"):
            keys.check_strength(key)


def test_what_has_no_words_is_told_by_its_kind() -> None:
    assert keys.plain(ValueError()) == "ValueError"
    assert keys.plain(ValueError("a\nb")) == "a\\nb"


def test_the_longest_key_fits() -> None:
    """RSA of 8192 bits, as a line and as a request."""
    key = rsa.generate_private_key(65537, 2048)
    assert len(line_of(key)) * 4 < keys.MAX_PUBLIC_LINE
    assert len(request_of(key)) * 4 < keys.MAX_CSR


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _request_pem(der: bytes) -> str:
    return f"-----BEGIN {LABEL}-----\n{_b64(der)}\n-----END {LABEL}-----\n"
