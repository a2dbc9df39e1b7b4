"""The agent's end of a stream, against servers that do it right and servers that do not."""

import contextlib
import errno
import os
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    TextMessage,
)
from wsproto.events import Request as Asked

from teleport_lite.errors import Denied, Error, Malformed, Unavailable
from teleport_lite.net import stream
from teleport_lite.net.stream import StreamClient
from teleport_lite.net.way import Way
from teleport_lite.testing.certs import PaperCluster
from tests.net.servers import Little, answering, given_up, reply, silence
from tests.net.serving import shown, trusting
from tests.support import eventually

CLUSTER = PaperCluster()
SHOWN = shown(CLUSTER)


class Speaker:
    """The server's end of a WebSocket: says raw events, remembers what it hears."""

    def __init__(self, wire: socket.socket) -> None:
        self.wire, self.ws = wire, WSConnection(ConnectionType.SERVER)
        self.heard: list[Event] = []

    def say(self, *events: Event) -> None:
        for event in events:
            self.wire.sendall(self.ws.send(event))

    def hear(self) -> Event:
        while not self.heard:
            data = self.wire.recv(65536)
            if not data:
                raise OSError("gone")
            self.ws.receive_data(data)
            self.heard += list(self.ws.events())
        return self.heard.pop(0)

    def accept(self) -> "Speaker":
        assert isinstance(self.hear(), Asked)
        self.say(AcceptConnection())
        return self


def speaking(script: Callable[[Speaker], None]) -> Little:
    """A server that accepts the stream and then follows a script."""

    def talk(wire: socket.socket) -> None:
        script(Speaker(wire).accept())

    return Little(talk, SHOWN.context)


def connect(server: Little, timeout: float = 60) -> StreamClient:
    return StreamClient(Way(server.address), trusting(CLUSTER), "/stream", timeout=timeout)


def listen(speaker: Speaker) -> None:
    """Until the other side goes."""
    with contextlib.suppress(OSError):
        while True:
            speaker.hear()
            speaker.heard.clear()


def received(client: StreamClient) -> bytes:
    found = eventually(lambda: client.receive(1))
    assert found is not None
    return found


def how_it_ends(client: StreamClient, kind: type[Exception] = Unavailable) -> str:
    with pytest.raises((kind, ssl.SSLError)) as why:
        eventually(lambda: client.receive(1))
    return str(why.value)


# Frames


def test_frames_arrive_whole_and_in_order() -> None:
    def script(speaker: Speaker) -> None:
        speaker.say(TextMessage(data="one"), TextMessage(data="two"), TextMessage(data="\u00fc"))
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        assert [received(client) for _ in range(3)] == [b"one", b"two", "\u00fc".encode()]


def test_a_frame_in_parts_is_one_frame() -> None:
    def script(speaker: Speaker) -> None:
        for part in ("a", "b", "c"):
            speaker.say(TextMessage(data=part, message_finished=part == "c"))
            speaker.say(Ping(payload=b"between"))
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        assert received(client) == b"abc"


def test_a_frame_that_trickles_in_is_waited_for() -> None:
    def script(speaker: Speaker) -> None:
        for byte in speaker.ws.send(TextMessage(data="slowly")):
            speaker.wire.sendall(bytes([byte]))
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        assert received(client) == b"slowly"


def test_a_ping_is_answered() -> None:
    ponged = threading.Event()

    def script(speaker: Speaker) -> None:
        speaker.say(Ping(payload=b"hello"))
        event = speaker.hear()
        assert isinstance(event, Pong)
        assert event.payload == b"hello"
        ponged.set()
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        eventually(lambda: client.receive(0.1) or ponged.is_set())


def test_what_is_sent_arrives_in_order_from_any_thread() -> None:
    heard: list[str] = []

    def script(speaker: Speaker) -> None:
        while len(heard) < 3:
            event = speaker.hear()
            assert isinstance(event, TextMessage)
            heard.append(event.data)
        speaker.say(TextMessage(data="enough"))
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        assert client.send(b"one")

        def later() -> None:
            client.send(b"two")
            client.send(b"three")

        thread = threading.Timer(0.1, later)
        thread.start()
        assert received(client) == b"enough"
        thread.join()
    assert heard == ["one", "two", "three"]


def test_waiting_ends_when_somebody_rings() -> None:
    with speaking(listen) as server, contextlib.closing(connect(server)) as client:
        threading.Timer(0.1, client.wake).start()
        started = time.monotonic()
        assert client.receive(60) is None
        assert time.monotonic() - started < 50


def test_nothing_said_is_nothing_received() -> None:
    with speaking(listen) as server, contextlib.closing(connect(server)) as client:
        assert client.receive(0.05) is None


# Ends


def test_a_server_that_closes_politely_ends_it() -> None:
    def script(speaker: Speaker) -> None:
        speaker.say(TextMessage(data="last words"), CloseConnection(code=1001))
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        assert received(client) == b"last words"
        assert "closed the stream" in how_it_ends(client)


def test_a_server_that_vanishes_ends_it() -> None:
    with speaking(lambda speaker: None) as server, contextlib.closing(connect(server)) as client:
        assert how_it_ends(client)


def test_a_server_that_is_stuck_in_the_middle_of_a_record_holds_nobody() -> None:
    """The TLS record says 16 kB follow, and then nothing does."""
    plain: list[socket.socket] = []

    def script(speaker: Speaker) -> None:
        plain.append(speaker.wire)
        os.write(speaker.wire.fileno(), b"\x17\x03\x03\x40\x00half")
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        eventually(lambda: plain)
        started = time.monotonic()
        assert client.receive(0.3) is None
        assert client.receive(0.3) is None
        assert time.monotonic() - started < 50, "the time that a write may take"


def test_a_server_that_does_not_read_is_given_up_on() -> None:
    gate = threading.Event()
    with speaking(lambda speaker: gate.wait(60)) as server:  # type: ignore[arg-type, return-value]
        with contextlib.closing(connect(server)) as client:
            client._timeout = 0.3  # from here on
            client._wire.settimeout(0.3)
            for _ in range(20):
                client.send(b"x" * 1_000_000)
            with pytest.raises(Unavailable, match="the stream broke"):
                client.receive(1)
        gate.set()


def test_the_queue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_WAITING", 3)
    with speaking(listen) as server, contextlib.closing(connect(server)) as client:
        assert [client.send(b"x") for _ in range(5)] == [True, True, True, False, False]
        client.flush()
        assert client.send(b"x")


def test_after_the_end_sending_harms_nobody() -> None:
    with speaking(listen) as server:
        client = connect(server)
        client.close()
        client.send(b"x")
        client.wake()


# What is no stream


def test_a_frame_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_FRAME", 1000)

    def script(speaker: Speaker) -> None:
        speaker.say(TextMessage(data="x" * 600, message_finished=False))
        speaker.say(TextMessage(data="x" * 600, message_finished=False))
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        assert "over 1000 bytes" in how_it_ends(client, Malformed)


@pytest.mark.parametrize("raw", [b"garbage" * 10, b"\xff\xff\xff\xff", b"\x81\xff" + b"\xff" * 8])
def test_what_is_no_frame_is_refused(raw: bytes) -> None:
    def script(speaker: Speaker) -> None:
        speaker.wire.sendall(raw)
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        assert how_it_ends(client)


def test_bytes_are_no_words() -> None:
    def script(speaker: Speaker) -> None:
        speaker.say(BytesMessage(data=b"\x00"))
        listen(speaker)

    with speaking(script) as server, contextlib.closing(connect(server)) as client:
        assert "does not speak the agent stream" in how_it_ends(client)


@pytest.mark.parametrize(
    "answer", [reply(b"{}"), b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n"], ids=range(3)
)
def test_a_server_without_streams_is_told(answer: bytes) -> None:
    with Little(answering(answer), SHOWN.context) as server, pytest.raises(Unavailable):
        connect(server)


def test_a_refusal_is_told_in_the_words_of_the_server() -> None:
    body = b'{"error": {"code": "denied", "message": "locked", "hint": "ask"}}'

    def talk(wire: socket.socket) -> None:
        speaker = Speaker(wire)
        speaker.hear()
        speaker.say(RejectConnection(status_code=403, has_body=True))
        speaker.say(RejectData(data=body[:10], body_finished=False), RejectData(data=body[10:]))

    with Little(talk, SHOWN.context) as server, pytest.raises(Denied, match="locked") as why:
        connect(server)
    assert why.value.hint == "ask"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_a_refusal_without_words_is_told_by_its_status(body: bytes) -> None:
    def talk(wire: socket.socket) -> None:
        speaker = Speaker(wire)
        speaker.hear()
        speaker.say(RejectConnection(status_code=418, has_body=bool(body)))
        if body:
            speaker.say(RejectData(data=body))

    with Little(talk, SHOWN.context) as server, pytest.raises(Unavailable, match="answered 418"):
        connect(server)


def test_a_server_that_never_answers_is_given_up_on() -> None:
    with Little(silence, SHOWN.context) as server:
        given_up(lambda seconds: connect(server, timeout=seconds), r"broke \(.*timed out")


def test_a_server_that_drips_its_answer_is_given_up_on() -> None:
    def talk(wire: socket.socket) -> None:
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n" * 100:
            wire.sendall(bytes([byte]))
            time.sleep(0.02)

    with Little(talk, SHOWN.context) as server:
        given_up(lambda seconds: connect(server, timeout=seconds), "in time")


def test_a_server_that_is_not_trusted_hears_nothing() -> None:
    with (
        Little(silence, shown(PaperCluster()).context) as server,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        connect(server)


def test_it_works_with_more_descriptors_than_select_knows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1300:
        pytest.skip("this system does not allow so many")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))

    def script(speaker: Speaker) -> None:
        speaker.say(TextMessage(data="hello"))
        listen(speaker)

    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1050)]
    try:
        with speaking(script) as server, contextlib.closing(connect(server)) as client:
            assert received(client) == b"hello"
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_a_descriptor_left_it_says_so_and_hangs_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[bytes] = []

    def full() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with Little(lambda wire: heard.append(wire.recv(1)), SHOWN.context) as server:
        monkeypatch.setattr(socket, "socketpair", full)
        with pytest.raises(Unavailable, match=r"can not open a stream to .*: Too many open files"):
            connect(server)
        eventually(lambda: heard == [b""], what="the connection to be closed")


def test_every_failure_is_one_we_mean() -> None:
    with Little(lambda wire: None) as server, pytest.raises((Error, ssl.SSLError)):
        connect(server)
