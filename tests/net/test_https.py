"""Requests, bodies and streams of the API server, on real sockets."""

import asyncio
import contextlib
import gzip
import logging
import ssl
import threading

import pytest

from teleport_lite.errors import Denied, Error, Unavailable
from teleport_lite.net.accept import Limits
from teleport_lite.net.http import Connection
from teleport_lite.net.stream import StreamClient
from teleport_lite.net.tls import stranger_context
from teleport_lite.net.way import Way
from teleport_lite.proto.codec import MAX_JOIN
from teleport_lite.testing.certs import Papers
from tests.net.parrot import (
    CLUSTER,
    NODE,
    QUICK,
    Parrot,
    closed_within,
    connect,
    everything,
    raw,
)
from tests.net.serving import LOOPS, STREAM, Serving, shown, trusting
from tests.support import eventually

# Requests


def test_bodies_and_paths_arrive_as_they_are(serving: Serving, parrot: Parrot) -> None:
    with connect(serving) as wire:
        wire.ask("/v1/a%20b/..?x=1", {"a": "\u00fc"})
    [(path, _, body)] = parrot.asked
    assert path.startswith("/v1/")
    assert body == '{"a":"\u00fc"}'.encode()


def test_errors_keep_their_words_and_lose_our_log(serving: Serving) -> None:
    with connect(serving) as wire, pytest.raises(Denied) as why:
        wire.ask("/denied", {})
    assert (why.value.message, why.value.hint) == ("no", "ask somebody")
    with raw(serving) as wire:
        wire.sendall(b"POST /denied HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = everything(wire)
    assert said.startswith(b"HTTP/1.1 403")
    assert b"the reason for us" not in said


def test_not_now_says_when_to_come_back(serving: Serving) -> None:
    with raw(serving) as wire:
        wire.sendall(b"POST /unavailable HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = everything(wire)
    assert said.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 10" in said


@pytest.mark.parametrize("path", ["/bug", "/unwritable"])
def test_a_bug_is_an_internal_error_with_a_trace_and_no_detail(
    serving: Serving, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with raw(serving) as wire:
        wire.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        said = everything(wire)
    assert said.startswith(b"HTTP/1.1 500")
    assert b'"message": "internal error"' in said
    assert b"trace-1" in said
    for secret in (b"secret", b"Zero", b"Traceback", b"object", b"aiohttp", b"Python"):
        assert secret not in said
    [record] = [each for each in caplog.records if each.name == "teleport_lite.api"]
    assert "trace-1" in record.getMessage()
    assert record.exc_info is not None


def test_which_library_answers_is_not_told(serving: Serving) -> None:
    with raw(serving) as wire:
        wire.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = everything(wire)
    assert b"Server: teleport-lite\r\n" in said
    assert b"aiohttp" not in said


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    ],
    ids=lambda raw: ascii(raw[:30]),
)
def test_garbage_is_refused_and_the_server_goes_on(
    serving: Serving, parrot: Parrot, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with raw(serving) as wire:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            wire.sendall(garbage)
            wire.settimeout(1)
        with contextlib.suppress(TimeoutError):
            said = everything(wire)
            assert not said.startswith(b"HTTP/1.1 200")
            assert b"Traceback" not in said
    with connect(serving) as wire:
        assert wire.ask("/after", {})
    assert [path for path, _, _ in parrot.asked] == ["/after"]
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


# Bodies


@pytest.mark.parametrize("size", [101, 10**9])
def test_a_body_that_says_it_is_too_large_is_not_read(serving: Serving, size: int) -> None:
    with raw(serving) as wire:
        wire.sendall(f"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        said = wire.recv(65536)
    assert said.startswith(b"HTTP/1.1 400")
    assert b"the most we read here is 100 bytes" in said


def test_a_body_that_grows_too_large_is_left_where_it_is(parrot: Parrot) -> None:
    sent = 0
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, raw(serving) as wire:
        wire.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            for _ in range(16_384):  # a gigabyte
                wire.sendall(part)
                sent += len(part)
    assert sent < 1 << 30
    assert parrot.asked == []


def test_a_body_at_the_limit_is_read(serving: Serving) -> None:
    with raw(serving) as wire:
        wire.sendall(b"POST /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n")
        wire.sendall(b"Content-Length: 100\r\n\r\n" + b"x" * 100)
        assert b'"bytes":100' in everything(wire)


def test_a_compressed_body_is_not_unpacked(serving: Serving, parrot: Parrot) -> None:
    bomb = gzip.compress(b"x" * 10_000_000)
    assert len(bomb) < MAX_JOIN
    with raw(serving) as wire:
        head = f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {len(bomb)}\r\n".encode()
        wire.sendall(head + b"Connection: close\r\nContent-Encoding: gzip\r\n\r\n" + bomb)
        everything(wire)
    [(_, _, body)] = parrot.asked
    assert body == bomb


# Being slow


def test_a_body_that_does_not_come_is_not_waited_for(parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, raw(serving) as wire:
        wire.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
        said = closed_within(wire, 60)
    assert said.startswith(b"HTTP/1.1 400")
    assert b"did not arrive in time" in said
    assert parrot.asked == []


def test_a_second_request_that_does_not_come_is_not_waited_for(parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, raw(serving) as wire:
        wire.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /x HT")
        said = closed_within(wire, 60)
    assert said.count(b"200 OK") == 1


def test_an_answer_may_take_longer_than_a_question(parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), limits=QUICK) as serving, connect(serving) as wire:
        threading.Timer(1.8, parrot.gate.set).start()
        assert wire.ask("/wait", {})["path"] == "/wait"


def test_a_slow_one_does_not_hold_up_the_others(serving: Serving, parrot: Parrot) -> None:
    with raw(serving) as slow, raw(serving) as waiting:
        slow.sendall(b"GET / HT")
        waiting.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: parrot.asked)
        with connect(serving) as wire:
            assert wire.ask("/x", {})
        parrot.gate.set()


# Streams


def stream(serving: Serving, papers: Papers | None = NODE) -> StreamClient:
    return StreamClient(Way(serving.address), trusting(CLUSTER, papers), STREAM, timeout=60)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stream_carries_frames_both_ways_and_ends(loop: str, parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER), loop=loop) as serving:
        with contextlib.closing(stream(serving)) as client:
            client.send(b"one")
            client.send(b"two")
            assert eventually(lambda: client.receive(1)) == b"you said one"
            assert eventually(lambda: client.receive(1)) == b"you said two"
            client.send(b"bye")
            with pytest.raises(Unavailable, match="closed"):
                eventually(lambda: client.receive(1))
        assert parrot.streams[0].over.wait(60)


def test_a_stream_that_is_refused_tells_why(serving: Serving, parrot: Parrot) -> None:
    with pytest.raises(Denied, match="streams are for hosts"):
        stream(serving, None)
    assert parrot.streams == []


def test_a_stream_needs_a_websocket(serving: Serving, parrot: Parrot) -> None:
    with connect(serving, NODE) as wire, pytest.raises(Error, match="takes a WebSocket"):
        wire.ask(STREAM)
    assert parrot.streams == []


def test_a_client_that_vanishes_ends_its_stream(serving: Serving, parrot: Parrot) -> None:
    client = stream(serving)
    eventually(lambda: parrot.streams)
    client.close()
    assert parrot.streams[0].over.wait(60)


def test_a_stream_goes_on_past_the_time_for_a_first_request(parrot: Parrot) -> None:
    with (
        Serving(parrot, shown(CLUSTER), limits=QUICK) as serving,
        contextlib.closing(stream(serving)) as client,
    ):
        assert client.receive(1.8) is None
        client.send(b"one")
        assert eventually(lambda: client.receive(1)) == b"you said one"


def test_a_frame_that_is_too_large_ends_the_stream(serving: Serving, parrot: Parrot) -> None:
    with contextlib.closing(stream(serving)) as client:
        client.send(b"x" * (1024 * 1024 + 1))
        with pytest.raises((Unavailable, ssl.SSLError)):
            eventually(lambda: client.receive(1))
        assert parrot.streams[0].over.wait(60)
        assert parrot.streams[0].heard == []


def test_a_stream_that_does_not_read_is_cut(parrot: Parrot) -> None:
    limits = Limits(queue=4)
    with (
        Serving(parrot, shown(CLUSTER), limits=limits) as serving,
        contextlib.closing(stream(serving)),
    ):
        chatter = eventually(lambda: parrot.streams)[0]

        def flooded() -> bool:
            for _ in range(8):
                chatter.send(b"x" * 1_000_000)
            return chatter.over.is_set()

        eventually(flooded)


def test_a_bug_in_a_stream_ends_that_stream_alone(serving: Serving, parrot: Parrot) -> None:
    with contextlib.closing(stream(serving)) as client, contextlib.closing(stream(serving)) as ok:
        client.send(b"bug")
        with pytest.raises((Unavailable, ssl.SSLError)):
            eventually(lambda: client.receive(1))
        ok.send(b"one")
        assert eventually(lambda: ok.receive(1)) == b"you said one"


def test_closing_the_server_ends_streams_and_connections(parrot: Parrot) -> None:
    with Serving(parrot, shown(CLUSTER)) as serving:
        client = stream(serving)
        wire = connect(serving)
        wire.ask("/x", {})
    with pytest.raises(Unavailable):
        eventually(lambda: client.receive(1))
    with pytest.raises(Unavailable):
        wire.ask("/x", {})
    client.close()
    wire.close()
    assert parrot.streams[0].over.wait(60)
    with pytest.raises(Unavailable):
        Connection.tls(Way(serving.address), stranger_context(), timeout=1)


def test_an_answer_that_comes_after_the_end_is_no_bug(
    parrot: Parrot, caplog: pytest.LogCaptureFixture
) -> None:
    """The store of auth had something else to do when auth was told to stop."""
    with Serving(parrot, shown(CLUSTER)) as serving, contextlib.closing(stream(serving)) as client:
        client.send(b"wait")
        eventually(lambda: client.receive(0.1) is None and parrot.streams[0].heard)
        serving.wait(serving.server.close())
        parrot.streams[0].gate.set()
        eventually(lambda: serving.call(lambda: len(asyncio.all_tasks())) == 1)
    assert caplog.text == ""
