"""The files of a bot: whole, private, and such that OpenSSH and tctl take them."""

import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from teleport_lite.ambient import SystemClock
from teleport_lite.cli.tbot import output
from teleport_lite.client import identity_file
from teleport_lite.errors import Denied
from teleport_lite.testing.fakes import FakeClock
from tests.cli.tbot.makers import an_identity

NAMES = {
    "identity",
    "key",
    "key.pub",
    "key-cert.pub",
    "tlscert",
    "teleport-host-ca.crt",
    "teleport-user-ca.crt",
    "ssh_config",
    "known_hosts",
}


@pytest.fixture(scope="module")
def identity():
    return an_identity(FakeClock.here())


@pytest.fixture
def out(tmp_path, identity) -> Path:
    directory = tmp_path / "a dir"
    output.write(directory, identity)
    return directory


def test_the_usual_files_are_there_and_nothing_else(out):
    assert {path.name for path in out.iterdir()} == NAMES


def test_keys_are_for_their_owner_alone(out):
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert (modes.pop("key"), modes.pop("identity")) == (0o600, 0o600)
    assert set(modes.values()) == {0o644}


def test_no_private_key_stands_in_a_public_file(out):
    for name in NAMES - {"key", "identity"}:
        assert "PRIVATE KEY" not in (out / name).read_text()


def test_one_key_fits_the_ssh_and_the_tls_certificate(out):
    key = serialization.load_pem_private_key((out / "key").read_bytes(), None)
    public = key.public_key()
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    cert = x509.load_pem_x509_certificate((out / "tlscert").read_bytes())
    encoded = [
        each.public_bytes(serialization.Encoding.DER, spki) for each in (public, cert.public_key())
    ]
    assert encoded[0] == encoded[1]
    line = (out / "key.pub").read_text().split()
    assert serialization.load_ssh_public_key(" ".join(line[:2]).encode()) == public
    ssh_cert = serialization.load_ssh_public_identity((out / "key-cert.pub").read_bytes())
    assert ssh_cert.public_key() == public


def test_tctl_reads_the_identity(out, identity):
    read = identity_file.load(out / "identity")
    assert (read.cluster, read.tls_cert) == (identity.cluster, identity.tls_cert)
    assert read.tls_private.reveal() == identity.tls_private.reveal()


def test_openssh_reads_the_key_and_the_certificate(out):
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(out / "key")], capture_output=True, text=True, check=True
    ).stdout.split()[:2]
    assert derived == (out / "key.pub").read_text().split()[:2]
    shown = subprocess.run(
        ["ssh-keygen", "-Lf", str(out / "key-cert.pub")], capture_output=True, text=True, check=True
    ).stdout
    assert 'Key ID: "bot-ci"' in shown


def test_openssh_reads_the_config_and_asks_nothing(out):
    shown = subprocess.run(
        ["ssh", "-G", "-F", str(out / "ssh_config"), "root@web-1"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert f"identityfile {out}/key" in shown
    assert f"certificatefile {out}/key-cert.pub" in shown
    assert f"userknownhostsfile {out}/known_hosts" in shown or (
        f'userknownhostsfile "{out}/known_hosts"' in shown
    )
    assert {"port 3022", "stricthostkeychecking true", "identitiesonly yes"} <= set(shown)
    assert {"passwordauthentication no", "updatehostkeys false"} <= set(shown)


def test_known_hosts_believes_the_host_ca_alone(out, identity):
    lines = (out / "known_hosts").read_text().splitlines()
    assert lines == [f"@cert-authority * {line}" for line in identity.ssh_host_cas]


def test_writing_again_replaces_every_file(out):
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    output.write(out, an_identity(SystemClock()))
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert [name for name in sorted(NAMES) if before[name] == after[name]] == ["ssh_config"]


def test_a_directory_that_others_may_enter_is_refused(tmp_path, identity):
    directory = tmp_path / "open"
    directory.mkdir(mode=0o755)
    with pytest.raises(Denied, match="has mode 0755") as why:
        output.write(directory, identity)
    assert why.value.hint == f"chmod 700 {directory}"
    assert list(directory.iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path, identity):
    directory, victim = tmp_path / "out", tmp_path / "victim"
    directory.mkdir(mode=0o700)
    (directory / "key").symlink_to(victim)
    with pytest.raises(Denied, match="a symbolic link"):
        output.write(directory, identity)
    assert not victim.exists()
