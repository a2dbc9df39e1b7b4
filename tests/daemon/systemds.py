"""Systemd, as far as it listens (sd_notify(3))."""

import socket
from pathlib import Path
from typing import Self

import pytest

from tests.support import eventually


class Systemd:
    """Bound to $NOTIFY_SOCKET. Keeps all that it hears."""

    def __init__(
        self, home: Path, monkeypatch: pytest.MonkeyPatch | None = None, *, watchdog: float = 0
    ) -> None:
        path = home / "notify"
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.settimeout(30)
        self.all: list[str] = []
        self.environ = {"NOTIFY_SOCKET": str(path)}
        if watchdog:
            self.environ["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        if monkeypatch is not None:
            for name, value in self.environ.items():
                monkeypatch.setenv(name, value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def heard(self, count: int) -> list[str]:
        """The next messages, waited for."""
        found = [self._sock.recv(4096).decode() for _ in range(count)]
        self.all += found
        return found

    def hears(self, words: str) -> str:
        """Wait for a message that begins so."""
        return eventually(lambda: self._next(words), what=f"{words} after {self.all[-5:]}")

    def _next(self, words: str) -> str:
        (said,) = self.heard(1)
        return said if said.startswith(words) else ""

    def rest(self) -> list[str]:
        """What has come meanwhile."""
        self._sock.setblocking(False)
        found = []
        try:
            while True:
                found.append(self._sock.recv(4096).decode())
        except BlockingIOError:
            self._sock.settimeout(30)
        self.all += found
        return found
