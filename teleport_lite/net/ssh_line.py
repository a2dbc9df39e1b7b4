"""What a monitor and the daemon say to each other about one connection: JSON, one to a packet.

    monitor --FromMonitor-->  daemon    events for the trail, notes for the log, how far it got,
                                        which sessions are open
    monitor <--ToMonitor----  daemon    look again whether the visitor is still welcome

At a jump host besides:

    monitor --FromMonitor-->  daemon    wanted: a way to a node, for the visitor it has verified
    monitor <--ToMonitor----  daemon    found: with a descriptor that leads there, or why not

Either may be gone while the other lives on: connections outlive a restart of the daemon. The next
one listens in the data directory, and monitors that come back begin with a hello. It may be of
another version: a word that is not known is passed over.
"""

import os
import socket
import struct
from enum import StrEnum
from pathlib import Path

from teleport_lite.errors import Denied
from teleport_lite.proto.codec import Statement
from teleport_lite.proto.stream import AgentEvent, LiveSession

# In the data directory, which is root's alone.
SOCKET = "ssh.sock"
# sun_path of unix(7), with its final zero.
_MAX_PATH = 108

# An event holds a command of at most 4 kB, escaped.
MAX_SAID = 64 * 1024


class Outcome(StrEnum):
    """How a connection that never logged in ended; each has its price (`ssh_limits`)."""

    AUTH_FAILED = "authfail"
    INVALID_USER = "invaliduser"
    NO_AUTH = "noauth"
    GRACE = "grace"
    CRASH = "crash"


class Wanted(Statement, frozen=True):
    """A node that a visitor wants to get to, and what their certificate says about them."""

    number: int  # of this wish, on this line
    host: str
    port: int
    user: str
    roles: list[str]
    traits: dict[str, list[str]]
    bot_id: str
    cluster: str = ""  # of a visitor from elsewhere: `user` ends in it, `roles` are those there


class Found(Statement, frozen=True):
    """The answer to the wish with that number. A descriptor comes along if it is ok."""

    number: int
    ok: bool
    reason: str = ""


class Hello(Statement, frozen=True):
    """The first word to a daemon that was not there when the connection began."""

    peer: tuple[str, int]
    local: tuple[str, int]
    logged_in: bool
    sessions: list[LiveSession] = []


class FromMonitor(Statement, frozen=True):
    """One field is set, or none that we know."""

    event: AgentEvent | None = None
    note: str | None = None  # for the log of the daemon
    logged_in: bool | None = None
    outcome: Outcome | None = None
    wanted: Wanted | None = None
    hello: Hello | None = None
    session: LiveSession | None = None  # it has begun, or something about it has changed
    session_over: str | None = None  # its sid


class ToMonitor(Statement, frozen=True):
    recheck: bool = False
    found: Found | None = None


def listen_for_monitors(data_dir: Path) -> socket.socket:
    """Where monitors of an earlier daemon come back to. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    new = f"{SOCKET}.{os.getpid()}"
    try:
        with _Place(data_dir) as place:
            (data_dir / new).unlink(missing_ok=True)
            sock.bind(place.path(new))
            (data_dir / new).chmod(0o600)
            sock.listen(4096)
            (data_dir / new).rename(data_dir / SOCKET)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def call_daemon(data_dir: Path) -> socket.socket:
    """A new line to the daemon that is there now. Never waits.

    Raises OSError if there is none, Denied if it is somebody else.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        with _Place(data_dir) as place:
            sock.connect(place.path(SOCKET))
        check_other_end(sock)
    except (OSError, Denied):
        sock.close()
        raise
    return sock


def check_other_end(sock: socket.socket, what: str = SOCKET) -> None:
    """Raises Denied unless root or our own user is there."""
    uid = peer_uid(sock)
    if uid not in (0, os.geteuid()):
        raise Denied(f"uid {uid} is at the other end of {what}")


def peer_uid(sock: socket.socket) -> int:
    """Who has connected, or who listens, as the kernel knows it (SO_PEERCRED of unix(7))."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


class _Place:
    """Names in a directory that may be too long for the address of a socket."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> "_Place":
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def path(self, name: str) -> str:
        whole = str(self._directory / name)
        return whole if len(os.fsencode(whole)) < _MAX_PATH else f"/proc/self/fd/{self._fd}/{name}"
