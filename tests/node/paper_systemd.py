"""What systemd does for teleport-lite-sessions.socket and its template, and nothing else.

Accept=yes, StandardInput=socket, Type=forking; and like PID 1 it keeps the connection.
"""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.node.house import REPO

# What units find in their environment, and what nobody else may see.
PRIVATE = {
    "INVOCATION_ID": "0123456789abcdef0123456789abcdef",
    "JOURNAL_STREAM": "8:1",
    "LISTEN_FDS": "1",
    "LISTEN_PID": "1",
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "WATCHDOG_USEC": "30000000",
}


def zygote(connection: socket.socket, data_dir: Path, errors: Path) -> int:
    """Run the unit's command; returns its exit code, by which time it has forked."""
    with errors.open("ab") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "teleport_lite", "zygote", str(data_dir)],
            cwd=REPO,
            env={**os.environ, **PRIVATE},
            stdin=connection.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=err,
        ).wait(30)


class PaperSystemd:
    """Listens from __enter__ to __exit__."""

    def __init__(self, directory: Path, data_dir: Path) -> None:
        self.path = directory / "sessions.sock"
        self._errors, self._data_dir = directory / "stderr", data_dir
        self._kept: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.bind(str(self.path))
        self._sock.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()
        for connection in self._kept:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            self._kept.append(connection)
            zygote(connection, self._data_dir, self._errors)
