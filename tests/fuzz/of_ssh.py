"""Readers of SSH: what clients say to nodes and jump hosts, before and after their login."""

import hashlib
from functools import partial

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import strategies as st
from paramiko import SSHException

from teleport_lite.net.ssh_buffers import Incoming
from teleport_lite.net.ssh_seal import CtrEtm, Gcm, Seal
from teleport_lite.pki.wire import text
from tests.fuzz.ssh_rig import (
    BANNER,
    ECDH_INIT,
    ENDS,
    EXCHANGED,
    LOGGED_IN,
    NEWKEYS,
    SERVICE,
    JumpDoor,
    NodeDoor,
    kex_init,
    login,
    number,
    packet,
    packets,
    serve,
    talking,
)
from tests.fuzz.target import Finding, Pieces, any_of, framed, target

_HYBRID = "mlkem768x25519-sha256"
_GROUP = "diffie-hellman-group16-sha512"
HELLOS = [
    kex_init(),
    kex_init("kex-strict-c-v00@openssh.com", "curve25519-sha256"),
    kex_init(_HYBRID, "ext-info-c"),
    kex_init("sntrup", "curve25519-sha256", follows=True),
    kex_init(_GROUP),
    kex_init("curve25519-sha256@libssh.org", "ext-info-c"),
    ECDH_INIT,
    bytes([30]) + text(bytes(1184 + 32)),
    bytes([30]) + text(b"\x01" * 512),
    NEWKEYS,
    SERVICE,
]
TALK = [
    bytes([1]) + number(11) + text(b"bye") + text(b""),
    bytes([2]) + text(b"noise"),
    bytes([3]) + number(0),
    bytes([4, 1]) + text(b"debug") + text(b""),
    bytes([7]) + number(1) + text(b"ext") + text(b"value"),
    bytes([192]) + text(b"ping"),
]
LOGINS = [
    SERVICE,
    login(b"root", b"good", None),
    login(b"root", b"good", b"good"),
    login(b"root", b"bad", b"bad"),
    bytes([50]) + text(b"root") + text(b"ssh-connection") + text(b"none"),
    bytes([50]) + text(b"root") + text(b"ssh-connection") + text(b"password") + b"\0" + text(b"x"),
    bytes([50])
    + text(b"root")
    + text(b"ssh-connection")
    + text(b"keyboard-interactive")
    + text(b"") * 2,
    bytes([50]) + text(b"root") + text(b"ssh-connection") + text(b"hostbased") + text(b"x") * 5,
    bytes([61]) + number(1) + text(b"answer"),
    bytes([60]) + text(b"") * 3,
    bytes([52]),
]


def opening(kind: bytes, rest: bytes = b"", *, remote: int = 0, window: int = 1 << 20) -> bytes:
    return bytes([90]) + text(kind) + number(remote) + number(window) + number(32768) + rest


def request(kind: bytes, rest: bytes = b"", *, channel: int = 0) -> bytes:
    return bytes([98]) + number(channel) + text(kind) + b"\1" + rest


_THERE = text(b"localhost") + number(80) + text(b"127.0.0.1") + number(4000)
_SIZES = number(80) + number(24) + number(640) + number(480)
OPENINGS = [
    opening(b"session"),
    opening(b"session", remote=7, window=2),
    opening(b"direct-tcpip", _THERE),
    opening(b"direct-streamlocal@openssh.com", text(b"/run/x.sock") + text(b"") + number(0)),
    opening(b"x11", text(b"::1") + number(6000)),
]
GLOBALS = [
    bytes([80]) + text(kind) + b"\1" + rest
    for kind, rest in (
        (b"tcpip-forward", text(b"") + number(0)),
        (b"tcpip-forward", text(b"localhost") + number(8080)),
        (b"cancel-tcpip-forward", text(b"localhost") + number(8080)),
        (b"streamlocal-forward@openssh.com", text(b"/run/y.sock")),
        (b"cancel-streamlocal-forward@openssh.com", text(b"/run/y.sock")),
        (b"no-more-sessions@openssh.com", b""),
        (b"keepalive@openssh.com", b""),
        (b"hostkeys-prove-00@openssh.com", text(b"key")),
    )
]
AGENT = request(b"auth-agent-req@openssh.com")
X11 = request(b"x11-req", b"\0" + text(b"MIT-MAGIC-COOKIE-1") + text(b"00") + number(0))
REQUESTS = [
    request(b"pty-req", text(b"xterm") + _SIZES + text(b"\1\0\0\0\3\0")),
    request(b"env", text(b"LANG") + text(b"C")),
    request(b"shell"),
    request(b"exec", text(b"true")),
    request(b"exec", text(b"die")),
    request(b"exec", text(b"seat")),
    request(b"exec", text(b"no")),
    request(b"subsystem", text(b"join@teleport-lite")),
    request(b"subsystem", text(b"sftp")),
    request(b"window-change", _SIZES),
    request(b"signal", text(b"INT")),
    request(b"break", number(5)),
    request(b"eow@openssh.com"),
    AGENT,
    X11,
    request(b"exit-status", number(0)),
]
TRAFFIC = [
    bytes([91]) + number(0) + number(5) + number(1 << 20) + number(32768),
    bytes([92]) + number(0) + number(1) + text(b"no") + text(b""),
    bytes([93]) + number(0) + number(1 << 16),
    bytes([94]) + number(0) + text(b"ls\n"),
    bytes([95]) + number(0) + number(1) + text(b"err"),
    bytes([96]) + number(0),
    bytes([97]) + number(0),
    bytes([99]) + number(0),
    bytes([81]),
    bytes([82]),
]
SESSIONS = [
    [OPENINGS[0], *REQUESTS[:3], TRAFFIC[3], TRAFFIC[5], TRAFFIC[6]],
    [OPENINGS[0], REQUESTS[3], TRAFFIC[2]],
    [OPENINGS[0], AGENT, X11, REQUESTS[2], TRAFFIC[0]],
    [OPENINGS[2], TRAFFIC[3], TRAFFIC[6], OPENINGS[3]],
    [GLOBALS[0], GLOBALS[3], TRAFFIC[0], TRAFFIC[1]],
    [kex_init(), OPENINGS[0], ECDH_INIT, NEWKEYS, REQUESTS[3]],
]


def _messages(*kinds: list[bytes]) -> st.SearchStrategy[bytes]:
    return any_of([each for kind in kinds for each in kind]).map(framed)


@target(
    raises=ENDS,
    seeds=lambda: [BANNER + b"".join(map(packet, EXCHANGED)), BANNER + packet(kex_init())],
    parts=lambda: any_of([BANNER, *map(packet, [*HELLOS, *TALK])]),
    most=16384,
)
def ssh_from_the_first_byte(data: bytes) -> None:
    """Identification and packets, as they come from the socket."""
    serve(NodeDoor, data, trusting=False)


@target(
    raises=ENDS,
    seeds=lambda: [
        framed(*EXCHANGED),
        framed(*TALK, *HELLOS),
        *(framed(*HELLOS[i:]) for i in range(6)),
    ],
    parts=lambda: _messages(HELLOS, TALK, LOGINS),
    most=8192,
)
def ssh_key_exchange(data: bytes) -> None:
    """Anything before the first keys, in packets that are sound."""
    serve(NodeDoor, BANNER + packets(data), trusting=False)


@target(
    raises=ENDS,
    seeds=lambda: [framed(*LOGINS), framed(*LOGINS[:3]), framed(*TALK, *LOGINS)],
    parts=lambda: _messages(LOGINS, TALK, OPENINGS, HELLOS),
    most=8192,
)
def ssh_login(data: bytes) -> None:
    """Anything between the first keys and the login, and what follows it."""
    serve(NodeDoor, BANNER + b"".join(map(packet, EXCHANGED)) + packets(data), trusting=True)


@target(
    raises=ENDS,
    seeds=lambda: [framed(*each) for each in SESSIONS],
    parts=lambda: _messages(OPENINGS, REQUESTS, GLOBALS, TRAFFIC, TALK, HELLOS, LOGINS),
    most=8192,
)
def ssh_session(data: bytes) -> None:
    """Everything a client can say to a node once it is in."""
    said = BANNER + b"".join(map(packet, LOGGED_IN)) + packets(data)
    serve(NodeDoor, said, trusting=True, inside=True)


@target(
    raises=ENDS,
    seeds=lambda: [framed(OPENINGS[2], *each) for each in ([], TRAFFIC[2:7], [OPENINGS[2], *TALK])],
    parts=lambda: _messages(OPENINGS, REQUESTS, GLOBALS, TRAFFIC, TALK, HELLOS),
    most=8192,
)
def ssh_jump_host(data: bytes) -> None:
    """Everything a client can say to a jump host once it is in."""
    said = BANNER + b"".join(map(packet, LOGGED_IN)) + packets(data)
    serve(JumpDoor, said, trusting=True, inside=True)


def _seals() -> list[Seal]:
    ctr = Cipher(algorithms.AES(bytes(16)), modes.CTR(bytes(16))).encryptor()
    return [Gcm(AESGCM(bytes(16)), bytes(12)), CtrEtm(ctr, hashlib.sha256, bytes(32))]


def _sealed(seal: Seal, plain: bytes, number: int) -> bytes:
    out = bytearray(4 + len(plain) + seal.tag)
    view = memoryview(out)
    view[4 : 4 + len(plain)] = plain
    seal.close(view[4 : 4 + len(plain)], view, number)
    return bytes(out)


@target(
    raises=(SSHException,),
    seeds=lambda: [
        b"\0" + framed(b"\0\x0a\x5e" + bytes(14), b"\0\4" + bytes(15)),
        b"\1" + framed(b"\0\x0a\x5e" + bytes(14), b"\1" + bytes(60)),
    ],
    parts=partial(any_of, [framed(b"\0\4" + bytes(15)), framed(b"\1" + bytes(5))]),
)
def ssh_sealed_packets(data: bytes) -> None:
    """Packets under keys: by somebody who has them, with any inside; and by somebody else."""
    pieces = Pieces(data)
    which = pieces.number() % 2
    theirs, incoming = _seals()[which], Incoming()
    incoming.renew(_seals()[which])
    said, honest = b"", []
    while pieces:
        piece = pieces.text()
        if piece[:1] == b"\1":  # no key
            said += piece[1:]
            break
        honest.append(piece[1:])
        said += _sealed(theirs, piece[1:], len(honest) - 1)
    with talking(said) as sock:
        heard = 0
        with sock:
            while incoming.fill(sock):
                while (payload := incoming.packet()) is not None:
                    if heard == len(honest):
                        raise Finding("a packet that nobody with the key has sealed")
                    plain, heard = honest[heard], heard + 1
                    if payload != plain[1 : len(plain) - plain[0]]:
                        raise Finding("not what was sealed")
