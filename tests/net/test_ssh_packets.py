"""The limits that paramiko's packets lack, without a connection."""

import socket
import struct
from collections.abc import Callable

import paramiko
import pytest
from paramiko.common import MSG_IGNORE, MSG_UNIMPLEMENTED
from paramiko.packet import Packetizer

from teleport_lite.net.ssh_loop import Wire
from teleport_lite.net.ssh_packets import GuardedPackets


class Talk:
    """Our packets at one end of a socket; whatever we like at the other."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        self.wire = Wire(ours)
        self.packets = GuardedPackets(self.wire)  # type: ignore[arg-type]  # looks like a socket
        self.peer.settimeout(5)

    def close(self) -> None:
        self.wire.close()
        self.peer.close()


@pytest.fixture
def talk() -> "Talk":
    return Talk()


def read(talk: Talk, what: Callable[[], object], *said: bytes) -> object:
    for each in said:
        talk.peer.sendall(each)
    talk.peer.shutdown(socket.SHUT_WR)
    try:
        return what()
    finally:
        talk.close()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
        (b"SSH-2.0-old\n", "SSH-2.0-old"),
        (b"SSH-2.0-x\xff\xfe\r\n", "SSH-2.0-x\ufffd\ufffd"),
    ],
)
def test_the_first_line_is_the_client_s_name(talk: Talk, line: bytes, name: str) -> None:
    assert read(talk, lambda: talk.packets.readline(1), line, b"rest") == name


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1\r\n", b"SSX", b"\0", b"\r\n", b"SSH-2.0-" + b"x" * 300]
)
def test_any_other_first_line_is_refused_at_once(talk: Talk, line: bytes) -> None:
    with pytest.raises(paramiko.SSHException):
        read(talk, lambda: talk.packets.readline(1), line)


def test_a_client_that_says_nothing_and_goes(talk: Talk) -> None:
    with pytest.raises(EOFError):
        read(talk, lambda: talk.packets.readline(1), b"SSH-")


@pytest.mark.parametrize("size", [0x7FFFFFFF, 64 * 1024 + 32, 0xFFFFFFF0])
def test_a_packet_too_large_is_refused_before_it_is_read(talk: Talk, size: int) -> None:
    with pytest.raises(paramiko.SSHException):
        read(talk, talk.packets.read_message, struct.pack(">IB", size, 4) + b"\0" * 11)


def test_after_the_login_packets_may_be_larger(talk: Talk) -> None:
    payload = b"\x02" + b"x" * 100_000
    pad = 8 - (len(payload) + 5) % 8 + 4
    pad += (8 - (len(payload) + 5 + pad) % 8) % 8
    packet = struct.pack(">IB", len(payload) + pad + 1, pad) + payload + b"\0" * pad
    talk.packets.largest = 256 * 1024
    kind, _ = read(talk, talk.packets.read_message, packet)  # type: ignore[misc]  # a pair
    assert kind == MSG_IGNORE


def test_an_unknown_message_is_answered_and_passed_over(talk: Talk) -> None:
    packet = struct.pack(">IB", 12, 10) + bytes([200]) + b"\0" * 10
    talk.peer.sendall(packet)
    kind, _ = talk.packets.read_message()
    assert kind == MSG_IGNORE
    talk.wire._flush()
    answer = talk.peer.recv(100)
    assert answer[5] == MSG_UNIMPLEMENTED
    assert answer[6:10] == b"\0\0\0\0"  # the number of the packet that we did not know
    talk.close()


def test_paramiko_still_calls_what_we_override() -> None:
    """If an upgrade renames one of these, our limits would quietly be gone."""
    for name in ("readline", "read_all", "read_message", "start_handshake", "send_message"):
        assert callable(getattr(Packetizer, name))
    source = __import__("inspect").getsource(Packetizer.read_message)
    assert "self.read_all(" in source
    assert "__socket.recv" not in source
