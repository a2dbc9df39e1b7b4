"""A relay in front of a server that keeps all the bytes that pass, both ways."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Recorder:
    """A context manager. `target` is the port on loopback where connections go on to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.target = 0
        self._guard = threading.Lock()  # guards the three below
        self._saw: list[bytes] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def saw(self) -> bytes:
        with self._guard:
            return b"".join(self._saw)

    def forget(self) -> None:
        with self._guard:
            self._saw.clear()

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept, name="recorder", daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # a thread waits in accept
        self._accepting.join(60)
        self._listener.close()
        with self._guard:
            wires, pumps = self._open[:], self._threads[:]
        for each in wires:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for pump in pumps:
            pump.join(60)
        for each in wires:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):  # until the listener is closed
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                with self._guard:
                    self._open += [client, server]
                for words in ((client, server), (server, client)):
                    pump = threading.Thread(target=self._pump, args=words, daemon=True)
                    with self._guard:
                        self._threads.append(pump)
                    pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self._guard:
                    self._saw.append(data)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
