"""The proxy role on real ports: what goes where, and what goes nowhere."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from teleport_lite.daemon.proxy_metrics import ProxyMetrics
from teleport_lite.errors import NotFound, Unavailable
from teleport_lite.model.lock import Lock, Target
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import client_context, stranger_context
from teleport_lite.net.way import Way, find_way, handshake, web_of
from teleport_lite.proto.alpn import ACME, SSH, TUNNEL, proxy_name, to_auth
from teleport_lite.proto.stream import ProxyPlace, Route, Routes
from teleport_lite.proxy.meter import CODE, KIND
from teleport_lite.testing.certs import PaperCluster
from tests.daemon.proxies import TEXT, PaperAuth, ProxyServing
from tests.net.middlebox import middlebox
from tests.net.serving import LOOPS, trusting
from tests.support import eventually, free_port
from tests.tunnel_rig import agent as an_agent
from tests.tunnel_rig import host as a_host
from tests.tunnel_rig import until


@pytest.fixture(scope="module")
def cluster() -> PaperCluster:
    return PaperCluster()


@pytest.fixture(scope="module")
def auth(cluster) -> Iterator[PaperAuth]:
    with PaperAuth(cluster) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, cluster, auth) -> Iterator[ProxyServing]:
    home = tmp_path_factory.mktemp("proxy")
    with ProxyServing(home / "one", cluster, auth=auth.address) as running:
        running.knows(running.place)
        yield running


def dial(proxy: ProxyServing, *alpn: str, sni: str = "localhost") -> ssl.SSLSocket:
    context = stranger_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return handshake(proxy.address, context, sni, timeout=30)


def hung_up(wire: socket.socket) -> bool:
    wire.settimeout(30)
    try:
        return wire.recv(1) == b""
    except OSError:
        return True


@pytest.mark.parametrize("loop", LOOPS)
def test_auth_is_reached_end_to_end_and_told_who_comes(tmp_path, cluster, auth, loop):
    with ProxyServing(tmp_path / "one", cluster, auth=auth.address, loop=loop) as proxy:
        way = Way(proxy.address, cluster.name)
        with Connection.tls(way, trusting(cluster)) as wire:
            big = {"x": "y" * 1_000_00}
            answer = wire.ask("/v1/anything", big)
            assert wire.peer_certificate == auth.server.show.certificate
        assert answer == {"path": "/v1/anything", "address": "127.0.0.1", "size": 100_008}
        eventually(lambda: proxy.role.meter.connections == 1, seconds=30)
        proxy.call(proxy.role._report)
        [event] = proxy.events
        assert (event.kind, event.code, event.facts["to"]) == (KIND, CODE, "auth")
        assert event.facts["addr.remote"] == "127.0.0.1"
        assert int(event.facts["bytes_up"]) > 100_000


def test_what_answers_is_found_to_be_a_proxy(proxy, cluster):
    assert find_way(proxy.address) == Way(proxy.address, cluster.name)
    said = web_of(proxy.address)
    assert said["proxy"]["ssh"]["public_addr"] == proxy.address
    assert said["ca_pins"]


def test_auth_of_another_cluster_is_not_reached(proxy):
    with pytest.raises((OSError, Unavailable)):
        dial(proxy, to_auth("other.example"))


def test_auth_that_is_away_ends_the_connection(tmp_path, cluster, caplog):
    nobody = f"127.0.0.1:{free_port()}"
    with ProxyServing(tmp_path / "one", cluster, auth=nobody) as proxy:
        with pytest.raises((OSError, Unavailable)):
            dial(proxy, to_auth(cluster.name))
        assert web_of(proxy.address)["cluster_name"] == cluster.name
    assert f"a connection to auth can not be passed on: can not connect to {nobody}" in caplog.text


def test_the_gate_shows_the_proxy_and_asks_for_a_person(proxy, cluster):
    context = client_context(None, None, cluster.host_cas)
    context.set_alpn_protocols([SSH])
    with handshake(proxy.address, context, proxy_name(proxy.identity.host_id), timeout=30) as wire:
        assert wire.selected_alpn_protocol() == SSH
        assert b'"ok":false' in wire.recv(4096)


def test_a_tunnel_needs_a_certificate_of_a_host(proxy, cluster):
    with dial(proxy, TUNNEL, sni=proxy_name(proxy.identity.host_id)) as wire:
        assert wire.selected_alpn_protocol() == TUNNEL
        assert hung_up(wire)


def test_a_host_that_is_removed_loses_its_tunnel_and_gets_no_other(proxy, cluster):
    """Its certificate is good for hours, and nobody has locked it."""
    host = a_host(cluster)
    route = Route(id=host.host_id, name="web1")
    tunnels = proxy.role.ssh.tunnels

    async def work() -> None:
        brings = an_agent(host)
        await brings.start()
        brings.learn([proxy.place])
        await until(lambda: brings.held() and tunnels.get(host.host_id))
        proxy.call(lambda: proxy.role.routes(Routes(first=False, gone=[host.host_id])))
        await until(lambda: not brings.held() and not tunnels.get(host.host_id))
        await brings.close()
        again = an_agent(host)
        await again.start()
        again.learn([proxy.place])
        await until(lambda: again.counters.failed)
        assert not again.held()
        await again.close()
        proxy.call(lambda: proxy.role.routes(Routes(first=False, hosts=[route])))
        joined = an_agent(host)
        await joined.start()
        joined.learn([proxy.place])
        await until(joined.held, what="a host that has joined again")
        await joined.close()

    asyncio.run(work())


def test_a_tunnel_for_another_proxy_is_passed_on_unopened(tmp_path, cluster, auth, proxy):
    with ProxyServing(tmp_path / "two", cluster, auth=auth.address) as other:
        proxy.knows(proxy.place, other.place)
        context = client_context(None, None, cluster.host_cas)
        context.set_alpn_protocols([TUNNEL])
        name = proxy_name(other.identity.host_id)
        with handshake(proxy.address, context, name, timeout=30) as wire:
            shown = wire.getpeercert()
            assert shown is not None
            assert ("DNS", name) in shown["subjectAltName"]
        eventually(
            lambda: any(port.counts["relayed"] for port in other.role._ports.values()), seconds=30
        )


def test_a_locked_proxy_is_not_believed_about_addresses(tmp_path, cluster, auth, proxy):
    with ProxyServing(tmp_path / "two", cluster, auth=auth.address) as other:
        proxy.knows(proxy.place, other.place)
        name, now = other.identity.host_id, proxy.clock.now()
        lock = Lock(id="lock-1", target=Target.NODE, value=proxy.identity.host_id, created_at=now)
        dial(proxy, TUNNEL, sni=proxy_name(name)).close()
        other.knows(proxy.place, locks=[lock])
        with pytest.raises((OSError, Unavailable)):
            dial(proxy, TUNNEL, sni=proxy_name(name))
        [port] = other.role._ports.values()
        assert (port.counts["relayed"], port.counts["unattested"]) == (1, 1)


def test_proxies_that_lead_to_each_other_pass_nothing_round(tmp_path, cluster, auth, proxy):
    third = "00000000-0000-4000-8000-000000000003"
    with ProxyServing(tmp_path / "two", cluster, auth=auth.address) as other:
        proxy.knows(proxy.place, ProxyPlace(id=third, address=other.address))
        other.knows(other.place, ProxyPlace(id=third, address=proxy.address))
        with pytest.raises((OSError, Unavailable)):
            dial(proxy, TUNNEL, sni=proxy_name(third))
        assert other.role.meter.connections == 0


def test_a_tunnel_that_was_passed_on_lands_when_the_balancer_turns(
    tmp_path, cluster, auth, proxy, monkeypatch
):
    monkeypatch.setattr("teleport_lite.agent.tunnels.SPACING", (0.05, 0.1))
    host = a_host(cluster)

    async def work(other: ProxyServing) -> None:
        await until(lambda: not proxy.role.passing.open, what="what others have left here to end")
        async with middlebox(port_of(proxy, 0)) as box:
            brings = an_agent(host, shared=[f"127.0.0.1:{box.port}"])
            await brings.start()
            brings.learn([ProxyPlace(id=other.identity.host_id)])
            tunnels = other.role.ssh.tunnels
            relayed = await until(lambda: brings.held() and tunnels.get(host.host_id))
            await until(lambda: box.connections > 1, what="a look that goes astray")
            assert proxy.role.passing.open == 1, "it was refused, not passed on"
            box.target = port_of(other, 0)
            await until(lambda: tunnels.get(host.host_id) not in (None, relayed))
            await until(lambda: not proxy.role.passing.open)
            await until(lambda: brings.counters.connected == 2)
            assert brings.counters.lost == brings.counters.failed == 0
            await brings.close()

    with ProxyServing(tmp_path / "two", cluster, auth=auth.address) as other:
        proxy.knows(proxy.place, other.place)
        asyncio.run(work(other))


def test_a_tunnel_for_a_proxy_that_nobody_knows_is_ended(proxy):
    proxy.knows(proxy.place)
    with pytest.raises((OSError, Unavailable)):
        dial(proxy, TUNNEL, sni=proxy_name("00000000-0000-4000-8000-000000000009"))


def test_no_authority_is_answered_when_no_certificate_is_ordered(proxy):
    with pytest.raises((OSError, Unavailable)):
        dial(proxy, ACME, sni="tele.example.com")


def test_ssh_is_greeted_on_the_same_port(proxy):
    host, _, port = proxy.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(b"SSH-2.0-test\r\n")
        assert wire.recv(100).startswith(b"SSH-2.0-")


def test_plain_http_is_led_to_https(proxy):
    host, _, port = proxy.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(b"GET /web/invite/secret HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b"".join(iter(lambda: wire.recv(4096), b"")).decode()
    assert answer.startswith("HTTP/1.1 307 ")
    assert f"Location: https://{proxy.address}/\r\n" in answer
    assert "secret" not in answer


def test_anything_else_is_hung_up_on(proxy):
    host, _, port = proxy.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(b"\x00\x01\x02 nonsense\r\n")
        assert hung_up(wire)


def test_a_certificate_of_our_own_ca_is_no_reason_for_hsts(proxy):
    with Connection(dial(proxy), proxy.address) as wire:
        answer = wire._http
        answer.request("GET", "/")
        assert answer.getresponse().getheader("Strict-Transport-Security") is None


def test_files_are_shown_and_read_again(tmp_path, cluster, auth):
    def put(name: str) -> None:
        held = cluster.host("web", dns_names=(name,))
        (tmp_path / "key").write_text(held.tls_private.reveal())
        (tmp_path / "cert").write_text(held.tls_cert)

    put("one.example.com")
    text = TEXT + f"  https_keypairs: [{{key_file: {tmp_path}/key, cert_file: {tmp_path}/cert}}]\n"
    text += "  https_keypairs_reload_interval: 50ms\n"
    with ProxyServing(tmp_path / "p", cluster, auth=auth.address, text=text) as proxy:
        assert "one.example.com" in names(proxy)
        with Connection(dial(proxy), proxy.address) as open_:
            assert open_.ask("/webapi/find")["cluster_name"] == cluster.name
            put("two.example.com")
            eventually(lambda: "two.example.com" in names(proxy), seconds=30)
            assert open_.ask("/webapi/find")["cluster_name"] == cluster.name


def names(proxy: ProxyServing) -> str:
    with dial(proxy) as wire:
        return str(wire.getpeercert(binary_form=True))


def test_missing_files_stop_the_start(tmp_path, cluster):
    text = TEXT + "  https_keypairs: [{key_file: /nowhere/key, cert_file: /nowhere/cert}]\n"
    with pytest.raises(NotFound, match="/nowhere/cert: does not exist"):
        ProxyServing(tmp_path / "p", cluster, auth="127.0.0.1:1", text=text)


def test_a_port_that_is_taken_stops_the_start(tmp_path, cluster):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = TEXT.replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}")
        serving = ProxyServing(tmp_path / "p", cluster, auth="127.0.0.1:1", text=text)
        with pytest.raises(Unavailable, match=r"proxy_service\.web_listen_addr: can not listen"):
            serving.__enter__()


OWN_PORTS = """\
version: v1
auth_service: {enabled: no}
ssh_service: {enabled: no}
proxy_service:
  web_listen_addr: 127.0.0.1:0
  listen_addr: 127.0.0.2:0
  tunnel_listen_addr: 127.0.0.3:0
  public_addr: tele.example.com:443
"""


def test_ports_of_their_own_take_only_what_they_are_for(tmp_path, cluster, auth, caplog):
    caplog.set_level(logging.DEBUG, "teleport_lite.proxy")
    home = tmp_path / "p"
    with ProxyServing(home, cluster, auth=auth.address, text=OWN_PORTS) as proxy:
        said = web_of(f"127.0.0.1:{port_of(proxy, 0)}")
        ssh, tunnel = (f"127.0.0.{n + 1}:{port_of(proxy, n)}" for n in (1, 2))
        assert said["proxy"]["ssh"] == {
            "listen_addr": ssh,
            "tunnel_listen_addr": tunnel,
            "web_listen_addr": f"127.0.0.1:{port_of(proxy, 0)}",
            "public_addr": "tele.example.com:443",
            "ssh_public_addr": f"tele.example.com:{port_of(proxy, 1)}",
            "ssh_tunnel_public_addr": f"tele.example.com:{port_of(proxy, 2)}",
        }
        assert proxy.address == tunnel
        assert greeting(ssh).startswith(b"SSH-2.0-")
        assert greeting(tunnel) == greeting(f"127.0.0.1:{port_of(proxy, 0)}") == b""
        assert web_of(tunnel) is None
        assert web_of(ssh) is None
        with Connection.tls(Way(tunnel, cluster.name), trusting(cluster)) as wire:
            assert wire.ask("/v1/x")["path"] == "/v1/x"
    assert "multiplexing is on" not in caplog.text


def test_one_port_for_everything_is_told_for_debugging(tmp_path, cluster, caplog):
    caplog.set_level(logging.DEBUG, "teleport_lite.proxy")
    with ProxyServing(tmp_path / "p", cluster, auth="127.0.0.1:1"):
        pass
    said = "Reverse tunnel proxy and web proxy listen on the same port, multiplexing is on"
    [record] = [each for each in caplog.records if said in each.getMessage()]
    assert record.levelno == logging.DEBUG


def port_of(proxy: ProxyServing, number: int) -> int:
    return list(proxy.role._ports.values())[number]._listeners[0].getsockname()[1]


def greeting(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(b"SSH-2.0-test\r\n")
        try:
            return wire.recv(8)
        except ConnectionError:
            return b""


def test_what_happens_is_counted_for_metrics(tmp_path, cluster, auth):
    with ProxyServing(tmp_path / "p", cluster, auth=auth.address) as proxy:
        registry = CollectorRegistry()
        registry.register(ProxyMetrics(proxy.role))
        with Connection.tls(Way(proxy.address, cluster.name), trusting(cluster)) as wire:
            wire.ask("/v1/x")
            assert registry.get_sample_value("teleport_lite_relays") == 1
        assert web_of(proxy.address)
        eventually(lambda: proxy.role.meter.connections == 1, seconds=30)
        for name, labels, value in (
            ("teleport_reverse_tunnels_connected", {}, 0),
            ("teleport_lite_relay_events_total", {"event": "ended"}, 1),
            ("teleport_lite_web_requests_total", {"status": "2xx"}, 1),
            (
                "teleport_lite_port_connections_total",
                {"port": "web_listen_addr", "outcome": "tls"},
                2,
            ),
        ):
            assert registry.get_sample_value(name, labels) == value, name
        ends = registry.get_sample_value("teleport_lite_web_certificate_end_seconds")
        assert ends == proxy.role.certificates.show().cert.ends.timestamp()


def test_a_role_that_does_not_serve_yet_counts_nothing(tmp_path, cluster):
    proxy = ProxyServing(tmp_path / "p", cluster, auth="127.0.0.1:1")
    assert list(ProxyMetrics(proxy.role).collect()) == []
    asyncio.run(proxy.role.close())


def test_behind_a_balancer_the_real_address_counts(tmp_path: Path, cluster, auth):
    text = TEXT + "  proxy_protocol: on\n"
    with ProxyServing(tmp_path / "p", cluster, auth=auth.address, text=text) as proxy:
        host, _, port = proxy.address.rpartition(":")
        plain = socket.create_connection((host, int(port)), timeout=30)
        plain.sendall(b"PROXY TCP4 192.0.2.77 198.51.100.1 40000 443\r\n")
        context = trusting(cluster)
        context.set_alpn_protocols([to_auth(cluster.name)])
        with Connection(
            context.wrap_socket(plain, server_hostname="auth.teleport-lite.internal"), "auth"
        ) as wire:
            assert wire.ask("/v1/x")["address"] == "192.0.2.77"
        assert web_of(proxy.address) is None
