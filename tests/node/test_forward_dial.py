"""Connecting without waiting: addresses in turn, names in a child, and an end to all of it."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from teleport_lite.node import forward_dial
from teleport_lite.node.forward_dial import ALL_SECONDS, ONE_SECONDS, Address, Dial, Found
from teleport_lite.node.forward_wire import Target
from tests.support import free_port


def tcp(host: str, port: int) -> Target:
    return Target(host=host.encode(), port=port)


@contextmanager
def dialling(target: Target) -> Iterator[Dial]:
    dial = Dial(target, time.monotonic())
    try:
        yield dial
    finally:
        dial.close()
        if dial.sock:
            dial.sock.close()


def finish(dial: Dial, seconds: float = 60) -> None:
    """As the broker's loop does it."""
    deadline = time.monotonic() + seconds
    while not dial.over and time.monotonic() < deadline:
        poll = select.poll()
        for fd, events in dial.wants():
            poll.register(fd, events)
        left = max(0.0, min(dial.alarm(), deadline) - time.monotonic())
        found = poll.poll(left * 1000)
        dial.turn({fd for fd, _ in found}, time.monotonic())
    assert dial.over


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def full() -> Iterator[int]:
    """A port where connections neither work nor fail: nobody accepts, and the queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = int(server.getsockname()[1])
        waiting = []
        try:
            for _ in range(8):
                sock = socket.socket()
                waiting.append(sock)
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            # There is room for one; as soon as it is there the others wait, and all that come.
            assert select.select([], waiting, [], 60)[1]
            yield port
        finally:
            for sock in waiting:
                sock.close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost."])
def test_what_needs_no_looking_up(server: socket.socket, name: str) -> None:
    with dialling(tcp(name, server.getsockname()[1])) as dial:
        finish(dial)
        assert dial.sock
        assert dial.sock.getpeername() == server.getsockname()


def test_a_name_is_looked_up_by_a_child(server: socket.socket) -> None:
    """127.1 is an address to getaddrinfo(3) only."""
    with dialling(tcp("127.1", server.getsockname()[1])) as dial:
        assert not dial.over
        finish(dial)
        assert dial.sock


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (tcp("no-such-name.invalid", 80), ""),
        (tcp("", 80), "Name or service not known"),
        (tcp("a\nb", 80), "Name or service not known"),
        (tcp("x" * 256, 80), "Name or service not known"),
        (Target(host=b"\xff\xfe", port=80), "Name or service not known"),
        (tcp("127.0.0.1", 0), "no such port"),
        (tcp("127.0.0.1", 65536), "no such port"),
        (Target(path=b"/nonexistent"), "No such file or directory"),
        (Target(path=b"\0abstract"), "a path has no NUL in it"),
        (Target(path=b"/" + b"x" * 200), "File name too long"),
    ],
)
def test_what_cannot_be_had(target: Target, reason: str) -> None:
    with dialling(target) as dial:
        finish(dial)
        assert dial.sock is None
        assert dial.reason
        assert reason in dial.reason


def test_a_closed_port_refuses() -> None:
    with dialling(tcp("127.0.0.1", free_port())) as dial:
        finish(dial)
        assert dial.reason == "Connection refused"


def found(*hosts: str) -> list[Address]:
    families = {True: socket.AF_INET6, False: socket.AF_INET}
    return [Address(family=families[":" in host], host=host) for host in hosts]


def test_the_next_address_is_tried_if_one_refuses(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = found("::1", "127.0.0.2", "127.0.0.1")
    monkeypatch.setattr(forward_dial, "_without_lookup", lambda _name: addresses)
    with dialling(tcp("many", server.getsockname()[1])) as dial:
        finish(dial)
        assert dial.sock
        assert dial.sock.getpeername()[0] == "127.0.0.1"


def test_the_next_address_is_tried_while_one_says_nothing(
    full: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward_dial, "_without_lookup", lambda _n: found("127.0.0.1", "127.0.0.2"))
    with closing(socket.create_server(("127.0.0.2", full))), dialling(tcp("two", full)) as dial:
        began = time.monotonic()
        finish(dial)
        assert dial.sock
        assert dial.sock.getpeername()[0] == "127.0.0.2"
        assert time.monotonic() - began < ONE_SECONDS


def test_an_address_that_says_nothing_is_given_up(full: int) -> None:
    with dialling(tcp("127.0.0.1", full)) as dial:
        now = time.monotonic()
        dial.turn(set(), now + ONE_SECONDS / 2)
        assert not dial.over
        dial.turn(set(), now + ONE_SECONDS + 1)
        assert dial.reason == "Connection timed out"


def test_a_lookup_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_name: str) -> Found:
        time.sleep(60)
        return Found()

    monkeypatch.setattr(forward_dial, "_resolve", slow)
    with dialling(tcp("slow.example", 80)) as dial:
        now = time.monotonic()
        dial.turn(set(), now + ALL_SECONDS - 1)
        assert not dial.over
        dial.turn(set(), now + ALL_SECONDS + 1)
        assert dial.reason == "Connection timed out"


def test_a_lookup_that_dies_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_dial, "_resolve", lambda _name: None)
    with dialling(tcp("odd.example", 80)) as dial:
        finish(dial)
        assert dial.reason == "the name could not be looked up"


def test_nothing_stays_open(full: int) -> None:
    with dialling(tcp("127.0.0.1", full)) as dial:
        [(fd, _)] = dial.wants()
        dial.close()
        assert not list(dial.wants())
        with pytest.raises(OSError, match="Bad file descriptor"):
            socket.socket(fileno=fd)
