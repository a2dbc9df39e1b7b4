"""The socket that is an event loop, without paramiko on top."""

import os
import select
import socket
from collections.abc import Iterator

import pytest

from teleport_lite.net.ssh_loop import Wire


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    ours, peer = socket.socketpair()
    wire = Wire(ours)
    peer.settimeout(5)
    yield wire, peer
    wire.close()
    peer.close()


class Listening:
    """One pipe; what comes out of it is kept."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.heard: list[bytes] = []
        self.may_send: list[bool] = []

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]:
        self.may_send.append(may_send)
        yield self.read_end, select.POLLIN

    def ready(self, fd: int) -> None:
        self.heard.append(os.read(fd, 100))

    def patience(self) -> float | None:
        return None

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


def test_bytes_come_in_the_sizes_asked_for(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    peer.sendall(b"abcdef")
    assert [wire.recv(2), wire.recv(3), wire.recv(10)] == [b"ab", b"cde", b"f"]


def test_the_end_is_empty_for_ever(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    peer.close()
    assert [wire.recv(1), wire.recv(1)] == [b"", b""]


def test_what_is_sent_goes_out_before_the_next_wait(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    assert wire.send(b"one ") == 4
    wire.send(b"two")
    peer.sendall(b"x")
    wire.recv(1)
    assert peer.recv(100) == b"one two"


def test_others_get_their_turn_while_we_wait(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    pipe = Listening()
    wire.attendant = pipe
    os.write(pipe.write_end, b"from a shell")
    # Before it has heard from the pipe, there is nothing to answer.
    pipe.ready = lambda fd: (pipe.heard.append(os.read(fd, 100)), peer.sendall(b"now"))  # type: ignore[method-assign,func-returns-value]  # answers
    assert wire.recv(10) == b"now"
    assert pipe.heard == [b"from a shell"]
    pipe.close()


def test_a_peer_that_does_not_read_stops_the_shells_and_then_itself(
    pair: tuple[Wire, socket.socket],
) -> None:
    wire, peer = pair
    pipe = Listening()
    wire.attendant = pipe
    wire.send(b"x" * (2 << 20))
    peer.sendall(b"y")
    assert wire.recv(1) == b"y"
    assert pipe.may_send[-1] is False
    taken = 0
    while taken < 2 << 20:
        taken += len(peer.recv(1 << 20))
        peer.sendall(b"z")
        wire.recv(1)
    assert pipe.may_send[-1] is True
    pipe.close()


def test_a_peer_that_is_gone_is_not_an_error_to_send_to(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    peer.close()
    wire.send(b"x" * 100)
    assert wire.recv(1) == b""


def test_after_closing_nothing_works(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    wire.send(b"last words")
    wire.close()
    wire.close()
    assert peer.recv(100) == b"last words"
    assert wire.recv(1) == b""
    with pytest.raises(OSError, match="closed"):
        wire.send(b"more")
