"""What the processes of one connection say to each other.

    worker  --FromWorker-->  monitor    sign, login, session, join, moved, last words
    worker  <--Reply-------  monitor    one for each sign, login, session and join; the login that
                                        works carries a descriptor: the worker's line to the
                                        broker; a session its tap's lines, a join the way in.
                                        At a jump host also one for each open, in any order
    worker  --ToBroker---->  broker     may I, pty, env, start, resize, signal, close, forwarding
    worker  <--ToWorker----  broker     one reply for each; start carries descriptors; ended;
                                        opened and arrived, see `forward_wire.py`
    broker  --FromBroker-->  monitor    a session started or ended, and what else happened
    broker  <--ToBroker----  monitor    cut, expect, stop
    monitor --ToSigner---->  signer     who, sign
    monitor <--FromSigner--  signer

Sockets are SOCK_SEQPACKET: a message is a packet, so nobody has to find its end. The worker
may be in the hands of a stranger; what it sends is read by `proto.codec` under a limit, and
descriptors it attaches are never taken. Exactly one field of each of these is set.
"""

import errno
import os
import socket
from array import array
from typing import TypeVar

from teleport_lite.node.forward_wire import (
    X11,
    Agent,
    Arrived,
    Connect,
    Happened,
    Listen,
    Opened,
    Over,
    Unlisten,
)
from teleport_lite.proto.codec import Message, read, write

M = TypeVar("M", bound=Message)

# The longest is a command (ssh_policy.MAX_COMMAND, in base64) or a certificate of 32 KiB.
MAX_PACKET = 200 * 1024


class Sign(Message, frozen=True):
    exchange_hash: bytes


class Login(Message, frozen=True):
    """A certificate offered (RFC 4252 §7). Without a signature: would it be good enough?"""

    login: str
    algorithm: str
    certificate: bytes
    signature: bytes | None = None


class Way(Message, frozen=True):
    """A jump host's visitor wants to get to a node; `number` is this wish's, from 1 on."""

    number: int
    host: str
    port: int


class Session(Message, frozen=True):
    """A shell on a terminal is to start. The reply's data is its id; descriptors are the tap's
    lines to the monitor and, if it is recorded, to the scribe; the reason is "strict" if so."""

    channel: int
    columns: int
    rows: int
    term: bytes


class Join(Message, frozen=True):
    """Into somebody's session. The reply's reason is for the client, either way."""

    channel: int
    sid: str
    mode: str


class Moved(Message, frozen=True):
    """A channel is over: bytes that the client sent on it, and was sent."""

    channel: int
    up: int
    down: int


class FromWorker(Message, frozen=True):
    sign: Sign | None = None
    login: Login | None = None
    open: Way | None = None
    session: Session | None = None
    join: Join | None = None
    moved: Moved | None = None
    last_words: str | None = None
    idle: bool = False  # nothing has moved for as long as the login said, and the client knows


class Reply(Message, frozen=True):
    ok: bool
    reason: str = ""
    data: bytes = b""
    last: bool = False  # of the login tries
    number: int = 0  # of the `open` that this answers
    idle: float = 0.0  # of a login: end when nothing has moved for so many seconds; 0 is for ever
    goodbye: str = ""  # no answer to anything: tell the client this, and end


class Ask(Message, frozen=True):
    """May the visitor have this? `what` is "open session", "global tcpip-forward", "exec", ..."""

    what: str


class Pty(Message, frozen=True):
    channel: int
    term: bytes
    columns: int
    rows: int
    width: int
    height: int
    modes: bytes


class Env(Message, frozen=True):
    channel: int
    name: bytes
    value: bytes


class Start(Message, frozen=True):
    channel: int
    command: bytes | None = None  # None: a login shell
    subsystem: str = ""  # in place of a command (RFC 4254 §6.5)


class Resize(Message, frozen=True):
    channel: int
    columns: int
    rows: int
    width: int
    height: int


class Signal(Message, frozen=True):
    channel: int
    name: str


class Close(Message, frozen=True):
    channel: int


class Cut(Message, frozen=True):
    """From the monitor: the visitor is no longer welcome."""


class Expect(Message, frozen=True):
    """From the monitor: the next shell on that channel may be on a terminal, with this id."""

    channel: int
    sid: str


class Stop(Message, frozen=True):
    """From the monitor: that session has to end."""

    sid: str


class ToBroker(Message, frozen=True):
    ask: Ask | None = None
    pty: Pty | None = None
    env: Env | None = None
    start: Start | None = None
    resize: Resize | None = None
    signal: Signal | None = None
    close: Close | None = None
    cut: Cut | None = None
    connect: Connect | None = None
    listen: Listen | None = None
    unlisten: Unlisten | None = None
    agent: Agent | None = None
    x11: X11 | None = None
    over: Over | None = None
    expect: Expect | None = None
    stop: Stop | None = None


class Ended(Message, frozen=True):
    """How a shell ended: a code, or the name of a signal (RFC 4254 §6.10)."""

    channel: int
    code: int = 0
    signal: str = ""
    core: bool = False


class ToWorker(Message, frozen=True):
    reply: Reply | None = None
    ended: Ended | None = None
    opened: Opened | None = None
    arrived: Arrived | None = None


class SessionStarted(Message, frozen=True):
    sid: str
    command: str | None  # None: a login shell
    pty: bool
    tty: str = ""  # where its terminal is, like /dev/pts/3
    pid: int = 0
    channel: int = -1


class SessionEnded(Message, frozen=True):
    sid: str
    code: int | None  # None: it was still running when we lost sight of it
    signal: str = ""


class FileOp(Message, frozen=True):
    """What sftp-server did to a file, or tried to. Names are as it logs them, decoded, and with
    what is not UTF-8 escaped."""

    sid: str
    action: str
    path: str
    target: str = ""  # of a rename or a link
    flags: str = ""  # it was opened with, like READ or WRITE,CREATE
    read: int = 0
    written: int = 0
    error: str = ""


class FromBroker(Message, frozen=True):
    started: SessionStarted | None = None
    ended: SessionEnded | None = None
    happened: Happened | None = None
    file: FileOp | None = None


class Who(Message, frozen=True):
    """Which host is this? The answer holds for the whole connection, signatures included."""


class ToSigner(Message, frozen=True):
    who: Who | None = None
    sign: Sign | None = None


class Host(Message, frozen=True):
    """The public half of the identity."""

    cluster: str
    host_id: str
    ssh_public: str
    ssh_cert: str


class FromSigner(Message, frozen=True):
    host: Host | None = None
    signature: bytes | None = None
    reason: str = ""


class Link:
    """One end of a SOCK_SEQPACKET pair.

    `receive` raises EOFError when the other end is gone and Malformed for what is not a
    message; `send` raises EOFError too.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @staticmethod
    def pair() -> tuple["Link", "Link"]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_PACKET)
        return Link(ours), Link(theirs)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def detach(self) -> int:
        return self._sock.detach()

    def set_timeout(self, seconds: float) -> None:
        """A `receive` that takes longer raises EOFError: who is silent that long is gone."""
        self._sock.settimeout(seconds)

    def send(self, message: Message, *fds: int, wait: bool = True) -> None:
        """Raises EOFError if the other end is gone or, without `wait`, does not listen."""
        flags = socket.MSG_NOSIGNAL | (0 if wait else socket.MSG_DONTWAIT)
        try:
            if fds:
                socket.send_fds(self._sock, [write(message)], list(fds), flags)
            else:
                self._sock.send(write(message), flags)
        except OSError as why:
            raise EOFError(str(why)) from why

    def receive(self, kind: type[M]) -> M:
        """Descriptors that came along are closed by the kernel: nobody asked for them."""
        return read(kind, self._packet(), limit=MAX_PACKET)

    def receive_with_fds(self, kind: type[M], most: int) -> tuple[M, list[int]]:
        """At most `most` descriptors. None stays open if this raises."""
        try:
            raw, fds = take(self._sock, MAX_PACKET + 1, most)
        except OSError as why:
            raise EOFError(str(why)) from why
        try:
            if not raw:
                raise EOFError("closed")
            return read(kind, raw, limit=MAX_PACKET), fds
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise

    def _packet(self) -> bytes:
        try:
            raw = self._sock.recv(MAX_PACKET + 1)
        except OSError as why:
            raise EOFError(str(why)) from why
        if not raw:
            raise EOFError("closed")
        return raw


def take(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """A packet and its descriptors, closed on exec; `socket.recv_fds` would leave them open.

    Raises OSError, also if there were more descriptors than `most` or we have no room for them.
    """
    fds = array("i")
    space = socket.CMSG_LEN(most * fds.itemsize)
    raw, extra, flags, _ = sock.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMSGSIZE, "packet or descriptors do not fit")
    return raw, list(fds)
