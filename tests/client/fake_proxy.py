"""A proxy and the auth service behind it, on one port of loopback: enough to log in and out.

Which of the three is meant is read from the first packet, as the real proxy does it.
"""

import json
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from scramp import ScramException, ScramMechanism

from teleport_lite.net.tls import server_context
from teleport_lite.pki.keys import public_of_csr
from teleport_lite.pki.passwords import new_stretch, stretch
from teleport_lite.pki.pin import pin_of
from teleport_lite.pki.plan import BACKDATE, UserCertPlan
from teleport_lite.proto.alpn import PROXY_SERVER_NAME, SSH, to_auth
from teleport_lite.proto.join import (
    AUTH_SERVER_NAME,
    BINDING,
    MECHANISM,
    SCRAM_ITERATIONS,
    server_end_point,
)
from teleport_lite.secret import Secret
from teleport_lite.testing.certs import PaperCluster, Papers

CLUSTER = "tele.example.com"
PASSWORD = "correct horse battery staple"
Gate = Callable[[ssl.SSLSocket, dict[str, Any]], None]


def no_node(wire: ssl.SSLSocket, asked: dict[str, Any]) -> None:
    refuse(wire, "not_found", f"no node {asked['host']}", "tsh ls")


def refuse(wire: ssl.SSLSocket, code: str, message: str, hint: str = "") -> None:
    said = {"ok": False, "code": code, "message": message, "hint": hint}
    wire.sendall(json.dumps(said).encode() + b"\n")


def to_port(port: int) -> Gate:
    """A gate that leads every request to a TCP port of loopback."""

    def serve(wire: ssl.SSLSocket, asked: dict[str, Any]) -> None:
        with socket.create_connection(("127.0.0.1", port)) as node:
            wire.sendall(b'{"ok": true, "host_name": "web-1"}\n')
            _relay(wire, node)

    return serve


@dataclass
class FakeProxy:
    cluster: PaperCluster = field(default_factory=lambda: PaperCluster(CLUSTER))
    web: PaperCluster = field(default_factory=lambda: PaperCluster("web.example"))
    web_papers: Papers | None = None  # of the web port; of a CA apart if not given
    roles: tuple[str, ...] = ("access",)
    logins: tuple[str, ...] = ("root",)
    user: str = "alice"
    password: str = PASSWORD
    life: timedelta = timedelta(hours=12)
    ping: dict[str, Any] = field(default_factory=dict)  # overrides
    answers: dict[str, Any] = field(default_factory=dict)  # path -> answer, or function of fields
    gate: Gate = no_node
    address: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    reached: list[dict[str, Any]] = field(default_factory=list)
    seen: bytearray = field(default_factory=bytearray)  # every byte of a login, decrypted
    welcome: dict[str, Any] = field(default_factory=dict)  # overrides
    skew: float = 0.0
    auth_role: tuple[str, ...] = ("Auth",)

    def __post_init__(self) -> None:
        auth = self.cluster.host(roles=self.auth_role, dns_names=(AUTH_SERVER_NAME,))
        proxy = self.cluster.host(roles=("Proxy",), dns_names=(PROXY_SERVER_NAME,))
        web = self.web_papers or self.web.host(roles=("Web",), dns_names=("localhost",))
        cas = self.cluster.user_cas
        self._auth_der = auth.tls_der
        self.contexts = {
            "auth": server_context(auth.tls_cert, auth.tls_private, cas),
            "gate": server_context(proxy.tls_cert, proxy.tls_private, cas),
            "web": server_context(web.tls_cert, web.tls_private, (), ask_for_certificate=False),
        }
        self.contexts["gate"].set_alpn_protocols([SSH])
        self._talks: dict[str, Any] = {}
        self.stretching = new_stretch(os.urandom(16))

    @property
    def pin(self) -> str:
        return pin_of(self.cluster.host_cas[0])

    def serve(self, wire: socket.socket) -> None:
        head = wire.recv(4096, socket.MSG_PEEK)
        if to_auth(self.cluster.name).encode() in head or b"teleport-auth" in head:
            kind = "auth"
        else:
            kind = "gate" if SSH.encode() in head else "web"
        if kind == "auth" and to_auth(self.cluster.name).encode() not in head:
            return
        with self.contexts[kind].wrap_socket(wire, server_side=True) as tls:
            if kind == "gate":
                self._serve_gate(tls)
            else:
                handler = type("Handler", (_Handler,), {"proxy": self, "kind": kind})
                handler(tls, ("127.0.0.1", 0), None)

    def _serve_gate(self, wire: ssl.SSLSocket) -> None:
        if not wire.getpeercert():
            return refuse(wire, "unauthenticated", "a user certificate is needed", "tsh login")
        line = b""
        while not line.endswith(b"\n"):  # a byte at a time: what follows belongs to the node
            line += wire.recv(1)
        asked = json.loads(line)
        self.reached.append(asked)
        return self.gate(wire, asked)

    def answer(self, kind: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if kind == "web":
            return self._ping() if path == "/webapi/ping" else _problem(404, "not_found", "no page")
        self.asked.append((path, body))
        known: dict[str, Any] = {
            "/v1/ca": self._bundle,
            "/v1/login/start": self._start,
            "/v1/login/finish": self._finish,
            **self.answers,
        }
        found = known.get(path)
        if found is None:
            return _problem(404, "not_found", f"no answer for {path} in this test")
        made = found(body) if callable(found) else found
        assert isinstance(made, dict)
        return made

    def _ping(self) -> dict[str, Any]:
        ssh = {"ssh_public_addr": "localhost:3023"}
        return {
            "cluster_name": self.cluster.name,
            "server_version": "0.9.0",
            "ca_pins": [self.pin],
            "proxy": {"ssh": ssh},
            **self.ping,
        }

    def _bundle(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "cluster": self.cluster.name,
            "version": "0.9.0",
            "time": self.cluster.now.timestamp() + self.skew,
            "host_cas": self.cluster.host_cas,
        }

    def _start(self, body: dict[str, Any]) -> dict[str, Any]:
        mechanism = ScramMechanism(MECHANISM)
        key = stretch(Secret(self.password), self.stretching)
        salt, stored, server_key, rounds = mechanism.make_auth_info(
            key.reveal(), iteration_count=SCRAM_ITERATIONS, salt=b"0123456789abcdef"
        )
        server = mechanism.make_server(
            lambda _: (salt, stored, server_key, rounds),
            channel_binding=(BINDING, server_end_point(self._auth_der)),
        )
        server.set_client_first(body["client_first"])
        self._talks["s1"] = server
        by = self.stretching
        asked = {"salt": by.salt, "time": by.time, "memory": by.memory, "lanes": by.lanes}
        return {"session": "s1", "server_first": server.get_server_first(), "stretch": asked}

    def _finish(self, body: dict[str, Any]) -> dict[str, Any]:
        server = self._talks.pop(body["session"])
        try:
            server.set_client_final(body["client_final"])
        except ScramException:
            return _problem(403, "denied", "user name or password is wrong")
        plan = UserCertPlan(
            cluster=self.cluster.name,
            user=self.user,
            roles=self.roles,
            logins=self.logins,
            traits={"logins": self.logins},
            ssh_public=body["ssh_key"],
            tls_public=public_of_csr(body["tls_csr"]),
            starts=self.cluster.now - BACKDATE,
            ends=self.cluster.now + self.life,
            serial=77,
            id="11112222-3333-4444-5555-666677778888",
        )
        signed = self.cluster.authority.sign_user(plan)
        return {
            "server_final": server.get_server_final(),
            "user": self.user,
            "cluster": self.cluster.name,
            "roles": list(self.roles),
            "logins": list(self.logins),
            "traits": {"logins": list(self.logins)},
            "expires": plan.ends.isoformat(),
            "ssh_cert": signed.ssh_cert,
            "tls_cert": signed.tls_cert,
            "host_cas": self.cluster.host_cas,
            "ssh_host_cas": [self.cluster.host_ca.public.ssh_key],
            **self.welcome,
        }


@contextmanager
def running(proxy: FakeProxy) -> Iterator[FakeProxy]:
    """Serves until the block ends; `proxy.address` says where."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.address = f"localhost:{listener.getsockname()[1]}"
        threads: list[threading.Thread] = []
        accepting = threading.Thread(target=_accept, args=(listener, proxy, threads))
        accepting.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def trust(monkeypatch: Any, proxy: FakeProxy, directory: Path) -> None:
    """Make the CA of its web certificate one that this system trusts."""
    path = directory / "roots.pem"
    path.write_text("".join(proxy.web.host_cas))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


def _accept(listener: socket.socket, proxy: FakeProxy, threads: list[threading.Thread]) -> None:
    while True:
        try:
            wire, _ = listener.accept()
        except OSError:
            return
        wire.settimeout(30)
        thread = threading.Thread(target=_serve, args=(proxy, wire))
        thread.start()
        threads.append(thread)


def _serve(proxy: FakeProxy, wire: socket.socket) -> None:
    # A client that hangs up, or does not believe us, is part of some tests.
    with wire, suppress(OSError, ssl.SSLError):
        proxy.serve(wire)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FakeProxy
    kind: str

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.proxy.seen += raw
        self._answer(json.loads(raw))

    def _answer(self, body: dict[str, Any]) -> None:
        answer = dict(self.proxy.answer(self.kind, self.path, body))
        status = answer.pop("_status", 200)
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _problem(status: int, code: str, message: str, hint: str = "") -> dict[str, Any]:
    error = {"code": code, "message": message, "hint": hint, "trace": "t1"}
    return {"error": error, "_status": status}


class Shared:
    """A TLS connection that two threads may use, one for each direction: OpenSSL's own object
    is not made for that."""

    def __init__(self, wire: ssl.SSLSocket) -> None:
        self._wire, self._guard = wire, threading.Lock()
        wire.setblocking(False)

    def recv(self, size: int) -> bytes:
        while True:
            with suppress(ssl.SSLWantReadError), self._guard:
                return self._wire.recv(size)
            select.select([self._wire], [], [], 30)

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            with suppress(ssl.SSLWantWriteError), self._guard:
                left = left[self._wire.send(left) :]
                continue
            select.select([], [self._wire], [], 30)


def _relay(wire: ssl.SSLSocket, node: socket.socket) -> None:
    """Two threads, one direction each, until the node is done."""
    shared = Shared(wire)
    up = threading.Thread(target=_copy, args=(shared, node))
    up.start()
    _copy(node, shared)
    with suppress(OSError):
        socket.socket.shutdown(wire, socket.SHUT_RDWR)
    up.join()


def _copy(source: socket.socket | Shared, sink: socket.socket | Shared) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        if isinstance(sink, socket.socket):
            sink.shutdown(socket.SHUT_WR)
