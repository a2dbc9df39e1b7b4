"""The Ed25519 and SSHSIG verifier in install.sh, against ssh-keygen, RFC 8032 and flipped bits."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from teleport_lite.release.assets import text
from tests.packaging.published import new_key, public, sign

SOURCE = text("install.sh").split("\nverifier='\n")[1].split("\n'\n")[0]
PROGRAM = compile(SOURCE, "verifier", "exec")
FUNCTIONS = compile(SOURCE.split("\nmessage, armour = ")[0], "verifier", "exec")
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
# RFC 8032 §7.1: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf"
        "9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f"
        "11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984"
        "dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
Signed = Callable[[bytes, bytes, bytes], bool]


@pytest.fixture(scope="module")
def signed() -> Signed:
    functions: dict[str, Signed] = {}
    exec(FUNCTIONS, functions)
    return functions["signed"]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_key(tmp_path_factory.mktemp("keys") / "release")


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[bytes, bytes, str], bool]:
    """What the program says of a file, its signature, and keys."""

    def judge(message: bytes, signature: bytes, keys: str) -> bool:
        (tmp_path / "file").write_bytes(message)
        (tmp_path / "sig").write_bytes(signature)
        monkeypatch.setattr(
            sys, "argv", ["-c", str(tmp_path / "file"), str(tmp_path / "sig"), keys]
        )
        try:
            exec(PROGRAM, {})
        except SystemExit as end:
            return end.code == 0
        except (ValueError, IndexError):  # the script takes any exit code but 0 for a no
            return False
        raise AssertionError("it ended without a verdict")

    return judge


def signature_of(message: bytes, key: Path, place: Path, *options: str) -> bytes:
    place.write_bytes(message)
    sign(place, key, *options)
    return place.with_name(place.name + ".sig").read_bytes()


def test_it_agrees_with_the_vectors_of_the_rfc(signed):
    for key, message, signature in VECTORS:
        parts = [bytes.fromhex(part) for part in (key, signature, message)]
        assert signed(*parts)
        assert not signed(parts[0], parts[1], parts[2] + b"x")


@pytest.mark.parametrize("options", [[], ["-O", "hashalg=sha256"]])
def test_it_takes_what_ssh_keygen_signs(verdict, key, tmp_path, options):
    for message in (b"", b"x", bytes(range(256)) * 40):
        signature = signature_of(message, key, tmp_path / "m", *options)
        assert verdict(message, signature, public(key))
        assert not verdict(message + b"x", signature, public(key))


def test_any_flipped_bit_of_the_signature_is_refused(verdict, key, tmp_path):
    signature = signature_of(b"message", key, tmp_path / "m")
    seed = random.randrange(2**32)
    bits = random.Random(seed).sample(range(len(signature) * 8), 150)
    bits += range(len(signature) * 8 - 8, len(signature) * 8)
    for bit in bits:
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not verdict(b"message", bytes(changed), public(key)), f"bit {bit}"


def test_it_judges_odd_signatures_as_the_library_does(signed):
    """Points off the curve and of small order, s out of range: no exception but SystemExit."""
    key, message, signature = (bytes.fromhex(part) for part in VECTORS[1])
    s = int.from_bytes(signature[32:], "little")
    small = [0, 1, P - 1, P, P + 1, 2**255 - 1, 1 << 255, (1 << 255) + 1]
    raws = [number.to_bytes(32, "little") for number in small]
    cases = [(raw, signature) for raw in raws] + [(key, raw + signature[32:]) for raw in raws]
    cases += [(key, signature[:32] + (s + ORDER).to_bytes(32, "little")), (key, bytes(64))]
    for public_key, odd in cases:
        assert answer(signed, public_key, odd, message) == library(public_key, odd, message)


def answer(signed: Signed, key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        return signed(key, signature, message)
    except SystemExit as end:
        return end.code != "it is no point of the curve"


def library(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_form_purpose_and_key_have_to_be_right(verdict, key, tmp_path):
    signature = signature_of(b"message", key, tmp_path / "m")
    other = new_key(tmp_path / "other")
    assert verdict(b"message", signature, f"{public(other)}\n{public(key)}")
    assert not verdict(b"message", signature, public(other))
    assert not verdict(b"message", signature, "")
    for odd in (
        signature * 2,
        signature.rstrip(),
        signature + b"\n",
        signature.replace(b"\n", b"\r\n"),
        signature.replace(b"SIGNATURE", b"SIGNATURF"),
        signature.replace(b"\nU1NI", b"\n U1NI"),
        b"",
        b"\n\n\n",
        b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        bytes(10_000),
    ):
        assert not verdict(b"message", odd, public(key)), odd
    (tmp_path / "m").write_bytes(b"message")
    sign(tmp_path / "m", key, purpose="teleport-lite-releases")
    assert not verdict(b"message", (tmp_path / "m.sig").read_bytes(), public(key))
