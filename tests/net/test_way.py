"""To auth, straight or through a proxy that opens nothing."""

import json
import socket
import ssl
from collections.abc import Iterator

import pytest

from teleport_lite.errors import Malformed, Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.net.way import Way, cluster_in, find_way, introduction, web_of
from teleport_lite.proto.alpn import PROXY_SERVER_NAME
from teleport_lite.proto.codec import write
from teleport_lite.proto.join import Bundle
from teleport_lite.testing.certs import PaperCluster
from tests.net.relays import Relay
from tests.net.servers import Little, answering, reply, request, silence
from tests.net.serving import shown, trusting
from tests.support import free_port

CLUSTER = PaperCluster()
BUNDLE = Bundle(cluster="test.example", version="1.2.3", time=0.0, host_cas=CLUSTER.host_cas)


def _introduce(wire: socket.socket) -> None:
    while said := request(wire):
        known = said.startswith(b"GET /v1/ca ")
        wire.sendall(reply(write(BUNDLE)) if known else reply(b"{}", "404 Not Found"))


@pytest.fixture
def auth() -> Iterator[Little]:
    with Little(_introduce, shown(CLUSTER).context) as server:
        yield server


@pytest.fixture
def proxy(auth: Little) -> Iterator[Relay]:
    with Relay(auth.address) as relay:
        yield relay


def ask(way: Way, cluster: PaperCluster = CLUSTER) -> Bundle:
    with Connection.tls(way, trusting(cluster), timeout=30) as wire:
        return Bundle(**wire.ask("/v1/ca"))


def test_straight_and_through_a_proxy_it_is_the_same_auth(auth: Little, proxy: Relay) -> None:
    assert ask(Way(auth.address)) == ask(Way(proxy.address, "test.example")) == BUNDLE
    assert proxy.passed == 1
    assert b"test.example" in proxy.seen, "the name in the first packet"
    assert b"host_cas" not in proxy.seen, "and nothing of what was said"


def test_auth_does_not_mind_being_asked_as_if_through_a_proxy(auth: Little) -> None:
    assert ask(Way(auth.address, "test.example")) == BUNDLE
    assert ask(Way(auth.address, "another.example")) == BUNDLE


def test_a_proxy_that_answers_in_place_of_auth_is_not_believed(auth: Little) -> None:
    """With the best certificate it can have: its own, of the same cluster."""
    own = shown(CLUSTER, CLUSTER.host("p", roles=("Proxy",), dns_names=(PROXY_SERVER_NAME,)))
    with Little(_introduce, own.context) as posing:
        with pytest.raises(ssl.SSLCertVerificationError, match="ostname mismatch"):
            ask(Way(posing.address, "test.example"))
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(Way(auth.address, "test.example"), PaperCluster("other.example"))


def test_what_is_at_an_address_is_found_by_asking(auth: Little, proxy: Relay) -> None:
    assert find_way(auth.address, timeout=30) == Way(auth.address)
    assert find_way(proxy.address, timeout=30) == Way(proxy.address, "test.example")
    assert introduction(Way(proxy.address, "test.example"), timeout=30) == BUNDLE


def test_neither_auth_nor_a_proxy_is_an_error() -> None:
    with pytest.raises(Unavailable, match="Connection refused"):
        find_way(f"127.0.0.1:{free_port()}")
    with Little(answering(reply(b"{}")), shown(CLUSTER).context) as other:
        with pytest.raises(Malformed):
            find_way(other.address, timeout=30)
        assert web_of(other.address, timeout=30) is None
    with Little(silence) as mute:
        assert web_of(mute.address, timeout=0.2) is None
        with pytest.raises((Unavailable, ssl.SSLError)):
            find_way(mute.address, timeout=0.2)
    with Little(lambda wire: wire.sendall(b"SSH-2.0-x\r\n")) as ssh, pytest.raises(ssl.SSLError):
        find_way(ssh.address, timeout=30)


@pytest.mark.parametrize("path", ["/v1/webapi/find", "/webapi/ping"])
def test_a_proxy_is_asked_in_every_way_it_may_answer(path: str) -> None:
    doc = {"server_version": "1", "cluster_name": "a.example"}

    def talk(wire: socket.socket) -> None:
        while said := request(wire):
            known = said.split()[1].decode() == path
            wire.sendall(reply(json.dumps(doc).encode()) if known else reply(b"", "404 None"))

    with Little(talk, shown(CLUSTER).context) as server:
        assert web_of(server.address, timeout=30) == doc


@pytest.mark.parametrize(
    "said", [None, {}, {"cluster_name": 1}, {"cluster_name": ""}, {"cluster_name": "a b\x1b[2J"}]
)
def test_a_name_of_a_cluster_that_can_not_be_one_is_none(said: dict[str, object] | None) -> None:
    assert cluster_in(said) == ""
    if said and isinstance(said.get("cluster_name"), str) and said["cluster_name"]:
        with pytest.raises(Malformed, match="cluster name"):
            Way("proxy.example:3080", str(said["cluster_name"]))


def test_a_way_has_a_name_for_people() -> None:
    assert Way("10.0.0.1:3025").name == "10.0.0.1:3025"
    assert Way("p.example:3080", "x.example").name == "p.example:3080 (proxy)"


@pytest.mark.parametrize("name", ["c" * 128, "a." * 60 + "b", "UPPER.example"])
def test_any_cluster_name_gets_through(auth: Little, name: str) -> None:
    with Relay(auth.address, name) as relay:
        assert find_way(relay.address, timeout=30) == Way(relay.address, name)
        assert ask(Way(relay.address, name)) == BUNDLE
