"""Debian's pebble: a certificate authority that speaks ACME and really looks (RFC 8555, 8737).

It finds every name on loopback through a DNS server of its own, and asks at `tls_port`.
"""

import json
import os
import shutil
import socket
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography import x509

from teleport_lite.errors import Unavailable
from teleport_lite.net.http import Connection
from teleport_lite.testing.certs import PaperCluster
from tests.support import eventually, free_port

needs_pebble = pytest.mark.skipif(
    shutil.which("pebble") is None or shutil.which("pebble-challtestsrv") is None,
    reason="needs pebble and pebble-challtestsrv, of Debian's package pebble",
)


class Pebble:
    """A context manager. `directory` is for config files, `roots` a file to trust it by."""

    def __init__(self, home: Path, tls_port: int) -> None:
        home.mkdir()
        self._home, self._dns, self._api, self._admin = home, *(free_port() for _ in range(3))
        cluster = PaperCluster("pebble")
        papers = cluster.host("pebble", dns_names=("localhost",))
        (home / "cert.pem").write_text(papers.tls_cert)
        (home / "key.pem").write_text(papers.tls_private.reveal())
        self.roots = home / "roots.pem"
        self.roots.write_text("".join(cluster.host_cas))
        self.directory = f"https://localhost:{self._api}/dir"
        config = {
            "listenAddress": f"127.0.0.1:{self._api}",
            "managementListenAddress": f"127.0.0.1:{self._admin}",
            "certificate": str(home / "cert.pem"),
            "privateKey": str(home / "key.pem"),
            "httpPort": 1,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
        (home / "config.json").write_text(json.dumps({"pebble": config}))
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        dns = f"127.0.0.1:{self._dns}"
        off = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]
        admin = f"127.0.0.1:{free_port()}"
        self._start("pebble-challtestsrv", "-dns01", dns, "-management", admin, *off)
        self._start("pebble", "-config", str(self._home / "config.json"), "-dnsserver", dns)
        eventually(self._answers, seconds=60, what="pebble")
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._running:
            each.terminate()
        for each in self._running:
            each.wait(timeout=30)

    def root(self) -> str:
        """PEM of the CA that signs what is ordered; a new one with each start."""
        with self._ask(self._admin) as wire:
            wire._http.request("GET", "/roots/0")
            return wire._http.getresponse().read().decode()

    @property
    def log(self) -> str:
        return (self._home / "log").read_text()

    def _start(self, *words: str) -> None:
        # Every name is looked at anew, at once, and no good request is refused on purpose.
        told = {"PEBBLE_AUTHZREUSE": "0", "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
        with (self._home / "log").open("ab") as log:
            self._running.append(
                subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **told})
            )

    def _answers(self) -> bool:
        with suppress(OSError, Unavailable), self._ask(self._api) as wire:
            return bool(wire.ask("/dir"))
        return False

    def _ask(self, port: int) -> Connection:
        context = ssl.create_default_context(cafile=str(self.roots))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        return Connection(context.wrap_socket(plain, server_hostname="localhost"), "pebble")


def serial(der: bytes | None) -> Any:
    return x509.load_der_x509_certificate(der or b"").serial_number
