"""`diag_addr`: /healthz, /readyz and /metrics, for probes and Prometheus.

The standard library's server in a thread: it must answer while everything else is stuck, and
it is not worth an import of the web framework on a node.
"""

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from teleport_lite.errors import Unavailable
from teleport_lite.net.http import split_address

# Seconds until we accept again when no descriptor was left.
PAUSE = 0.1

Ready = Callable[[], tuple[int, dict[str, object]]]


class _Server(ThreadingHTTPServer):
    def get_request(self) -> tuple[socket.socket, object]:
        try:
            return super().get_request()
        except OSError:  # no descriptor is left, and we would be asked again at once
            time.sleep(PAUSE)
            raise


class DiagServer:
    """Listens on construction. Raises Unavailable when the address can not be had."""

    def __init__(self, address: str, *, ready: Ready, metrics: Callable[[], bytes]) -> None:
        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = "teleport-lite", ""
            timeout = 10

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    self._send(200, "application/json", b'{"status": "ok"}')
                elif self.path == "/readyz":
                    status, body = ready()
                    self._send(status, "application/json", json.dumps(body).encode())
                elif self.path == "/metrics":
                    self._send(200, "text/plain; version=0.0.4; charset=utf-8", metrics())
                else:
                    self._send(404, "text/plain", b"try /healthz, /readyz or /metrics\n")

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes come every few seconds; nobody wants to read about each."""

        class Server(_Server):
            address_family = socket.AF_INET6 if address.startswith("[") else socket.AF_INET

        host, port = split_address(address)
        try:
            self._server = Server((host or "127.0.0.1", port), Handler)
        except (OSError, UnicodeError) as why:
            cause = why.strerror if isinstance(why, OSError) else "not a name of DNS"
            raise Unavailable(f"diag_addr {address}: {cause}") from why
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="diag", daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
