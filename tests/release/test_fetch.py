"""Fetching: from a real HTTPS server, under limits of size and time, and past none of them."""

import contextlib
import errno
import hashlib
import os
import shutil
import socket
import ssl
import threading
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from teleport_lite.errors import Malformed, NotFound, Unavailable
from teleport_lite.release import fetch
from teleport_lite.release.fetch import Origin, Wanted
from teleport_lite.release.version import Version
from tests.packaging.published import Published, published
from tests.release.rough import rough
from tests.support import free_port

V = Version.parse("1.2.3")
CHANNEL = "/v1/webapi/automaticupgrades/channel"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with published(tmp_path_factory.mktemp("site")) as found:
        found.release("1.2.3", program=b"x" * 300_000)
        yield found


@pytest.fixture
def origin(site: Published) -> Iterator[Origin]:
    site.answers.clear()
    yield Origin(f"localhost:{site.port}", "/releases")
    site.answers.clear()


class Quick:
    """A clock on which each look takes `step` seconds."""

    def __init__(self, step: float) -> None:
        self.step, self.at = step, 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        self.at += self.step
        return self.at


def digest(site: Published) -> str:
    return hashlib.sha256(program(site).read_bytes()).hexdigest()


def program(site: Published) -> Path:
    return site.file("1.2.3/teleport-lite-1.2.3.pyz")


def say(site: Published, text: str, critical: str = "no", channel: str = "default") -> None:
    site.answers[f"{CHANNEL}/{channel}/version"] = 200, {}, text.encode()
    site.answers[f"{CHANNEL}/{channel}/critical"] = 200, {}, critical.encode()


# What it says


def test_a_channel_says_the_version_and_whether_it_is_critical(
    site: Published, origin: Origin
) -> None:
    say(site, "v1.2.4", "yes")
    assert origin.wanted("default") == Wanted(Version.parse("1.2.4"), critical=True)
    say(site, "v1.2.5\n", channel="stable/cloud")
    assert origin.wanted("stable/cloud").version == Version.parse("1.2.5")
    for odd in ("", "a/../b", "a//b", "a b", "a?b", "a\r\nb", "/a", "a/", "a" * 65):
        with pytest.raises(Malformed, match="not the name of a channel"):
            origin.wanted(odd)
    say(site, "none")
    assert origin.wanted("default") == Wanted(None, critical=False)
    with pytest.raises(NotFound, match=f"has no {CHANNEL}/other/version"):
        origin.wanted("other")


def test_latest_is_what_is_published(origin: Origin) -> None:
    assert origin.latest() == Wanted(V, critical=False)


@pytest.mark.parametrize("text", ["", "<html>", "v1.2.4; id", "../../1.2.4", "\xff\xfe", "v1"])
def test_what_is_no_version_is_refused(site: Published, origin: Origin, text: str) -> None:
    say(site, text or "x")
    with pytest.raises(Malformed, match="not a version"):
        origin.wanted("default")


def test_an_address_of_releases_is_an_https_one() -> None:
    assert Origin.of("https://get.example.com/a/b/").path == "/a/b"
    assert Origin.of("https://get.example.com").address == "get.example.com:443"
    assert Origin.of("https://[::1]:8443/x").address == "[::1]:8443"


@pytest.mark.parametrize(
    "odd",
    ["http://x/y", "get.example.com", "https://", "https://x/../y", "https://a@b/", "https://x/ z",
     "https://x/y?z", "https://x/y\r\nHost: z", "file:///etc"],
)  # fmt: skip
def test_nothing_else_is(odd: str) -> None:
    with pytest.raises(Malformed, match="not the address of releases"):
        Origin.of(odd)


def test_a_certificate_is_looked_at_and_one_that_nobody_vouches_for_is_noted(
    site: Published, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    origin.latest()
    assert not origin.verified
    monkeypatch.setenv("SSL_CERT_FILE", str(site.certificate))
    trusted = Origin(f"localhost:{site.port}", "/releases")
    trusted.latest()
    assert trusted.verified


# The file


def test_a_file_arrives_whole_executable_and_with_a_word_on_the_way(
    site: Published, origin: Origin, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    to = tmp_path / "new"
    origin.program(V, digest(site), to, lambda count, size: seen.append((count, size)))
    assert to.read_bytes() == program(site).read_bytes()
    assert to.stat().st_mode & 0o777 == 0o755
    assert seen[-1] == (300_000, 300_000)


def test_a_file_with_another_digest_is_gone_again(
    site: Published, origin: Origin, tmp_path: Path
) -> None:
    with pytest.raises(Malformed, match="is not the file that SHA256SUMS lists"):
        origin.program(V, "0" * 64, tmp_path / "new", nothing)
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_short_is_gone_again(site: Published, origin: Origin, tmp_path: Path) -> None:
    path = f"/releases/1.2.3/{program(site).name}"
    site.answers[path] = 200, {"Content-Length": "300000"}, b"x" * 1000
    with pytest.raises((Malformed, Unavailable), match=r"1000 of 300000 bytes|did not send"):
        origin.program(V, digest(site), tmp_path / "new", nothing)
    assert list(tmp_path.iterdir()) == []


def test_a_text_cut_short_is_refused(site: Published, origin: Origin) -> None:
    site.answers["/releases/latest"] = 200, {"Content-Length": "8"}, b"v1.2.3"
    with pytest.raises(Unavailable, match=r"cut off|did not send"):
        origin.latest()


def test_room_is_looked_for_before_the_first_byte(
    site: Published, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 5 << 20))
    with pytest.raises(Unavailable, match=r"has room for 5 MiB, and 160 MiB are needed") as why:
        origin.program(V, digest(site), tmp_path / "new", nothing)
    assert why.value.hint.startswith("df -h")


def test_a_disk_that_fills_leaves_nothing(
    site: Published, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ROOM_MORE", 0)
    small = tmp_path / "small"
    small.mkdir()
    monkeypatch.setattr(fetch, "ROOM_TIMES", 0)
    with small_disk(small), pytest.raises(OSError, match="No space left") as why:
        origin.program(V, digest(site), small / "new", nothing)
    assert why.value.errno == errno.ENOSPC
    assert not (small / "new").exists()


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """64 KiB there."""
    command = f"mount -t tmpfs -o size=64k none {place}"
    if os.geteuid() != 0 or os.system(f"{command} 2>/dev/null") != 0:
        pytest.skip("may not mount")
    try:
        yield
    finally:
        os.system(f"umount {place}")


# Servers that are none


def raw(body: bytes, head: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body


def test_an_endless_text_is_not_read_to_its_end(site: Published) -> None:
    def endless(wire: ssl.SSLSocket, over: threading.Event) -> None:
        wire.sendall(raw(b""))
        while not over.is_set():
            wire.sendall(b"v" * 65536)

    with serving(site, endless) as origin:
        with pytest.raises(Malformed, match="latest is longer than 256 bytes"):
            origin.latest()
        with pytest.raises(Malformed, match="SHA256SUMS is longer than 65536 bytes"):
            origin.sums(V)


def test_a_huge_file_is_refused_by_what_it_says_and_by_what_comes(
    site: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(wire: ssl.SSLSocket, _: threading.Event) -> None:
        wire.sendall(raw(b"x" * 1000, b"Content-Length: 268435457\r\n"))

    with serving(site, huge) as origin, pytest.raises(Malformed, match="the most is 268435456"):
        origin.program(V, "0" * 64, tmp_path / "new", nothing)

    def endless(wire: ssl.SSLSocket, over: threading.Event) -> None:
        wire.sendall(raw(b""))
        while not over.is_set():
            wire.sendall(b"x" * 65536)

    monkeypatch.setattr(fetch, "MAX_FILE", 1 << 20)
    with serving(site, endless) as origin, pytest.raises(Malformed, match="sends more than"):
        origin.program(V, "0" * 64, tmp_path / "new", nothing)
    assert list(tmp_path.iterdir()) == []


def drip(wire: ssl.SSLSocket, over: threading.Event) -> None:
    for byte in raw(b"v1.2.3", b"Content-Length: 6\r\n"):
        wire.sendall(bytes([byte]))
        over.wait(0.01)


def test_a_server_that_drips_is_heard_for_so_long_and_no_longer(site: Published) -> None:
    with serving(site, drip) as origin:
        assert origin.latest().version == V  # in half a second: slow is no crime
        origin.clock = Quick(2)
        with pytest.raises(Unavailable, match=r"did not send what was asked for .it is too slow"):
            origin.latest()


def test_a_server_that_says_nothing_is_left(
    site: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "STALL", 0.2)
    with (
        serving(site, lambda _, over: over.wait(30)) as origin,
        pytest.raises(Unavailable, match="too slow"),
    ):
        origin.latest()


def test_one_that_stalls_in_the_handshake_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "CONNECT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = Origin(f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Unavailable, match="too slow"):
            origin.latest()


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200, b"",
     raw(b"zz\r\n", b"Transfer-Encoding: chunked\r\n")],
    ids=["ssh", "headers", "nothing", "chunks"],
)  # fmt: skip
def test_what_is_no_answer_is_refused(site: Published, answer: bytes) -> None:
    with (
        serving(site, lambda wire, _: wire.sendall(answer)) as origin,
        pytest.raises(Unavailable, match="did not send what was asked for"),
    ):
        origin.latest()


@pytest.mark.parametrize("status", [301, 302, 401, 500, 503])
def test_no_other_status_is_an_answer_and_nobody_is_sent_elsewhere(
    site: Published, origin: Origin, status: int
) -> None:
    site.answers["/releases/latest"] = status, {"Location": "https://evil.example/"}, b"v1.2.3"
    with pytest.raises(Unavailable, match=f"status {status}"):
        origin.latest()


def test_nobody_there_is_told_by_name() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}: Connection refused"):
        Origin(f"127.0.0.1:{port}").latest()


@contextlib.contextmanager
def serving(site: Published, answer: "object") -> Iterator[Origin]:
    key = site.certificate.with_suffix(".key")
    with rough(site.certificate, key, answer) as address:  # type: ignore[arg-type]
        yield Origin(address, "/releases")


def nothing(_count: int, _size: int) -> None:
    pass
