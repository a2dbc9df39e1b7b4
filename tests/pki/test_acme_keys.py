"""What is shown to a certificate authority."""

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography import x509

from teleport_lite.errors import Malformed
from teleport_lite.pki.acme_keys import ACME_IDENTIFIER, challenge_cert, ec_key, order_request
from teleport_lite.pki.keys import new_ssh_key, new_tls_key
from teleport_lite.secret import Secret

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def test_a_challenge_certificate_is_as_rfc_8737_wants_it():
    digest = hashlib.sha256(b"key authorization").digest()
    pem, key = challenge_cert("tele.example.com", digest, NOW)
    cert = x509.load_pem_x509_certificate(pem.encode())
    assert cert.issuer == cert.subject
    assert cert.public_key() == ec_key(key).public_key()
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["tele.example.com"]
    found = cert.extensions.get_extension_for_oid(ACME_IDENTIFIER)
    assert found.critical
    assert found.value.value == b"\x04\x20" + digest


def test_a_request_names_all_names():
    key = new_tls_key()
    request = x509.load_pem_x509_csr(order_request(key, ["a.example.com", "b.example.com"]))
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example.com", "b.example.com"]
    assert request.is_signature_valid


@pytest.mark.parametrize("key", [Secret("nothing"), new_ssh_key()[0]], ids=["no key", "Ed25519"])
def test_another_key_is_malformed(key):
    with pytest.raises(Malformed, match="the key"):
        order_request(key, ["a.example.com"])
