"""An HTTPS server that answers in bytes of the test's choosing, for what no good server does."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Answer = Callable[[ssl.SSLSocket, threading.Event], None]


@contextlib.contextmanager
def rough(certificate: Path, key: Path, answer: Answer) -> Iterator[str]:
    """Its host:port. `answer` gets each connection after the request was read, and an event that
    is set when the test is over."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def one(plain: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as wire:
            wire.recv(65536)
            answer(wire, over)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=one, args=listener.accept()[:1]))
                threads[-1].start()

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield f"localhost:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [server, *threads]:
            thread.join(30)
