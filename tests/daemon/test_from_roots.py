"""A listener, and the CAs of clusters that are trusted."""

import ssl

import pytest

from teleport_lite.daemon.from_roots import trust_people
from teleport_lite.net.tls import server_context
from teleport_lite.proto.stream import RootWord
from teleport_lite.testing.certs import PaperCluster


def test_a_ca_that_can_not_be_read_is_left_out_and_the_others_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own, good = PaperCluster("leaf.test"), PaperCluster("root.test")
    host = own.host()
    context = server_context(host.tls_cert, host.tls_private, own.host_cas)
    noise = "-----BEGIN CERTIFICATE-----\nFoo: bar\n\nAAAA\n-----END CERTIFICATE-----\n"
    words = [
        RootWord(cluster=name, user_cas=cas, ssh_user_cas=[], role_map=[])
        for name, cas in (
            ("odd.test", [noise]),
            ("odder.test", ["\u00e9"]),
            ("root.test", [*good.user_cas]),
        )
    ]
    trust_people(context, words)
    assert sorted(context.get_ca_certs(binary_form=True)) == sorted(
        ssl.PEM_cert_to_DER_cert(each) for each in (*own.host_cas, *good.user_cas)
    )
    assert "a CA of cluster odd.test can not be used" in caplog.text
    assert "a CA of cluster odder.test can not be used" in caplog.text
