"""Proxies as small as can be: one that passes on, and all that it could see."""

import contextlib
import json
import select
import socket
import ssl
from typing import Any

from teleport_lite.proto.alpn import AUTH, to_auth
from teleport_lite.testing.certs import PaperCluster
from tests.net.servers import Little, reply, request
from tests.net.serving import shown


class Relay(Little):
    """Passes connections for auth on as they are, and answers the rest with a web certificate
    of its own. `seen` is every byte that came by, in either direction.
    """

    def __init__(self, auth_address: str, cluster: str = "test.example") -> None:
        super().__init__(self._serve_one)
        self.auth_address, self.cluster = auth_address, cluster
        self.web: ssl.SSLContext = shown(PaperCluster("web.example")).context
        self.seen = b""
        self.passed = 0  # connections for auth
        self.asked: list[str] = []  # paths of the web
        self.find: dict[str, Any] = {"cluster_name": cluster, "proxy": {}, "server_version": "1"}
        self.cut_off = False  # auth can not be reached from here
        self.polite = False  # then ends what it can not pass on; else resets it

    def _serve_one(self, wire: socket.socket) -> None:
        hello = wire.recv(65536, socket.MSG_PEEK)
        if to_auth(self.cluster).encode() in hello:
            self.passed += 1
            if not self.cut_off:
                self._pass_on(wire)
            elif self.polite:
                wire.recv(65536)
            return
        assert AUTH.encode() not in hello, "a name of a cluster that is not ours"
        with self.web.wrap_socket(wire, server_side=True) as tls:
            self._open.append(tls)
            self._answer(tls)

    def _pass_on(self, wire: socket.socket) -> None:
        host, _, port = self.auth_address.partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as real:
            other = {wire: real, real: wire}
            while True:
                for one in select.select([wire, real], [], [], 60)[0] or [None]:
                    data = one.recv(65536) if one is not None else b""
                    self.seen += data
                    if not data:
                        return
                    other[one].sendall(data)

    def _answer(self, tls: socket.socket) -> None:
        while said := request(tls):
            self.seen += said
            path = said.split()[1].decode()
            self.asked.append(path)
            known = path in ("/webapi/find", "/webapi/ping")
            body = json.dumps(self.find if known else {}).encode()
            tls.sendall(reply(body, "200 OK" if known else "404 Not Found"))

    def drop(self) -> None:
        """Cut every connection."""
        for wire in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(wire, socket.SHUT_RDWR)
