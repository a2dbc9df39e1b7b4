"""Which certificate the web port shows."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from teleport_lite.config.model import KeyPair
from teleport_lite.errors import Denied, Malformed, NotFound
from teleport_lite.proxy.certificates import Certificates
from teleport_lite.testing.certs import PaperCluster, Papers
from teleport_lite.testing.fakes import FakeClock

CLUSTER = PaperCluster()


def papers(*names: str, **more: object) -> Papers:
    return CLUSTER.host("web", dns_names=names, **more)


@dataclass
class Files:
    """Two files with a certificate, as somebody else writes them."""

    home: Path
    name: str

    @property
    def pair(self) -> KeyPair:
        return KeyPair(
            key_file=self.home / f"{self.name}.key", cert_file=self.home / f"{self.name}.pem"
        )

    def put(self, held: Papers, *, only: str = "") -> "Files":
        """By rename, which is how certbot does it; each time at another time."""
        for path, text in (
            (self.pair.cert_file, held.tls_cert),
            (self.pair.key_file, held.tls_private.reveal()),
        ):
            if only in path.suffix:
                new = path.with_suffix(".new")
                new.write_text(text)
                new.rename(path)
        return self


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path, "one").put(papers("one.example.com"))


def read(*files: Files, clock: FakeClock | None = None) -> Certificates:
    found = Certificates([each.pair for each in files], clock or FakeClock(CLUSTER.now))
    found.load()
    return found


def test_files_win_over_acme_and_acme_over_our_own(files):
    own, acme = papers("own.example.com"), papers("acme.example.com")
    for given, expected, trusted in (
        ([], "own.example.com", False),
        (["acme"], "acme.example.com", True),
        (["acme", files], "one.example.com", True),
    ):
        found = read(*(each for each in given if isinstance(each, Files)))
        found.use_own(own.tls_cert, own.tls_private)
        if "acme" in given:
            found.use_acme(acme.tls_cert, acme.tls_private)
        shown = found.show("whatever.example.com")
        assert shown.cert.covers(expected)
        assert (shown.trusted, found.trusted) == (trusted, trusted)


def test_among_several_the_name_decides_and_else_the_first(files, tmp_path):
    wild = Files(tmp_path, "two").put(papers("two.example.com"))
    found = read(files, wild)
    assert found.show("TWO.example.com").cert.covers("two.example.com")
    assert found.show("other.example.com").cert.covers("one.example.com")
    assert found.show("").cert.covers("one.example.com")


def test_before_there_is_any_nothing_is_shown():
    with pytest.raises(Malformed, match="no certificate to show yet"):
        read().show()


def test_a_new_pair_is_read_and_open_connections_keep_theirs(files):
    found = read(files)
    before = found.show()
    assert found.reload() == 0
    assert found.show() is before
    files.put(papers("new.example.com"))
    assert found.reload() == 1
    assert found.show().cert.covers("new.example.com")
    assert found.show().context is not before.context


def test_a_pair_that_is_half_written_waits_for_the_other_half(files, caplog):
    found, new = read(files), papers("new.example.com")
    files.put(new, only="pem")
    assert found.reload() == 0
    assert found.show().cert.covers("one.example.com")
    assert "is not the (unencrypted) key of" in caplog.text
    files.put(new, only="key")
    assert found.reload() == 1
    assert found.show().cert.covers("new.example.com")


def test_a_broken_pair_is_told_once_and_the_old_one_stays(files, caplog):
    found = read(files)
    files.pair.cert_file.write_text("nonsense")
    for _ in range(3):
        assert found.reload() == 0
    assert caplog.text.count("the old one stays") == 1
    files.pair.cert_file.unlink()
    for _ in range(3):
        assert found.reload() == 0
    assert caplog.text.count("the old one stays") == 2
    assert "does not exist" in caplog.text
    assert found.show().cert.covers("one.example.com")
    files.put(papers("new.example.com"))
    assert found.reload() == 1


def test_missing_files_are_told_at_the_start(files):
    files.pair.key_file.unlink()
    with pytest.raises(NotFound, match=r"one\.key: does not exist"):
        read(files)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_that_we_may_not_read_are_told_at_the_start(files):
    files.pair.key_file.chmod(0)
    with pytest.raises(Denied, match=r"one\.key: may not be read by uid"):
        read(files)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe", b"A" * 300_000])
def test_files_that_are_no_certificates_are_told_at_the_start(files, content):
    files.pair.cert_file.write_bytes(content)
    with pytest.raises(Malformed, match=r"one\.pem: "):
        read(files)


def test_a_directory_is_no_certificate(files):
    files.pair.cert_file.unlink()
    files.pair.cert_file.mkdir()
    with pytest.raises(Malformed, match=r"one\.pem: can not be read"):
        read(files)


def test_the_key_of_another_certificate_does_not_do(files):
    files.put(papers("two.example.com"), only="key")
    with pytest.raises(Malformed, match=r"one\.key: is not the \(unencrypted\) key of"):
        read(files)


def test_an_encrypted_key_is_refused_and_nobody_asked_for_its_password(files):
    held = papers("one.example.com")
    key = load_pem_private_key(held.tls_private.reveal().encode(), None)
    files.put(held)
    files.pair.key_file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(Malformed, match="unencrypted"):
        read(files)


@pytest.mark.parametrize(
    ("days", "said"), [(0, ""), (3, "the certificate ends at"), (8, "the certificate ended at")]
)
def test_an_end_that_is_near_is_told(files, caplog, days, said):
    files.put(papers("one.example.com", life=timedelta(days=7.5)))
    found = read(files, clock=FakeClock(CLUSTER.now + timedelta(days=days)))
    assert said in caplog.text
    assert bool(said) == bool(caplog.records)
    assert found.ends() == found.show().cert.ends
