"""Certificates by ACME, from an authority that really looks at our port."""

import logging
import socket
import ssl
from pathlib import Path

from teleport_lite.net.http import Connection, split_address
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeClock
from tests.daemon.pebble import Pebble, needs_pebble, serial
from tests.daemon.proxies import ProxyServing
from tests.support import eventually, free_port

NAME = "tele.example.test"
pytestmark = needs_pebble


def text(port: int, pebble: Pebble) -> str:
    return f"""\
version: v3
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
proxy_service:
  web_listen_addr: 127.0.0.1:{port}
  public_addr: {NAME}
  acme: {{enabled: yes, email: admin@example.com, uri: '{pebble.directory}'}}
"""


def visit(proxy: ProxyServing, root: str) -> ssl.SSLSocket:
    """As a browser does that trusts `root`. Raises ssl.SSLError if it would complain."""
    context = ssl.create_default_context(cadata=root)
    plain = socket.create_connection(split_address(proxy.address), timeout=30)
    try:
        return context.wrap_socket(plain, server_hostname=NAME)
    except ssl.SSLError:
        plain.close()
        raise


def trusted(proxy: ProxyServing, root: str) -> int:
    """Serial number of a certificate a browser takes; 0 if it takes none."""
    try:
        with visit(proxy, root) as wire:
            return serial(wire.getpeercert(binary_form=True))
    except ssl.SSLError:
        return 0


def test_a_certificate_comes_by_itself_and_is_renewed_without_a_dropped_connection(
    tmp_path: Path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, "teleport_lite")
    port, cluster, clock = free_port(), PaperCluster(), FakeClock.here()
    with Pebble(tmp_path / "pebble", port) as pebble:
        monkeypatch.setenv("SSL_CERT_FILE", str(pebble.roots))
        config, root = text(port, pebble), pebble.root()
        with ProxyServing(
            tmp_path / "p", cluster, auth="127.0.0.1:1", text=config, clock=clock
        ) as proxy:
            first = eventually(lambda: trusted(proxy, root), seconds=60, what=pebble.log)
            with Connection(visit(proxy, root), "proxy") as open_:
                assert open_.ask("/webapi/find")["cluster_name"] == cluster.name
                clock.tick(days=5 * 365 * 0.7)
                assert proxy.role._acme is not None
                proxy.role._acme.look()
                eventually(lambda: trusted(proxy, root) not in (0, first), seconds=60)
                assert open_.ask("/webapi/find")["cluster_name"] == cluster.name
            second = trusted(proxy, root)
            home = proxy.config.data_dir / "acme"
            assert home.stat().st_mode & 0o777 == 0o700
            assert [each.stat().st_mode & 0o777 for each in home.iterdir()] == [0o600, 0o600]
            assert proxy.role._acme.responder(NAME) is None
        again = FakeClock.here()
        with ProxyServing(
            tmp_path / "p", cluster, auth="127.0.0.1:1", text=config, clock=again
        ) as proxy:
            assert trusted(proxy, root) == second  # kept on disk, nothing was ordered
    assert caplog.text.count("ordering a certificate") == 2
    assert "PRIVATE KEY" not in caplog.text


def test_an_authority_that_can_not_reach_us_is_told_and_the_port_serves_on(
    tmp_path: Path, monkeypatch, caplog
):
    elsewhere = free_port()  # where nobody listens, and the authority looks
    with Pebble(tmp_path / "pebble", elsewhere) as pebble:
        monkeypatch.setenv("SSL_CERT_FILE", str(pebble.roots))
        config = text(free_port(), pebble)
        with ProxyServing(tmp_path / "p", PaperCluster(), auth="127.0.0.1:1", text=config) as proxy:
            eventually(lambda: "no certificate for" in caplog.text, seconds=60)
            assert trusted(proxy, pebble.root()) == 0
            assert trusted(proxy, proxy.cluster.host_cas[0]) == 0  # our own is of another name
    [line] = [each.getMessage() for each in caplog.records if "no certificate" in each.getMessage()]
    assert NAME in line
    assert "Failed to connect" in line
    assert "next try in 0:0" in line
