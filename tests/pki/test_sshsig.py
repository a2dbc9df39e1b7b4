"""Signatures that the real ssh-keygen wrote: the right ones are taken, and nothing else is."""

import base64
import hashlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Denied, Error, Malformed
from teleport_lite.pki.sshsig import MAX_SIGNATURE, verify
from teleport_lite.pki.wire import text

NAMESPACE = "teleport-lite-release"
MESSAGE = b"0123  some-file\n"


def keygen(*words: str, message: bytes = b"") -> bytes:
    return subprocess.run(
        ["ssh-keygen", *words], input=message, check=True, capture_output=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def key(place: Path) -> Callable[[str, str], Path]:
    """Private key `name` of a type, made once; its public half lies beside it."""

    def make(name: str, kind: str = "ed25519") -> Path:
        path = place / name
        if not path.exists():
            keygen("-q", "-t", kind, "-N", "", "-C", f"{name} of ours", "-f", str(path))
        return path

    return make


def public(path: Path) -> str:
    return path.with_name(path.name + ".pub").read_text()


def sign(path: Path, message: bytes = MESSAGE, namespace: str = NAMESPACE, *more: str) -> str:
    words = ["-Y", "sign", "-f", str(path), "-n", namespace, *more]
    return keygen(*words, message=message).decode()


@pytest.fixture(scope="module")
def signed(key: Callable[..., Path]) -> tuple[str, str]:
    """A signature over MESSAGE, and the key."""
    return sign(key("one")), public(key("one"))


def check(signature: str, *keys: str, message: bytes = MESSAGE) -> str:
    return verify(message, signature, keys=keys, namespace=NAMESPACE)


def blob_of(signature: str) -> bytes:
    return base64.b64decode("".join(signature.splitlines()[1:-1]))


def armour(blob: bytes) -> str:
    body = base64.b64encode(blob).decode()
    lines = "".join(body[at : at + 70] + "\n" for at in range(0, len(body), 70))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}-----END SSH SIGNATURE-----\n"


# What ssh-keygen signs


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("message", [b"", b"\0", MESSAGE, b"x" * 1_000_000])
def test_what_ssh_keygen_signed_is_accepted(key, algorithm, message):
    one = key("one")
    signature = sign(one, message, NAMESPACE, "-O", f"hashalg={algorithm}")
    said = check(signature, public(one), message=message)
    assert said == " ".join(public(one).split()[:2])  # without the comment


def test_any_of_several_keys_will_do_while_keys_are_exchanged(key):
    old, new = key("one"), key("two")
    both = [public(old), public(new)]
    assert check(sign(old), *both) == " ".join(both[0].split()[:2])
    assert check(sign(new), *both) == " ".join(both[1].split()[:2])
    assert check(sign(new), *reversed(both)) == " ".join(both[1].split()[:2])


def test_the_same_key_and_bytes_give_the_same_signature(key):
    assert sign(key("one")) == sign(key("one"))


def test_a_huge_message_is_hashed_and_not_copied(key, tmp_path):
    huge = b"\xaa" * (64 << 20)
    path = tmp_path / "huge"
    path.write_bytes(huge)
    keygen("-q", "-Y", "sign", "-f", str(key("one")), "-n", NAMESPACE, str(path))
    signature = (tmp_path / "huge.sig").read_text()
    assert check(signature, public(key("one")), message=huge)
    with pytest.raises(Denied):
        check(signature, public(key("one")), message=huge[:-1])


# What is refused


def test_another_message_is_refused(signed):
    for other in (MESSAGE + b"\n", MESSAGE[:-1], b"", MESSAGE.upper()):
        with pytest.raises(Denied, match="changed"):
            check(*signed, message=other)


@pytest.mark.parametrize("used", ["file", "teleport-lite-release2", "Teleport-lite-release", " "])
def test_a_signature_for_another_purpose_is_refused(key, used):
    with pytest.raises(Denied, match="not teleport-lite-release"):
        check(sign(key("one"), MESSAGE, used), public(key("one")))


def test_a_namespace_can_not_be_pasted_in(key):
    """It is inside what is signed, so writing another one over it does not help."""
    blob = blob_of(sign(key("one"), MESSAGE, "teleport-lite-relaxed"))
    pasted = blob.replace(b"teleport-lite-relaxed", NAMESPACE.encode())
    with pytest.raises(Denied, match="changed"):
        check(armour(pasted), public(key("one")))


def test_a_key_that_is_not_trusted_is_refused_by_its_fingerprint(key, signed):
    shown = keygen("-l", "-f", str(key("one")) + ".pub").decode().split()[1]
    with pytest.raises(Denied, match=re.escape(shown)):
        check(signed[0], public(key("two")))


def test_with_no_keys_nothing_is_trusted(signed):
    with pytest.raises(Denied, match="not trusted"):
        check(signed[0])


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_types_of_keys_are_refused(key, signed, kind):
    other = key(f"a-{kind}", kind)
    with pytest.raises(Malformed, match="is not allowed, ssh-ed25519 is"):
        check(sign(other), signed[1])
    with pytest.raises(Malformed, match="release key"):
        check(signed[0], signed[1], public(other))


def test_every_changed_bit_is_refused(signed):
    """In the armour, in the base64, in what it holds: at every place, each in a few bits."""
    signature, line = signed
    assert check(signature, line)
    for at in range(len(signature)):
        for bit in (0, at % 5 + 1, 6):
            data = bytearray(signature.encode())
            data[at] ^= 1 << bit
            with pytest.raises((Denied, Malformed)):
                check(data.decode("latin-1"), line)


def test_every_changed_bit_inside_is_refused(signed):
    """The same below the base64, where every spelling is a proper one."""
    signature, line = signed
    whole = blob_of(signature)
    for at in range(len(whole) * 8):
        blob = bytearray(whole)
        blob[at // 8] ^= 1 << at % 8
        with pytest.raises((Denied, Malformed)):
            check(armour(bytes(blob)), line)


def test_a_signature_cut_off_anywhere_is_refused(signed):
    signature, line = signed
    for end in range(len(signature) - 1):  # the last line needs no newline
        with pytest.raises(Malformed):
            check(signature[:end], line)
    whole = blob_of(signature)
    for end in range(len(whole)):
        with pytest.raises(Malformed):
            check(armour(whole[:end]), line)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s + "\n",
        lambda s: s + "x",
        lambda s: s + s,
        lambda s: "\n" + s,
        lambda s: "# comment\n" + s,
        lambda s: s.replace("\n", "\r\n"),
        lambda s: s.replace("\n", "\n\n"),
        lambda s: s.replace("SSH SIGNATURE", "PGP SIGNATURE"),
        lambda s: s.replace("-----END", "=\n-----END"),
        lambda s: s.replace("U1NI", "U1N I"),
        lambda s: armour(blob_of(s) + b"\0"),
        lambda s: armour(blob_of(s)[:-1] + b"\0\0"),
        lambda s: armour(text(blob_of(s))),
        lambda s: armour(b"SSHSIG\0\0\0\2" + blob_of(s)[10:]),
        lambda s: armour(b"SSHSIG\0\0\0\0" + blob_of(s)[10:]),
        lambda s: armour(b"SSHsig" + blob_of(s)[6:]),
        lambda s: "",
        lambda s: "é" + s,
        lambda s: s[:40] + "\ud800" + s[41:],
        lambda s: "A" * (MAX_SIGNATURE + 1),
        lambda s: armour(b"A" * 3_000_000),
    ],
)
def test_what_is_not_exactly_one_signature_is_refused(signed, change):
    with pytest.raises(Malformed):
        check(change(signed[0]), signed[1])


def test_base64_with_stray_bits_is_another_spelling_and_refused(key):
    for size in range(1, 4):  # so that one of them ends in a "="
        namespace = NAMESPACE + "x" * size
        signature = sign(key("one"), MESSAGE, namespace)
        found = re.search(r"(.)(=+)\n-----END", signature)
        if found is None:
            continue
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        other = letters[letters.index(found[1]) | 1]
        changed = signature.replace(found[0], other + found[2] + "\n-----END")
        assert blob_of(changed) == blob_of(signature)
        with pytest.raises(Malformed, match="canonical"):
            verify(MESSAGE, changed, keys=[public(key("one"))], namespace=namespace)
        return
    pytest.fail("none of them ended in a =")


# Made by hand: what ssh-keygen would not write


def handmade(
    private: Ed25519PrivateKey,
    *,
    namespace: bytes = NAMESPACE.encode(),
    reserved: bytes = b"",
    algorithm: bytes = b"sha512",
    digest: bytes | None = None,
    kind: bytes = b"ssh-ed25519",
) -> tuple[str, str]:
    half = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    digest = hashlib.sha512(MESSAGE).digest() if digest is None else digest
    head = text(namespace) + text(reserved) + text(algorithm)
    raw = private.sign(b"SSHSIG" + head + text(digest))
    blob = text(b"ssh-ed25519") + text(half)
    whole = b"SSHSIG\0\0\0\1" + text(blob) + head + text(text(kind) + text(raw))
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return armour(whole), line


def test_our_own_words_for_it_are_right():
    """Else the refusals below would prove nothing."""
    assert check(*handmade(Ed25519PrivateKey.generate()))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"namespace": b""}, "namespace is empty"),
        ({"reserved": b"x"}, "reserved"),
        ({"algorithm": b"sha1", "digest": hashlib.sha1(MESSAGE).digest()}, "its hash is b'sha1'"),
        ({"algorithm": b"md5"}, "its hash is"),
        ({"algorithm": b"SHA512"}, "its hash is"),
        ({"kind": b"ssh-rsa"}, "'ssh-rsa' is not allowed"),
        ({"kind": b"sk-ssh-ed25519@openssh.com"}, "is not allowed"),
    ],
)
def test_what_no_release_needs_is_refused_though_rightly_signed(change, why):
    signature, line = handmade(Ed25519PrivateKey.generate(), **change)
    with pytest.raises(Malformed, match=re.escape(why)):
        check(signature, line)


def test_a_digest_of_one_hash_under_the_name_of_another_is_refused():
    other = {"algorithm": b"sha256", "digest": hashlib.sha512(MESSAGE).digest()}
    signature, line = handmade(Ed25519PrivateKey.generate(), **other)
    with pytest.raises(Denied, match="changed"):
        check(signature, line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 " + "A" * 68,
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43,
        "command=x ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43 + "\nssh-ed25519 more",
    ],
)
def test_a_trusted_key_that_can_not_be_read_is_not_passed_over(signed, line):
    with pytest.raises(Malformed, match="release key"):
        check(signed[0], signed[1], line)


@given(st.text(max_size=80) | st.binary(max_size=200).map(armour))
def test_any_text_is_refused_by_an_error_of_ours(signature: str) -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    with pytest.raises(Error):
        verify(b"", signature, keys=[line], namespace=NAMESPACE)
