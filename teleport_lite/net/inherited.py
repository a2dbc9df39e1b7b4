"""Listening sockets that outlive the process: systemd keeps them while it restarts us.

sd_listen_fds(3): they come as descriptors from 3 on, LISTEN_FDS of them, for LISTEN_PID.
sd_pid_notify_with_fds(3): FDSTORE=1 gives one away to be kept (FileDescriptorStoreMax= of the
unit says how many), FDSTOREREMOVE=1 takes it back.
"""

import os
import socket
from contextlib import suppress

_FIRST = 3
# Named by us; others come from .socket units and are not ours to remove.
_OURS = "tl-"


class Inherited:
    """Read the environment once, early: the words in it are for this process alone."""

    def __init__(self) -> None:
        self._sockets: dict[str, list[tuple[str, socket.socket]]] = {}
        pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
        names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
        if pid != str(os.getpid()) or not count.isdecimal():
            return
        for at in range(min(int(count), 64)):
            self._take(_FIRST + at, names[at] if at < len(names) else "")

    def _take(self, fd: int, name: str) -> None:
        with suppress(OSError):
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if sock.family in (socket.AF_INET, socket.AF_INET6) and listens:
                self._sockets.setdefault(_key(sock.getsockname()), []).append((name, sock))
            else:
                sock.close()

    def take(self, host: str, port: int) -> socket.socket | None:
        """The one that listens there already, if there is one."""
        with suppress(OSError, UnicodeError):
            where = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for *_, address in where if port else []:
                if found := self._sockets.get(_key(address)):
                    return found.pop()[1]
        return None

    def forget_unused(self) -> None:
        """The configuration has changed: nobody listens there any more."""
        for _, left in self._sockets.items():
            for name, sock in left:
                if name.startswith(_OURS):
                    _notify(f"FDSTOREREMOVE=1\nFDNAME={name}")
                sock.close()
        self._sockets.clear()


def keep(sock: socket.socket, what: str) -> None:
    """Give systemd a copy, to be ours again after a restart. Nothing without systemd.

    The name has the address: all that have a name are taken back at once, and after a change of
    the settings there are for a moment the old one and the new one.
    """
    name = f"{_OURS}{what}={_key(sock.getsockname()).replace(' ', '.')}"
    _notify(f"FDSTORE=1\nFDNAME={name.replace(':', '.')}", sock.fileno())


def _key(address: object) -> str:
    assert isinstance(address, tuple)
    return f"{address[0]} {address[1]}"


def _notify(words: str, *fds: int) -> None:
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    address = "\0" + where[1:] if where.startswith("@") else where
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        socket.send_fds(sock, [words.encode()], list(fds))
