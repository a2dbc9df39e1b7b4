"""One question, one answer, and every way an answer can be wrong."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite import errors
from teleport_lite.ambient import SystemClock
from teleport_lite.client import transport
from teleport_lite.client.transport import Transport
from teleport_lite.errors import Denied, Error, Malformed, Unavailable


class Line:
    """A door whose other end says `said`, whatever it is asked, and hangs up."""

    name = "auth.test:3025"

    def __init__(self, said: bytes, *, wait: threading.Event | None = None) -> None:
        self.said, self.heard, self._wait = said, b"", wait
        self._threads: list[threading.Thread] = []

    def open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self._serve, args=(theirs,))
        thread.start()
        self._threads.append(thread)
        return ours

    def _serve(self, wire: socket.socket) -> None:
        with wire, suppress(OSError):
            while b"\r\n\r\n{" not in self.heard or not self.heard.endswith(b"}"):
                self.heard += wire.recv(65536)
            wire.sendall(self.said)
            if self._wait is not None:
                self._wait.wait(60)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)


@contextmanager
def line(said: bytes, *, wait: threading.Event | None = None) -> Iterator[Line]:
    made = Line(said, wait=wait)
    try:
        yield made
    finally:
        if wait is not None:
            wait.set()
        made.join()


def answer(body: bytes, status: str = "200 OK", **fields: object) -> bytes:
    fields = {"Content_Type": "application/json", "Content_Length": len(body), **fields}
    head = "".join(
        f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items() if value != ""
    )
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def refused(said: bytes) -> Error:
    with line(said) as door, pytest.raises(Error) as caught:
        Transport(door).ask("/v1/status", {})
    return caught.value


def test_a_question_is_one_post_and_its_answer_an_object() -> None:
    with line(answer(b'{"cluster": "x"}')) as door:
        assert Transport(door).ask("/v1/tokens/add", {"types": "node"}) == {"cluster": "x"}
    head, _, body = door.heard.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/tokens/add HTTP/1.1\r\nHost: auth\r\n")
    assert b"\r\nConnection: close" in head
    assert json.loads(body) == {"types": "node"}


def test_header_names_may_have_any_case() -> None:
    said = b"HTTP/1.1 200 OK\r\ncontent-LENGTH:  2 \r\n\r\n{}"
    with line(said) as door:
        assert Transport(door).ask("/", {}) == {}


@pytest.mark.parametrize(("code", "kind"), sorted(errors.KINDS.items()))
def test_a_refusal_becomes_the_error_it_was(code: str, kind: type[Error]) -> None:
    said = {"error": {"code": code, "message": "no", "hint": "tctl status", "trace": "t1"}}
    found = refused(answer(json.dumps(said).encode(), "403 Forbidden"))
    assert (type(found), found.message, found.hint) == (kind, "no", "tctl status")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error": []}', b'{"error": {"code": []}}', b"\xff"]
)
def test_a_refusal_without_words_is_unavailable_and_names_the_address(body: bytes) -> None:
    found = refused(answer(body, "502 Bad Gateway"))
    assert isinstance(found, Unavailable)
    assert "auth.test:3025" in found.message


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
        b"HTTP/2 200\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
        answer(b"{}", Content_Length=""),
        answer(b"{}", Content_Length="-1"),
        answer(b"{}", Content_Length="2, 2"),
        answer(b"{}", Content_Length="+2"),
        answer(b"{}", Transfer_Encoding="chunked"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        answer(b"[]"),
        answer(b'"text"'),
        answer(b"{"),
        answer(b"\xff{}"),
        answer(b"[" * 100_000),
        answer(b'{"a": ' + b"9" * 10_000 + b"}"),
        answer(b"{}x", Content_Length=2),
    ],
)
def test_what_is_not_our_protocol_is_malformed_and_names_the_address(said: bytes) -> None:
    found = refused(said)
    assert isinstance(found, Malformed | Unavailable)
    assert "auth.test:3025" in found.message


def test_a_huge_answer_is_refused_before_it_is_read() -> None:
    found = refused(answer(b"{", Content_Length=1 << 40))
    assert isinstance(found, Malformed)
    assert found.message == (
        f"auth.test:3025 wants to answer with {1 << 40} bytes, the most we read is 67108864"
    )


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", answer(b"{}")[:-1]])
def test_an_answer_that_breaks_off_is_never_taken_for_a_whole_one(said: bytes) -> None:
    found = refused(said)
    assert isinstance(found, Unavailable)
    assert found.message.startswith("auth.test:3025 hung up ")


def test_silence_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PATIENCE", 0.05)
    late = pytest.raises(Unavailable, match="did not answer in time")
    with line(b"HTTP/1.1 200 OK\r\n", wait=threading.Event()) as door, late:
        Transport(door).ask("/", {})


def test_a_trickle_does_not_move_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PATIENCE", 5.0)

    class Hasty(SystemClock):
        """Two seconds pass between any two looks at it."""

        def __init__(self) -> None:
            self.at = 0.0

        def monotonic(self) -> float:
            self.at += 2
            return self.at

    monkeypatch.setattr(transport, "_CHUNK", 1)
    with line(answer(b'{"a": 1}')) as door, pytest.raises(Unavailable, match="in time"):
        Transport(door, clock=Hasty()).ask("/", {})


class Instant:
    """A door to bytes that are already there, for the fuzzer."""

    name = "auth.test:3025"

    def __init__(self, said: bytes) -> None:
        self._said = said

    def open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(self._said)
        return ours


heads = st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404 No\r\n", b"Content-Length: 7\r\n"])
bodies = st.sampled_from([b"\r\n", b"{}", b'{"a":1}', b'{"error": {"code": "denied"}}'])


@given(st.lists(heads | bodies | st.binary(max_size=40), max_size=6).map(b"".join))
def test_a_stranger_can_only_make_us_raise_one_of_our_errors(said: bytes) -> None:
    with suppress(Denied, Malformed, Unavailable):
        assert isinstance(Transport(Instant(said)).ask("/", {}), dict)
