"""Both ends of what is forwarded: servers that echo, and clients that ask them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import eventually


class Echo:
    """Sends back what it hears, over TCP on loopback or at a path. `seen` counts connections."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
            self.port = int(self._listening.getsockname()[1])
        else:
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(str(path))
            self._listening.listen(128)
        self.seen = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                conn, _ = self._listening.accept()
                self.seen += 1
                threading.Thread(target=_echo, args=(conn,), daemon=True).start()


def _echo(conn: socket.socket) -> None:
    with conn, suppress(OSError):
        while said := conn.recv(65536):
            conn.sendall(said)


@contextmanager
def echoing(path: Path | None = None) -> Iterator[Echo]:
    echo = Echo(path)
    try:
        yield echo
    finally:
        echo.close()


def ask(where: tuple[str, int] | Path, words: bytes = b"hello") -> bytes:
    """Say `words` there and that this is all; everything that comes back."""
    with _connected(where) as sock:
        sock.settimeout(60)
        # At once: who echoes does not take more before somebody has taken the echo.
        sender = threading.Thread(target=_say, args=(sock, words), daemon=True)
        sender.start()
        heard = b""
        with suppress(ConnectionResetError):
            while more := sock.recv(65536):
                heard += more
        sender.join(60)
        return heard


def _say(sock: socket.socket, words: bytes) -> None:
    with suppress(OSError):
        sock.sendall(words)
        sock.shutdown(socket.SHUT_WR)


def _connected(where: tuple[str, int] | Path) -> socket.socket:
    if not isinstance(where, Path):
        return socket.create_connection(where, timeout=60)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    try:
        sock.connect(str(where))
    except OSError:
        sock.close()
        raise
    return sock


def listens(where: tuple[str, int] | Path) -> bool:
    try:
        _connected(where).close()
    except OSError:
        return False
    return True


def wait_for(where: tuple[str, int] | Path) -> None:
    eventually(lambda: listens(where), what=f"somebody to listen at {where}")
