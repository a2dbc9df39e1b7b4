"""What the first bytes of a connection mean to a proxy."""

import pytest

from teleport_lite.errors import NotFound
from teleport_lite.net.peek import Kind, Opening
from teleport_lite.proto.alpn import ACME, AUTH, DIRECT, LEAF, SSH, TUNNEL, proxy_name, to_auth
from teleport_lite.proxy.errand import Errand, Found, errand

OWN = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"


def found(*alpn: str, sni: str = "", kind: Kind = Kind.TLS) -> Found:
    return errand(Opening(kind, alpn, sni), cluster="test.example", own_id=OWN)


@pytest.mark.parametrize(
    ("alpn", "meant"),
    [
        ((), Errand.WEB),
        (("h2", "http/1.1"), Errand.WEB),
        ((to_auth("test.example"),), Errand.AUTH),
        ((SSH,), Errand.GATE),
        ((ACME,), Errand.ACME),
        (("http/1.1", SSH), Errand.GATE),
        (("teleport-auth",), Errand.WEB),
        (("TELEPORT-PROXY-SSH",), Errand.WEB),
    ],
)
def test_the_protocol_that_is_asked_for_decides(alpn, meant):
    assert found(*alpn) == Found(meant)


def test_ssh_and_http_without_tls():
    assert found(kind=Kind.SSH) == Found(Errand.JUMP)
    assert found(kind=Kind.HTTP) == Found(Errand.PLAIN)


@pytest.mark.parametrize("sni", ["", proxy_name(OWN), "proxy.example.com"])
def test_a_tunnel_is_ours_unless_it_names_another_proxy(sni):
    assert found(TUNNEL, sni=sni) == Found(Errand.TUNNEL, OWN)


def test_a_tunnel_for_another_proxy():
    assert found(TUNNEL, sni=proxy_name(OTHER)) == Found(Errand.PROXY, OTHER)


def test_a_tunnel_that_nobody_is_to_pass_on_is_for_us_or_nobody():
    assert found(TUNNEL, DIRECT, sni=proxy_name(OWN)) == Found(Errand.TUNNEL, OWN)
    assert found(DIRECT, sni=proxy_name(OTHER)) == Found(Errand.WEB)
    for names in ((TUNNEL, DIRECT), (DIRECT, TUNNEL)):
        with pytest.raises(NotFound, match="for another proxy"):
            found(*names, sni=proxy_name(OTHER))


def test_the_name_of_another_proxy_means_nothing_to_the_web():
    assert found(sni=proxy_name(OTHER)) == Found(Errand.WEB)


@pytest.mark.parametrize("cluster", ["other.example", "", "test.example.", "TEST.example"])
def test_another_cluster_is_not_reached_through_us(cluster):
    with pytest.raises(NotFound, match="is not known here"):
        found(to_auth(cluster))


# Clusters that trust ours


def test_auth_of_a_leaf_is_an_errand_of_its_own() -> None:
    opening = Opening(Kind.TLS, alpn=(f"{AUTH}leaf.test",))
    found = errand(
        opening, cluster="test.example", own_id="me", leaf=lambda name: name == "leaf.test"
    )
    assert (found.errand, found.cluster) == (Errand.LEAF_AUTH, "leaf.test")
    with pytest.raises(NotFound, match=r"cluster 'leaf\.test' is not known here"):
        errand(opening, cluster="test.example", own_id="me")


@pytest.mark.parametrize("alpn", [(TUNNEL, LEAF), (TUNNEL, LEAF, DIRECT), (LEAF, TUNNEL)])
def test_the_tunnel_of_a_leaf_is_told_from_that_of_a_host(alpn: tuple[str, ...]) -> None:
    found = errand(Opening(Kind.TLS, alpn=alpn), cluster="test.example", own_id="me")
    assert found.errand is Errand.LEAF


def test_the_tunnel_of_a_leaf_is_passed_on_as_any_other() -> None:
    opening = Opening(Kind.TLS, alpn=(TUNNEL, LEAF), sni=proxy_name("other"))
    found = errand(opening, cluster="test.example", own_id="me")
    assert (found.errand, found.proxy) == (Errand.PROXY, "other")
