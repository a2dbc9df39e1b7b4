"""/healthz, /readyz and /metrics."""

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from teleport_lite.errors import Unavailable
from teleport_lite.net.diag import DiagServer
from tests.net.servers import Little, silence


class State:
    ready = (200, {"status": "ok"})

    def __init__(self) -> None:
        self.server = DiagServer("127.0.0.1:0", ready=lambda: self.ready, metrics=lambda: b"up 1\n")

    def get(self, path: str, method: str = "GET") -> tuple[int, str, bytes]:
        wire = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        wire.request(method, path)
        answer = wire.getresponse()
        found = answer.status, answer.getheader("Content-Type") or "", answer.read()
        wire.close()
        return found


@pytest.fixture
def state() -> Iterator[State]:
    made = State()
    yield made
    made.server.close()


def test_it_is_alive_whatever_its_state(state: State) -> None:
    state.ready = (503, {"status": "degraded"})
    assert state.get("/healthz")[0] == 200


@pytest.mark.parametrize("status", [200, 400, 503])
def test_it_is_ready_when_its_parts_are(state: State, status: int) -> None:
    state.ready = (status, {"status": "x", "components": {"auth": "ok"}})
    found, kind, body = state.get("/readyz")
    assert (found, kind) == (status, "application/json")
    assert json.loads(body)["components"] == {"auth": "ok"}


def test_metrics_are_prometheus_text(state: State) -> None:
    assert state.get("/metrics") == (200, "text/plain; version=0.0.4; charset=utf-8", b"up 1\n")


@pytest.mark.parametrize("path", ["/", "/debug", "/healthz/", "/../etc/passwd", "/metrics?x"])
def test_there_is_nothing_else(state: State, path: str) -> None:
    status, _, body = state.get(path)
    assert status == 404
    assert body == b"try /healthz, /readyz or /metrics\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_only_answers(state: State, method: str) -> None:
    assert state.get("/healthz", method)[0] == 501


def test_which_python_answers_is_not_told(state: State) -> None:
    wire = http.client.HTTPConnection("127.0.0.1", state.server.port, timeout=60)
    wire.request("GET", "/healthz")
    answer = wire.getresponse()
    assert answer.getheader("Server", "").strip() == "teleport-lite"
    answer.read()
    wire.close()


def test_an_address_that_is_taken_is_named() -> None:
    with Little(silence) as taken, pytest.raises(Unavailable, match=r"diag_addr 127.0.0.1:"):
        DiagServer(taken.address, ready=lambda: (200, {}), metrics=lambda: b"")


@pytest.mark.parametrize("address", ["192.0.2.1:1", "no-such-host.invalid:1", "a..b:1"])
def test_an_address_that_is_not_ours_is_named(address: str) -> None:
    with pytest.raises(Unavailable, match=f"diag_addr {address}"):
        DiagServer(address, ready=lambda: (200, {}), metrics=lambda: b"")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_listens_on_ipv6_too() -> None:
    server = DiagServer("[::1]:0", ready=lambda: (200, {}), metrics=lambda: b"")
    wire = http.client.HTTPConnection("::1", server.port, timeout=60)
    wire.request("GET", "/healthz")
    assert wire.getresponse().read() == b'{"status": "ok"}'
    wire.close()
    server.close()
