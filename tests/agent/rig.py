"""A real auth server on loopback, in this process, and somebody who stands in for it."""

import base64
import json
import socket
import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from teleport_lite.agent.enlist import Enlistment
from teleport_lite.agent.identity import Identity
from teleport_lite.agent.join import JoinRequest, Keys, hello_of, identity_of
from teleport_lite.auth.desks import Keeping
from teleport_lite.daemon.doorman import Doorman
from teleport_lite.model.authority import CaType
from teleport_lite.net.accept import Limits, Shown
from teleport_lite.net.http import Connection
from teleport_lite.net.tls import server_context, stranger_context
from teleport_lite.net.way import Way
from teleport_lite.pki.keys import csr
from teleport_lite.proto.stream import PATH
from teleport_lite.secret import Secret
from teleport_lite.store.memory import MemoryStore
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import FakeClock
from teleport_lite.testing.makers import TOKEN
from tests.auth.bench import Bench
from tests.net.servers import Little, reply, request
from tests.net.serving import Serving, auth_papers, shown


class Auth(Serving):
    """`bench` is the auth role behind the address: tests make tokens there and read the trail."""

    def __init__(
        self,
        *,
        store: MemoryStore | None = None,
        limits: Limits | None = None,
        seed: str = "",
        keeping: Keeping | None = None,
    ) -> None:
        self.bench = Bench(clock=FakeClock.here(), store=store, seed=seed, keeping=keeping)
        self.said: list[str] = []  # warnings of the hosts that join here
        super().__init__(
            Doorman(self.bench.desks, own_uid=0),
            self._shown(),
            limits=limits,
            stream_path=PATH,
        )

    def _shown(self) -> Shown:
        keys = Keys.new()
        hello = hello_of(keys, node_name="auth-1", roles=("Auth",), host_id="", principals=())
        me = identity_of(self.bench.desks.local.admit(hello, ("Auth",)), keys)
        cas = self.bench.desks.cas
        trusted = [*cas.tls(CaType.HOST), *cas.tls(CaType.USER)]
        request = csr(me.tls_private, me.host_id)
        chain = self.bench.desks.local.shown_to_all(me.host_id, request) or me.serve_tls
        context = server_context(chain, me.tls_private, trusted)
        leaf, end, _ = chain.partition("-----END CERTIFICATE-----\n")
        return Shown(context, ssl.PEM_cert_to_DER_cert(leaf + end))

    @property
    def pin(self) -> str:
        return self.bench.desks.cas.pins()[0]

    def wish(self, **changes: Any) -> JoinRequest:
        """A join that will succeed, until changed."""
        fields: dict[str, Any] = {
            "servers": (self.address,),
            "token": Secret(TOKEN),
            "pins": (self.pin,),
            "roles": ("Node",),
            "node_name": "web-1",
            "clock": self.bench.clock,
            "say": self.said.append,
        }
        return JoinRequest(**(fields | changes))

    def enlistment(self, data_dir: Path, **changes: Any) -> Enlistment:
        fields: dict[str, Any] = {
            "data_dir": data_dir,
            "roles": ("Node",),
            "servers": (self.address,),
            "pins": (self.pin,),
            "node_name": "web-1",
            "principals": (),
            "token": lambda: Secret(TOKEN),
            "clock": self.bench.clock,
            "say": self.said.append,
        }
        return Enlistment(**(fields | changes))

    def joined(self) -> list[str]:
        """Names of the hosts that have joined over the wire."""
        return [host.name for host, _ in self.bench.store.hosts() if host.name != "auth-1"]


class Hijacker:
    """Holds the address of auth and terminates TLS with a CA of its own.

    `relays` to a real auth, or answers by itself as well as it can; `shows` is the bundle it
    tells. What it could read of what was sent is in `transcript`.
    """

    def __init__(self, auth: Auth, *, relays: bool, shows: list[str] | None = None) -> None:
        self.own = PaperCluster("test.example")
        self._auth, self._relays = auth, relays
        self._shows = self.own.host_cas if shows is None else shows
        self.transcript = b""
        self.server = Little(self._talk, shown(self.own, auth_papers(self.own)).context)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.__exit__(kind, exc, trace)

    @property
    def address(self) -> str:
        return self.server.address

    def asked(self) -> list[str]:
        """The paths that were asked for, in order."""
        lines = [line for line in self.transcript.split(b"\r\n") if line.endswith(b" HTTP/1.1")]
        return [line.split()[1].decode() for line in lines]

    def knows(self, token: str) -> bool:
        """Whether the token, in any plain spelling, was among what it read."""
        raw = token.encode()
        spellings = (raw, raw.hex().encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw))
        return any(spelling.rstrip(b"=") in self.transcript for spelling in spellings)

    def _talk(self, wire: socket.socket) -> None:
        while said := request(wire):
            self.transcript += said + b"\r\n"
            path = said.split()[1].decode()
            body = said.partition(b"\r\n\r\n")[2]
            if path == "/v1/ca":
                wire.sendall(reply(self._bundle()))
            elif self._relays:
                wire.sendall(self._pass_on(path, body))
            else:
                wire.sendall(reply(self._made_up(path, json.loads(body))))

    def _bundle(self) -> bytes:
        bundle = self._auth.bench.desks.joins.bundle()
        doc = {"cluster": bundle.cluster, "version": bundle.version, "time": bundle.time}
        return json.dumps({**doc, "host_cas": self._shows}).encode()

    def _pass_on(self, path: str, body: bytes) -> bytes:
        context = stranger_context()
        with Connection.tls(Way(self._auth.address), context, timeout=30) as wire:
            wire._http.request("POST", path, body=body)
            answer = wire._http.getresponse()
            return reply(answer.read(), f"{answer.status} relayed")

    def _made_up(self, path: str, said: dict[str, Any]) -> bytes:
        if path == "/v1/join/start":
            nonce = said["client_first"].rpartition("r=")[2]
            salt = base64.b64encode(b"sixteen of bytes").decode()
            doc = {"session": "s", "server_first": f"r={nonce}x,s={salt},i=4096"}
            return json.dumps(doc).encode()
        host = self.own.host()
        welcome = {
            "server_final": "v=" + base64.b64encode(b"v" * 32).decode(),
            "host_id": host.id,
            "cluster": "test.example",
            "roles": ["Node"],
            "ssh_cert": host.ssh_cert,
            "tls_cert": host.tls_cert,
            "host_cas": self.own.host_cas,
            "ssh_host_cas": [self.own.host_ca.public.ssh_key],
            "ssh_user_cas": [self.own.user_ca.public.ssh_key],
            "user_cas": self.own.user_cas,
        }
        return json.dumps(welcome).encode()


def off_by(clock: FakeClock, **span: float) -> FakeClock:
    return FakeClock(clock.now() + timedelta(**span))


def an_identity(cluster: PaperCluster | None = None, **changes: Any) -> Identity:
    """Of a host that has joined a cluster on paper."""
    cluster = cluster or PaperCluster()
    papers = cluster.host()
    identity = Identity(
        cluster=cluster.name,
        host_id=papers.id,
        roles=("Node",),
        ssh_private=papers.ssh_private,
        ssh_public=papers.ssh_public,
        tls_private=papers.tls_private,
        ssh_cert=papers.ssh_cert,
        tls_cert=papers.tls_cert,
        host_cas=tuple(cluster.host_cas),
        ssh_host_cas=(cluster.host_ca.public.ssh_key,),
        ssh_user_cas=(cluster.user_ca.public.ssh_key,),
        user_cas=tuple(cluster.user_cas),
    )
    return replace(identity, **changes)
