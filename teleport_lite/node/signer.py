"""The signer: the only process of the node role that has the host's private key.

It signs exchange hashes (RFC 4253 §8) and nothing else, for processes that were born with a
line to it: there is no name in the file system to connect to.
"""

import select
import socket
from pathlib import Path

from teleport_lite.agent import identity
from teleport_lite.errors import Denied, Error, Malformed
from teleport_lite.net.ssh_hostkey import HostKey
from teleport_lite.node.wire import FromSigner, Host, Link, ToSigner, Who, take

# SHA-256 and SHA-512 are the hashes of our key exchanges. A login is signed over longer data
# (RFC 4252 §7), so no signature from here can ever be taken for one.
_HASH_SIZES = (32, 64)


class Signer:
    """Serves lines that arrive through `control`, until that and all of them are closed."""

    def __init__(self, control: socket.socket, data_dir: Path) -> None:
        self._control: socket.socket | None = control
        self._keys = _Keys(data_dir)
        # A renewed host has a new key; a connection keeps the one it began with, since its
        # later key exchanges show the same certificate.
        self._pinned: dict[int, HostKey] = {}
        self._lines: dict[int, Link] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def run(self) -> None:
        while self._control is not None or self._lines:
            for fd, _ in self._poll.poll():
                if self._control is not None and fd == self._control.fileno():
                    self._accept(self._control)
                else:
                    self._serve(fd)

    def _accept(self, control: socket.socket) -> None:
        raw, fds = take(control, 1, 1)
        if not raw:
            self._poll.unregister(control)
            control.close()
            self._control = None
        for fd in fds:
            self._lines[fd] = Link(socket.socket(fileno=fd))
            self._poll.register(fd, select.POLLIN)

    def _serve(self, fd: int) -> None:
        line = self._lines[fd]
        try:
            line.send(self._answer(fd, line.receive(ToSigner)), wait=False)
        except (EOFError, Malformed):
            self._poll.unregister(fd)
            del self._lines[fd]
            self._pinned.pop(fd, None)
            line.close()

    def _answer(self, fd: int, asked: ToSigner) -> FromSigner:
        try:
            if asked.who is not None:
                self._pinned[fd], host = self._keys.current()
                return FromSigner(host=host)
            if asked.sign is not None and fd in self._pinned:
                digest = asked.sign.exchange_hash
                if len(digest) not in _HASH_SIZES:
                    raise Denied(f"an exchange hash does not have {len(digest)} bytes")
                return FromSigner(signature=self._pinned[fd].sign(digest))
            raise Denied(f"ask {Who.__name__} first")
        except Error as why:
            return FromSigner(reason=why.message)


class _Keys:
    """The identity file, read again when it changes."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._seen: tuple[int, ...] = ()
        self._kept: tuple[HostKey, Host] | None = None

    def current(self) -> tuple[HostKey, Host]:
        """Raises Denied if this host has not joined, or the errors of `identity.load`."""
        try:
            stat = (self._data_dir / identity.FILE).stat()
        except OSError as why:
            raise Denied(f"this host has no identity: {why.strerror}") from why
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if self._kept is None or seen != self._seen:
            self._kept, self._seen = self._load(), seen
        return self._kept

    def _load(self) -> tuple[HostKey, Host]:
        found = identity.load(self._data_dir)
        if found is None:
            raise Denied("this host has not joined a cluster")
        host = Host(
            cluster=found.cluster,
            host_id=found.host_id,
            ssh_public=found.ssh_public,
            ssh_cert=found.serve_ssh,
        )
        return HostKey(found.ssh_private), host
