"""A small auth service on a unix socket: answers what a test told it to, and remembers."""

import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Answer = dict[str, Any] | bytes | Callable[[dict[str, Any]], dict[str, Any]]


class Refusal(dict[str, Any]):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        error = {"code": code, "message": message, "hint": hint, "trace": "t1"}
        super().__init__(error=error)
        self.status = status


class FakeAuth:
    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        auth: FakeAuth = self.server.auth  # type: ignore[attr-defined]  # set by `running`
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        auth.asked.append((self.path, body))
        answer = auth.answers.get(self.path)
        if answer is None:
            answer = Refusal(404, "not_found", f"no answer for {self.path} in this test")
        if isinstance(answer, bytes):
            self.wfile.write(answer)
            self.close_connection = True
            return
        if callable(answer):
            answer = answer(body)
        raw = json.dumps(answer).encode()
        self.send_response(getattr(answer, "status", 200))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Quiet(socketserver.ThreadingMixIn):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hangs up in the middle is part of some tests


class _Unix(_Quiet, socketserver.UnixStreamServer):
    pass


class _Tls(_Quiet, socketserver.TCPServer):
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self.context.wrap_socket(request, server_side=True) as wire:
            super().finish_request(wire, client_address)


@contextmanager
def running(path: Path) -> Iterator[FakeAuth]:
    """Serves on `path` until the block ends."""
    with _serving(_Unix(str(path), _Handler)) as auth:
        yield auth


@contextmanager
def running_tls(context: ssl.SSLContext) -> Iterator[tuple[FakeAuth, str]]:
    """The same over TLS; the second value is its address."""
    server = _Tls(("127.0.0.1", 0), _Handler)
    server.context = context
    with _serving(server) as auth:
        yield auth, f"127.0.0.1:{server.server_address[1]}"


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[FakeAuth]:
    auth = FakeAuth()
    with server:
        server.auth = auth  # type: ignore[attr-defined]  # what the handler reads
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield auth
        finally:
            server.shutdown()
            thread.join()
