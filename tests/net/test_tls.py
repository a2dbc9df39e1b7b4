"""TLS contexts."""

import ssl

import pytest

from teleport_lite.errors import Malformed
from teleport_lite.net.tls import client_context, server_context, stranger_context
from teleport_lite.testing.certs import PaperCluster

CLUSTER = PaperCluster()
NODE = CLUSTER.host()
CONTEXTS = {
    "server": lambda: server_context(NODE.tls_cert, NODE.tls_private, CLUSTER.host_cas),
    "client": lambda: client_context(NODE.tls_cert, NODE.tls_private, CLUSTER.host_cas),
    "client without papers": lambda: client_context(None, None, CLUSTER.host_cas),
    "stranger": stranger_context,
}


@pytest.mark.parametrize("which", CONTEXTS)
def test_only_tls_1_3_is_spoken(which: str) -> None:
    context = CONTEXTS[which]()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.options & ssl.OP_NO_COMPRESSION


def test_a_server_asks_for_a_certificate_and_gives_no_tickets() -> None:
    context = CONTEXTS["server"]()
    assert context.verify_mode is ssl.CERT_OPTIONAL
    assert context.num_tickets == 0
    quiet = server_context(
        NODE.tls_cert, NODE.tls_private, CLUSTER.host_cas, ask_for_certificate=False
    )
    assert quiet.verify_mode is ssl.CERT_NONE


def test_a_client_checks_name_and_certificate_and_trusts_our_cas_alone() -> None:
    context = CONTEXTS["client"]()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_a_stranger_trusts_nobody() -> None:
    context = stranger_context()
    assert context.get_ca_certs() == []
    assert not context.check_hostname


def test_a_key_that_does_not_fit_is_told_without_showing_it() -> None:
    with pytest.raises(Malformed, match="do not fit together") as why:
        client_context(NODE.tls_cert, CLUSTER.host().tls_private, CLUSTER.host_cas)
    assert "PRIVATE" not in str(why.value) + why.value.log


def test_a_key_never_touches_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(_context: object, path: str, **_more: object) -> None:
        loaded.append(path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    CONTEXTS["server"]()
    assert loaded[0].startswith("/proc/self/fd/")
