"""Taking a certificate apart: the reader by itself, without the second one of `cryptography`."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.pki.ssh_cert import USER, read_ssh_cert
from teleport_lite.pki.visitor import the_value
from teleport_lite.testing.certs import options, packed, public_blob
from tests.pki import forgeries
from tests.pki.forgeries import ED

RIGHT = forgeries.cluster().forgery(
    forgeries.ed_key(),
    serial=9,
    principals=(b"root", b""),
    valid_after=1,
    valid_before=2,
    critical=options((b"a", None), (b"b", b"")),
    extensions=options((b"c", b"d")),
    reserved=b"later",
)


def test_every_field_is_found() -> None:
    cert = read_ssh_cert(RIGHT.blob())
    assert (cert.key_type, cert.serial, cert.type, cert.key_id) == (ED, 9, USER, b"alice")
    assert cert.principals == (b"root", b"")
    assert (cert.valid_after, cert.valid_before) == (1, 2)
    # A flag and an option with an empty value are two things.
    assert cert.critical == ((b"a", b""), (b"b", packed(b"")))
    assert cert.extensions == ((b"c", packed(b"d")),)
    assert cert.ca_blob == public_blob(forgeries.ca())
    assert cert.signature_algorithm == b"ssh-ed25519"


@pytest.mark.parametrize("bits", [256, 384, 521])
def test_keys_of_two_fields_are_passed_over(bits: int) -> None:
    for key in (forgeries.ec_key(bits), forgeries.rsa_key(2048)):
        assert read_ssh_cert(replace(RIGHT, key=key).blob()).serial == 9


@pytest.mark.parametrize(
    "name",
    [b"ssh-ed25519", b"ssh-dss-cert-v01@openssh.com", b"-cert-v01@openssh.com", b"", b"\xff"],
)
def test_only_certificates_of_known_keys_are_read(name: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate of a key type"):
        read_ssh_cert(packed(name) + RIGHT.blob()[4 + len(ED) :])


def test_nothing_may_follow_the_certificate_or_its_signature() -> None:
    with pytest.raises(ValueError, match="trailing bytes"):
        read_ssh_cert(replace(RIGHT, tail=b"\0").blob())
    longer = packed(b"ssh-ed25519") + packed(b"\0" * 64) + b"\0"
    with pytest.raises(ValueError, match="trailing bytes"):
        read_ssh_cert(replace(RIGHT, signature=longer).blob())


def test_an_option_has_one_value() -> None:
    assert the_value(packed(b"x")) == b"x"
    for wrong in (b"", b"x", packed(b"x") + b"y", packed(b"x") * 2):
        with pytest.raises(ValueError, match=r"truncated|trailing"):
            the_value(wrong)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_certificate_or_a_value_error(tail: bytes) -> None:
    for blob in (tail, packed(ED.encode()) + tail):
        with pytest.raises(ValueError, match=r"."):
            read_ssh_cert(blob)
