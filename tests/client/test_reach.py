"""The path of every `ssh`: from two descriptors to a node, through a proxy."""

import json
import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.client import profile, reach
from teleport_lite.client.profile import Files, Profile
from teleport_lite.errors import Denied, Error, Malformed, NotFound, Unauthenticated, Unavailable
from teleport_lite.proto import alpn
from teleport_lite.proto import reach as wire_words
from teleport_lite.proto.codec import read
from teleport_lite.testing.certs import PaperCluster
from tests.client.fake_proxy import CLUSTER, FakeProxy, Gate, Shared, refuse, running
from tests.client.test_profile import credentials
from tests.support import free_port

ASKED: dict[str, object] = {"host": "web-1", "port": 22, "login": "root"}
OK = b'{"ok": true, "host_id": "x", "host_name": "web-1"}\n'


@dataclass
class Ends:
    """What `ssh` has of us: it writes to `to_us` and reads from `from_us`."""

    source: int
    sink: int
    to_us: int
    from_us: int

    def carry(self, proxy: FakeProxy, context: ssl.SSLContext) -> None:
        host, _, port = proxy.address.partition(":")
        try:
            reach.carry((host, int(port)), context, ASKED, source=self.source, sink=self.sink)
        finally:
            os.close(self.sink)

    def read_all(self) -> bytes:
        found = b""
        while data := os.read(self.from_us, 1 << 20):
            found += data
        return found


@pytest.fixture
def ends() -> Iterator[Ends]:
    source, to_us = os.pipe()
    from_us, sink = os.pipe()
    made = Ends(source, sink, to_us, from_us)
    yield made
    for fd in (source, to_us, from_us, sink):
        try:
            os.close(fd)
        except OSError:
            continue


@pytest.fixture
def proxy() -> Iterator[FakeProxy]:
    with running(FakeProxy()) as made:
        yield made


@pytest.fixture
def context(proxy: FakeProxy, tmp_path: Path) -> ssl.SSLContext:
    return context_for(proxy.cluster, tmp_path)


def context_for(
    cluster: PaperCluster, directory: Path, *, trusts: PaperCluster | None = None
) -> ssl.SSLContext:
    mine = Profile(proxy="localhost", user="alice", cluster=CLUSTER)
    profile.save(directory / ".tsh", mine, credentials(cluster, "alice"))
    files = Files(directory / ".tsh", mine)
    if trusts is not None:
        files.cas.write_text("".join(trusts.host_cas))
    return reach.context_of(str(files.tls), str(files.cas))


def saying(*said: bytes) -> Gate:
    def serve(wire: ssl.SSLSocket, asked: dict[str, Any]) -> None:
        for part in said:
            wire.sendall(part)

    return serve


def test_the_words_are_those_of_the_protocol() -> None:
    assert reach.ALPN == alpn.SSH
    assert reach.SERVER_NAME == alpn.PROXY_SERVER_NAME
    assert reach.MAX_ANSWER == wire_words.MAX_ANSWER
    request = read(wire_words.ReachRequest, json.dumps(ASKED).encode(), limit=4096)
    assert (request.host, request.port, request.login) == ("web-1", 22, "root")


def test_what_the_node_says_follows_the_answer(
    proxy: FakeProxy, context: ssl.SSLContext, ends: Ends
) -> None:
    proxy.gate = saying(OK + b"SSH-2.0-node\r\n", b"more")
    ends.carry(proxy, context)
    assert ends.read_all() == b"SSH-2.0-node\r\nmore"
    assert proxy.reached == [ASKED]


def test_an_answer_in_pieces_is_one_answer(
    proxy: FakeProxy, context: ssl.SSLContext, ends: Ends
) -> None:
    proxy.gate = saying(OK[:5], OK[5:-1], b"\nS", b"SH")
    ends.carry(proxy, context)
    assert ends.read_all() == b"SSH"


def test_megabytes_go_both_ways_at_once(
    proxy: FakeProxy, context: ssl.SSLContext, ends: Ends
) -> None:
    """Neither side reads before it has written all: nobody may be waited for."""
    size = 8 << 20
    proxy.gate = saying()
    received: list[int] = []

    def serve(wire: ssl.SSLSocket, asked: dict[str, Any]) -> None:
        wire.sendall(OK)
        shared = Shared(wire)
        feed = threading.Thread(target=shared.sendall, args=(b"d" * size,))
        feed.start()
        got = 0
        while got < size:
            got += len(shared.recv(1 << 16))
        feed.join()
        received.append(got)

    proxy.gate = serve
    pump = threading.Thread(target=ends.carry, args=(proxy, context))
    pump.start()
    found: list[bytes] = []
    drain = threading.Thread(target=lambda: found.append(ends.read_all()))
    drain.start()
    sent = 0
    while sent < size:
        sent += os.write(ends.to_us, b"u" * min(1 << 16, size - sent))
    pump.join(60)
    drain.join(60)
    assert received == [size]
    assert found == [b"d" * size]


def test_the_end_of_our_input_is_passed_on_and_the_rest_is_waited_for(
    proxy: FakeProxy, context: ssl.SSLContext, ends: Ends
) -> None:
    heard: list[bytes] = []

    def serve(wire: ssl.SSLSocket, asked: dict[str, Any]) -> None:
        wire.sendall(OK + b"x" * (1 << 20))
        data = b""
        while piece := wire.recv(1 << 16):
            data += piece
        heard.append(data)
        wire.sendall(b"tail")
        wire.unwrap()  # says goodbye too

    proxy.gate = serve
    pump = threading.Thread(target=ends.carry, args=(proxy, context))
    pump.start()
    os.write(ends.to_us, b"question")
    os.close(ends.to_us)
    found = ends.read_all()
    pump.join(60)
    assert heard == [b"question"]
    assert found == b"x" * (1 << 20) + b"tail"


def test_when_ssh_is_gone_it_ends(proxy: FakeProxy, context: ssl.SSLContext, ends: Ends) -> None:
    gone = threading.Event()

    def serve(wire: ssl.SSLSocket, asked: dict[str, Any]) -> None:
        wire.sendall(OK)
        gone.wait(120)

    proxy.gate = serve
    pump = threading.Thread(target=ends.carry, args=(proxy, context))
    pump.start()
    os.close(ends.from_us)
    pump.join(30)
    assert not pump.is_alive()
    gone.set()


@pytest.mark.parametrize(
    ("code", "kind"),
    [("not_found", NotFound), ("denied", Denied), ("unavailable", Unavailable), ("?", Unavailable)],
)
def test_a_refusal_is_told_in_the_proxys_words(
    proxy: FakeProxy, context: ssl.SSLContext, ends: Ends, code: str, kind: type[Exception]
) -> None:
    proxy.gate = lambda wire, _: refuse(wire, code, "no node web-1", "tsh ls")
    with pytest.raises(kind, match="no node web-1") as caught:
        ends.carry(proxy, context)
    assert caught.value.hint == "tsh ls"  # type: ignore[attr-defined]  # all of them are ours


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH\r\n", b"[]\n", b"{}\n", b"x" * 20_000, b"[" * 9000 + b"\n"]
)
def test_something_else_at_the_other_end_is_malformed(
    proxy: FakeProxy, context: ssl.SSLContext, ends: Ends, said: bytes
) -> None:
    proxy.gate = saying(said)
    with pytest.raises(Malformed, match="does not answer like a proxy"):
        ends.carry(proxy, context)


def test_a_proxy_that_hangs_up_is_told(
    proxy: FakeProxy, context: ssl.SSLContext, ends: Ends
) -> None:
    proxy.gate = saying()
    with pytest.raises(Unavailable, match="without an answer"):
        ends.carry(proxy, context)


def test_a_proxy_of_another_cluster_is_not_asked(
    proxy: FakeProxy, ends: Ends, tmp_path: Path
) -> None:
    mine = PaperCluster(CLUSTER)
    with pytest.raises(Unavailable, match="is not a proxy of your cluster"):
        ends.carry(proxy, context_for(mine, tmp_path))
    assert proxy.reached == []


def test_a_certificate_the_proxy_does_not_take_asks_for_a_login(
    proxy: FakeProxy, ends: Ends, tmp_path: Path
) -> None:
    mine = PaperCluster(CLUSTER)
    with pytest.raises(Unauthenticated, match="does not accept your certificate") as caught:
        ends.carry(proxy, context_for(mine, tmp_path, trusts=proxy.cluster))
    assert caught.value.hint == "tsh login"


def test_an_expired_certificate_is_told_as_one(
    proxy: FakeProxy, ends: Ends, tmp_path: Path
) -> None:
    old = PaperCluster(CLUSTER, now=datetime.now(UTC) - timedelta(days=1))
    # The same CA, a day ago.
    old.authority, old.host_ca = proxy.cluster.authority, proxy.cluster.host_ca
    with pytest.raises(Unauthenticated, match="your certificate has expired"):
        ends.carry(proxy, context_for(old, tmp_path))


@given(st.binary(max_size=200))
def test_any_line_of_a_proxy_is_an_answer_or_one_of_our_errors(line: bytes) -> None:
    with suppress(Error):
        reach._check(line, "p")
        assert json.loads(line)["ok"] is True


def test_nobody_there_is_unavailable(context: ssl.SSLContext, ends: Ends) -> None:
    port = free_port()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}: connection refused"):
        reach.carry(("127.0.0.1", port), context, ASKED, source=ends.source, sink=ends.sink)


def test_descriptors_are_left_as_they_were(
    proxy: FakeProxy, context: ssl.SSLContext, ends: Ends
) -> None:
    proxy.gate = saying(OK)
    host, _, port = proxy.address.partition(":")
    reach.carry((host, int(port)), context, ASKED, source=ends.source, sink=ends.sink)
    assert os.get_blocking(ends.source)
    assert os.get_blocking(ends.sink)
