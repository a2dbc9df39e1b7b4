"""The transport object itself, at one end of a socket pair, with everybody behind it faked.

Key exchange and login are real, but nothing is encrypted after NEWKEYS: a fuzzer that had to
break AES first would find nothing. `Desk` says yes to what it is asked, and keeps watch: nobody
may ask for anything before a login with a signature.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paramiko
from paramiko.common import cMSG_NEWKEYS

from teleport_lite.errors import Malformed
from teleport_lite.net import ssh_door, ssh_entry, ssh_jump
from teleport_lite.net.ssh_door import Streams
from teleport_lite.net.ssh_entry import Answer, EntryTransport
from teleport_lite.net.ssh_forwards import Arrival, Target
from teleport_lite.net.ssh_pump import Exit
from teleport_lite.net.ssh_visit import Seat
from teleport_lite.pki.wire import text
from teleport_lite.testing.certs import PaperCluster
from tests.fuzz.target import Finding, Pieces

CLUSTER = PaperCluster()
HOST = CLUSTER.host("node1")
YES = Answer(ok=True)
BANNER = b"SSH-2.0-OpenSSH_9.2\r\n"
# How the end of a connection may look to whoever serves it. ValueError: key exchange and login are
# paramiko's to read, which says so of text that is no UTF-8.
ENDS = (EOFError, paramiko.SSHException, Malformed, ValueError)


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def names(*each: str) -> bytes:
    return text(",".join(each).encode())


def packet(payload: bytes) -> bytes:
    """RFC 4253 §6, without a cipher."""
    pad = 8 - (len(payload) + 5) % 8
    pad += 8 if pad < 4 else 0
    return number(len(payload) + pad + 1) + bytes([pad]) + payload + bytes(pad)


def kex_init(kex: str = "curve25519-sha256", *more: str, follows: bool = False) -> bytes:
    lists = [(kex, *more), ("ssh-ed25519",)]
    lists += [("aes128-gcm@openssh.com",)] * 2 + [("hmac-sha2-256-etm@openssh.com",)] * 2
    lists += [("none",)] * 2 + [()] * 2
    return (
        bytes([20])
        + bytes(16)
        + b"".join(names(*each) for each in lists)
        + bytes([follows, *bytes(4)])
    )


ECDH_INIT = bytes([30]) + text(bytes([9, *bytes(31)]))
NEWKEYS = bytes([21])
SERVICE = bytes([5]) + text(b"ssh-userauth")
ALGORITHM = b"ssh-ed25519-cert-v01@openssh.com"


def login(user: bytes, certificate: bytes, signature: bytes | None) -> bytes:
    head = text(user) + text(b"ssh-connection") + text(b"publickey")
    signed = b"" if signature is None else text(signature)
    flag = bytes([signature is not None])
    return bytes([50]) + head + flag + text(ALGORITHM) + text(certificate) + signed


EXCHANGED = [kex_init("curve25519-sha256", "ext-info-c"), ECDH_INIT, NEWKEYS]
LOGGED_IN = [*EXCHANGED, SERVICE, login(b"root", b"good", b"good")]


class Desk:
    """Node and jump host in one. `trusting`: the certificate "good" with a signature may enter."""

    def __init__(self, *, trusting: bool) -> None:
        self.trusting, self.entered = trusting, False
        self.tries = 0
        self._ended: list[Exit] = []
        self._wishes: list[int] = []
        self._listening: list[Target] = []
        self._arrivals = 0
        self._ours: list[socket.socket | int] = []
        self.forwards = self
        self.idle_seconds = 600.0
        self.goodbye = ""

    def close_all(self) -> None:
        for each in self._ours:
            each.close() if isinstance(each, socket.socket) else os.close(each)
        self._ours.clear()

    def _inside(self) -> Answer:
        if not self.entered:
            raise Finding("something was asked for before the login")
        return YES

    # --- the clerk

    def sign(self, exchange_hash: bytes) -> bytes:
        return text(b"ssh-ed25519") + text(bytes(64))

    def login(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> Answer:
        if self.entered:
            raise Finding("a login after the login")
        self.tries += 1
        ok = self.trusting and certificate == b"good"
        self.entered = ok and signature is not None
        return Answer(ok=ok, reason="" if ok else "no", last=self.tries >= 6)

    def watched(self) -> tuple[int, ...]:
        return ()

    def hear(self, fd: int) -> None: ...

    def ask(self, what: str) -> Answer:
        self._inside()
        if not what.isascii() or not what.isprintable() or len(what) > 400:
            raise Finding(f"the monitor would read {what[:80]!r}")
        return Answer(ok=not what.endswith("no"), reason="no")

    def close(self, channel: int) -> None:
        self._inside()

    # --- shells

    def ended(self) -> list[Exit]:
        ended, self._ended = self._ended, []
        return ended

    def terminal(self, channel: int, terminal: Any) -> Answer:
        return self._inside()

    def env(self, channel: int, name: bytes, value: bytes) -> Answer:
        return self._inside()

    def was_idle(self) -> None: ...

    def moved(self, channel: int, up: int, down: int) -> None:
        self._inside()

    def join(self, channel: int) -> Seat | Answer:
        self._inside()
        if channel % 3 == 0:
            return Answer(ok=False, reason="no such session")
        return Seat(words="you watch", fd=self._far_end().detach(), types=channel % 3 == 1)

    def start(
        self, channel: int, command: bytes | None, subsystem: str = ""
    ) -> Streams | Seat | Answer:
        self._inside()
        if command == b"no":
            return Answer(ok=False, reason="no")
        if command == b"seat":
            return Seat(words="not here")
        self._ended.append(Exit(channel=channel, signal="TERM" if command == b"die" else ""))
        if command is None:
            ours, theirs = socket.socketpair()
            self._ours.append(ours)
            ours.send(b"$ ")
            fd = theirs.detach()
            return Streams(stdin=fd, stdout=fd, stderr=None)
        reads, stdin = os.pipe()
        stdout, writes = os.pipe()
        stderr, writes_err = os.pipe()
        os.write(writes, b"out")
        os.write(writes_err, b"err")
        os.close(writes_err)
        self._ours += [reads, writes]
        return Streams(stdin=stdin, stdout=stdout, stderr=stderr)

    def resize(self, channel: int, columns: int, rows: int, width: int, height: int) -> Answer:
        return self._inside()

    def signal(self, channel: int, name: str) -> Answer:
        return self._inside()

    # --- ways and forwarding

    def open(self, number: int, host: str, port: int) -> None:
        self._inside()
        self._wishes.append(number)

    def connect(self, number: int, target: Target) -> Answer:
        self._inside()
        self._wishes.append(number)
        return YES

    def opened(self) -> list[ssh_jump.Opened]:
        wishes, self._wishes = self._wishes, []
        return [self._led(each) for each in wishes]

    def _led(self, number: int) -> ssh_jump.Opened:
        if number % 3 == 0:
            return ssh_jump.Opened(number=number, sock=None, reason="nobody there")
        return ssh_jump.Opened(number=number, sock=self._far_end())

    def _far_end(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.send(b"hello")
        self._ours.append(ours)
        return theirs

    def listen(self, target: Target) -> tuple[Answer, int]:
        self._listening.append(target)
        return self._inside(), target.port or 1024

    def unlisten(self, target: Target) -> Answer:
        return self._inside()

    def arrived(self) -> list[Arrival]:
        listening, self._listening = self._listening, []
        return [self._arrival("unix" if each.path else "tcp", each) for each in listening]

    def _arrival(self, kind: str, at: Target) -> Arrival:
        self._arrivals -= 1
        return Arrival(
            number=self._arrivals, kind=kind, at=at, host="::1", port=9, sock=self._far_end()
        )

    def agent(self, channel: int) -> Answer:
        self._listening.append(Target(path=b"/agent"))
        return self._inside()

    def display(self, channel: int, display: Any) -> Answer:
        return self._inside()

    def over(self, number: int, *, sent: int, received: int, reason: str) -> None:
        self._inside()


class _Plain(EntryTransport):
    """New keys are agreed on, and not used."""

    def _activate_inbound(self) -> None: ...

    def _activate_outbound(self) -> None:
        self.packetizer.send_message(paramiko.Message(cMSG_NEWKEYS))
        self.in_kex = False
        self._expect_packet(21)


class NodeDoor(_Plain, ssh_door._Transport): ...


class JumpDoor(_Plain, ssh_jump._Transport): ...


@contextmanager
def talking(said: bytes) -> Iterator[socket.socket]:
    """A socket from which `said` comes, and then the end."""
    ours, peer = socket.socketpair()
    with peer:
        for end in (ours, peer):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        peer.sendall(said)
        peer.shutdown(socket.SHUT_WR)
        yield ours


def serve(door: type[EntryTransport], said: bytes, *, trusting: bool, inside: bool = False) -> None:
    """Let a client say that, and raise what it ended with. `inside`: it must have logged in."""
    desk = Desk(trusting=trusting)
    with talking(said) as sock:
        transport: Any = door(sock, desk)
        try:
            why = ssh_entry.serve(
                transport,
                host_public=HOST.ssh_public,
                host_cert=HOST.ssh_cert,
                banner="welcome\n",
            )
        finally:
            desk.close_all()
            sock.close()
    if not why.isascii() or not why.isprintable():
        raise Finding(f"last words {why!r}")
    end = transport.saved_exception
    if inside and not desk.entered:
        raise Finding("it did not get in") from end
    if transport.is_authenticated() and not desk.entered:
        raise Finding("logged in, and nobody has let it in")
    while end is not None:  # paramiko puts some into others
        if not isinstance(end, ENDS):
            raise end
        end = end.__context__


def packets(data: bytes) -> bytes:
    """Each piece of an input is a message."""
    pieces, found = Pieces(data), []
    while pieces:
        found.append(packet(pieces.text()))
    return b"".join(found)
