"""Messages between our processes: one of them may be in strange hands."""

import contextlib
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.node.wire import (
    MAX_PACKET,
    FromBroker,
    FromSigner,
    FromWorker,
    Link,
    Login,
    Reply,
    Start,
    ToBroker,
    ToSigner,
    ToWorker,
)
from teleport_lite.proto.codec import read, write

KINDS = [FromWorker, Reply, ToBroker, ToWorker, FromBroker, ToSigner, FromSigner]


@given(st.sampled_from(KINDS), st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(kind: type[FromWorker], raw: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert isinstance(read(kind, raw, limit=MAX_PACKET), kind)


@given(st.binary(max_size=2000), st.none() | st.binary(max_size=500))
def test_bytes_come_out_as_they_went_in(blob: bytes, signature: bytes | None) -> None:
    login = Login(login="x", algorithm="y", certificate=blob, signature=signature)
    said = FromWorker(login=login)
    assert read(FromWorker, write(said), limit=MAX_PACKET) == said


def test_the_longest_command_fits_into_a_packet() -> None:
    ours, theirs = Link.pair()
    command = b"x" * (128 * 1024)
    ours.send(ToBroker(start=Start(channel=1, command=command)))
    said = theirs.receive(ToBroker)
    assert said.start is not None
    assert said.start.command == command
    ours.close()
    theirs.close()


def test_an_end_that_is_gone_is_the_end() -> None:
    ours, theirs = Link.pair()
    theirs.close()
    with pytest.raises(EOFError):
        ours.receive(Reply)
    with pytest.raises(EOFError):
        ours.send(Reply(ok=True))
    ours.close()


def test_silence_that_lasts_too_long_is_the_end() -> None:
    ours, theirs = Link.pair()
    ours.set_timeout(0.05)
    with pytest.raises(EOFError):
        ours.receive(Reply)
    ours.close()
    theirs.close()


def test_who_does_not_listen_is_not_waited_for() -> None:
    ours, theirs = Link.pair()

    def talk() -> None:
        for _ in range(100_000):
            ours.send(Reply(ok=True, data=b"x" * 1000), wait=False)

    with pytest.raises(EOFError):
        talk()
    ours.close()
    theirs.close()


def test_descriptors_nobody_asked_for_are_not_taken() -> None:
    ours, theirs = Link.pair()
    before = len(os.listdir("/proc/self/fd"))
    theirs.send(FromWorker(last_words="here, have some"), 0, 1, 2)
    assert ours.receive(FromWorker).last_words == "here, have some"
    assert len(os.listdir("/proc/self/fd")) == before
    ours.close()
    theirs.close()


def test_descriptors_asked_for_arrive_and_are_closed_on_exec() -> None:
    ours, theirs = Link.pair()
    read_end, write_end = os.pipe()
    theirs.send(Reply(ok=True), write_end)
    said, fds = ours.receive_with_fds(Reply, 3)
    assert said.ok
    assert [os.get_inheritable(fd) for fd in fds] == [False]
    os.write(fds[0], b"through")
    assert os.read(read_end, 10) == b"through"
    for fd in (read_end, write_end, *fds):
        os.close(fd)
    ours.close()
    theirs.close()


def test_more_descriptors_than_asked_for_end_the_talk() -> None:
    ours, theirs = Link.pair()
    theirs.send(Reply(ok=True), *[theirs.fileno()] * 20)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(EOFError):
        ours.receive_with_fds(Reply, 1)
    assert len(os.listdir("/proc/self/fd")) == before
    ours.close()
    theirs.close()


def test_a_packet_that_is_too_long_is_malformed() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    theirs.send(b"[" * (MAX_PACKET + 1))
    link = Link(ours)
    with pytest.raises(Malformed):
        link.receive(Reply)
    link.close()
    theirs.close()
