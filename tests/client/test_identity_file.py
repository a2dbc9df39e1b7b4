"""The single-file identity: there and back, and nothing half."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.client import identity_file
from teleport_lite.client.identity_file import IdentityFile
from teleport_lite.errors import Denied, Malformed, NotFound
from teleport_lite.pki import keys
from teleport_lite.secret import Secret


def cert(text: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


def an_identity() -> IdentityFile:
    return IdentityFile(
        cluster="tele.example.com",
        ssh_private=keys.new_portable_ssh_key()[0],
        ssh_cert="ecdsa-sha2-nistp256-cert-v01@openssh.com AAAA",
        tls_private=keys.new_tls_key(),
        tls_cert=cert("bGVhZg=="),
        ssh_host_cas=("ssh-ed25519 AAAAold", "ssh-ed25519 AAAAnew"),
        host_cas=(cert("b2xk"), cert("bmV3")),
    )


def test_what_is_written_is_read_back() -> None:
    written = an_identity()
    assert identity_file.read(identity_file.write(written), "f") == written


def test_the_certificate_line_is_first_because_ssh_looks_there() -> None:
    first, second = identity_file.write(an_identity()).decode().splitlines()[:2]
    assert first.startswith("ecdsa-sha2-nistp256-cert-v01@openssh.com ")
    assert second == "-----BEGIN PRIVATE KEY-----"


def test_a_file_from_another_system_may_have_its_line_ends() -> None:
    written = an_identity()
    raw = identity_file.write(written).replace(b"\n", b"\r\n")
    assert identity_file.read(raw, "f") == written


def test_a_file_that_lacks_a_part_is_refused_whole() -> None:
    whole = identity_file.write(an_identity()).decode()
    lines = whole.splitlines(keepends=True)
    without_cert = "".join(lines[1:])
    without_cas = "".join(line for line in lines if not line.startswith("@cert-authority"))
    two_clusters = whole.replace("@cert-authority *.tele", "@cert-authority *.other", 1)
    cut = whole[: len(whole) // 2]
    for text in (without_cert, without_cas, two_clusters, cut, lines[0] * 2 + without_cert, ""):
        with pytest.raises(Malformed, match="f is not an identity file"):
            identity_file.read(text.encode(), "f")


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alice"
    path.write_bytes(identity_file.write(an_identity()))
    path.chmod(0o644)
    with pytest.raises(Denied, match="0644"):
        identity_file.load(path)
    path.chmod(0o600)
    assert identity_file.load(path).cluster == "tele.example.com"
    with pytest.raises(NotFound):
        identity_file.load(tmp_path / "bob")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Denied):
        identity_file.load(tmp_path / "pipe")


def test_keys_stay_secret_when_it_is_printed() -> None:
    assert "PRIVATE" not in repr(an_identity())
    assert isinstance(an_identity().tls_private, Secret)


@given(st.binary() | st.text(alphabet="-BEGIN PRIVATE KEYCRTFA@cert-v01\n").map(str.encode))
def test_strangers_bytes_are_an_identity_or_malformed(raw: bytes) -> None:
    try:
        identity_file.read(raw, "f")
    except Malformed:
        return
    raise AssertionError("nobody guesses an identity")
