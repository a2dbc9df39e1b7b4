"""Which names a web certificate is for."""

from datetime import UTC, datetime

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.pki.web_cert import WebCert, web_cert
from teleport_lite.testing.certs import PaperCluster

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_certificate_says_its_names_and_its_end():
    cluster = PaperCluster()
    cert = web_cert(cluster.host("Web1", dns_names=("Proxy.example.com",)).tls_cert)
    assert cert.covers("proxy.example.com")
    assert cert.starts < cluster.now < cert.ends


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("a.example.com", True),
        ("A.EXAMPLE.COM.", True),
        ("x.wild.example.com", True),
        ("wild.example.com", False),
        ("a.b.wild.example.com", False),
        ("b.example.com", False),
        ("", False),
    ],
)
def test_a_wildcard_stands_for_one_label(name, covered):
    cert = WebCert(names=("a.example.com", "*.wild.example.com"), starts=T0, ends=T0)
    assert cert.covers(name) is covered


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate_is_malformed(text):
    with pytest.raises(Malformed, match="the certificate can not be read"):
        web_cert(text)
