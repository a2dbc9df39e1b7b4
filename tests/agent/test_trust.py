"""News of a root, from one that means no good."""

import ssl
import time

import pytest

from teleport_lite.agent import trust
from teleport_lite.ambient import SystemClock
from teleport_lite.errors import Error, Unavailable
from teleport_lite.model.trust import TrustedCluster
from teleport_lite.net.tls import server_context
from teleport_lite.proto.alpn import to_auth
from teleport_lite.proto.trust import TrustHello
from teleport_lite.testing.certs import PaperCluster
from tests.net.servers import Little

ROOT = PaperCluster("root.test")


def kept(address: str, *host_cas: str) -> TrustedCluster:
    papers = ROOT.host(roles=("RemoteProxy",))
    return TrustedCluster(
        name="root.test",
        proxy=address,
        host_cas=host_cas or tuple(ROOT.host_cas),
        tls_cert=papers.tls_cert,
        tls_private=papers.tls_private,
        created_at=SystemClock().now(),
    )


def auth_context() -> ssl.SSLContext:
    papers = ROOT.host(roles=("Auth",), dns_names=("auth.teleport-lite.internal",))
    context = server_context(papers.tls_cert, papers.tls_private, ROOT.host_cas)
    context.set_alpn_protocols([to_auth("root.test")])
    return context


def test_a_root_that_says_a_letter_now_and_then_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "PATIENCE", 0.5)

    def drip(wire: object) -> None:
        try:
            for _ in range(600):
                wire.sendall(b"H")  # type: ignore[attr-defined]
                time.sleep(0.1)
        except OSError:
            return

    with Little(drip, auth_context()) as server, pytest.raises(Unavailable):
        trust.news_of(kept(server.address), TrustHello(cluster="leaf.test"))


def test_what_is_kept_of_a_root_and_is_no_ca_says_so() -> None:
    noise = "-----BEGIN CERTIFICATE-----\nFoo: bar\n\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(Error, match=r"127\.0\.0\.1:9"):
        trust.news_of(kept("127.0.0.1:9", noise), TrustHello(cluster="leaf.test"))
