"""Releases over HTTP: whole, a few at a time, and never for ever."""

import asyncio
import io
import json
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from teleport_lite.proxy.downloads import CHUNK, SMALL, Downloads, Limits
from teleport_lite.proxy.releases import Opened
from tests.proxy.rig import run, until
from tests.proxy.test_releases import PROGRAM, digest, publish
from tests.proxy.webrig import WebServing
from tests.support import eventually

BASE = "/webapi/releases"
FILE = f"{BASE}/1.2.3/teleport-lite-1.2.3.pyz"
# More than the buffers of both ends take, so that a download stands still while nobody reads.
LARGE = bytes(range(256)) * (12 << 12)


def stock(root: Path) -> Path:
    """1.2.3 is large, 1.2.4 small."""
    publish(root, "1.2.4")
    where = publish(root, "1.2.3", sums=False)
    (where / PROGRAM.format("1.2.3")).write_bytes(LARGE)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stock(tmp_path_factory.mktemp("releases"))


@pytest.fixture(scope="module")
def web(root: Path) -> Iterator[WebServing]:
    with WebServing(releases=root) as running:
        yield running


def begin(web: WebServing) -> ssl.SSLSocket:
    """A download of which nobody reads more than its first bytes."""
    wire = web.connect()
    wire.sendall(f"GET {FILE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert wire.recv(15) == b"HTTP/1.1 200 OK"
    return wire


def rest(wire: socket.socket) -> int:
    """How many bytes come until the other side is done, or has enough."""
    found = 0
    with wire:
        try:
            while chunk := wire.recv(1 << 20):
                found += len(chunk)
        except OSError:
            pass
    return found


def test_a_file_arrives_as_it_is_with_its_digest_for_a_tag(web, tmp_path):
    assert len(LARGE) > 10 * CHUNK
    into, url = tmp_path / "file", f"https://127.0.0.1:{web.port}{FILE}"
    words = ("curl", "-sSkf", "--http1.1", "-D", "-", "-o", str(into), url)
    head = subprocess.check_output(words, text=True, timeout=60).lower()
    assert into.read_bytes() == LARGE
    assert f'etag: "{digest(LARGE)}"' in head
    assert f"content-length: {len(LARGE)}\n" in head
    assert "cache-control: no-cache" in head
    assert "content-type: application/octet-stream" in head
    assert "server: teleport-lite" in head


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_small_files_too(web, prefix):
    for name, kind in (
        ("SHA256SUMS", "text/plain"),
        ("SHA256SUMS.sig", "text/plain"),
        ("teleport-lite-1.2.4.cdx.json", "application/vnd.cyclonedx+json"),
    ):
        answer = web.ask("GET", f"{prefix}{BASE}/1.2.4/{name}")
        assert (answer.status, answer.headers["content-type"]) == (200, kind)
        assert len(answer.text) < SMALL
        assert answer.headers["etag"] == f'"{digest(answer.text.encode())}"'


def test_the_latest_version_is_that_of_the_default_channel(web):
    for prefix in ("", "/v1"):
        answer = web.ask("GET", f"{prefix}{BASE}/latest")
        assert (answer.status, answer.text) == (200, "v1.2.3\n")
        assert answer.headers["cache-control"] == "no-store"


def test_what_is_still_the_same_is_not_sent_again(web):
    tag = f'"{digest(LARGE)}"'
    answer = web.ask("GET", FILE, If_None_Match=tag)
    assert (answer.status, answer.text, answer.headers["etag"]) == (304, "", tag)


def test_a_head_request_gets_the_headers(web):
    answer = web.ask("HEAD", FILE)
    assert (answer.status, answer.text) == (200, "")
    assert answer.headers["content-length"] == str(len(LARGE))
    assert answer.headers["etag"] == f'"{digest(LARGE)}"'


@pytest.mark.parametrize(
    "path",
    [
        "9.9.9/SHA256SUMS",
        "v1.2.3/SHA256SUMS",
        "1.2.3/teleport-lite-1.2.4.pyz",
        "1.2.3/..%2f1.2.4%2fSHA256SUMS",
        "..%2f..%2fetc/passwd",
        "1.2.3/SHA256SUMS%00",
        "1.2.3/%2fetc%2fpasswd",
        "$(id)/%27;id;%27",
        "%ff%fe/SHA256SUMS",
        "x" * 3000 + "/SHA256SUMS",
    ],
)
def test_what_is_not_there_is_said_in_json_with_what_is(web, path):
    answer = web.ask("GET", f"{BASE}/{path}")
    assert answer.status == 404
    assert json.loads(answer.text)["error"] == {
        "code": "not_found",
        "message": "this proxy has no such file of a release, versions here: 1.2.4, 1.2.3",
        "hint": "",
        "trace": "trace-1",
    }


def test_nothing_can_be_put_there(web):
    for method in ("PUT", "POST", "DELETE"):
        assert web.ask(method, FILE, "x").status == 405


def test_more_than_a_few_of_one_source_are_asked_to_come_back(root):
    with ExitStack() as stack:
        web = stack.enter_context(WebServing(releases=root, downloads=Limits(per_source=2)))
        first, second = (stack.enter_context(begin(web)) for _ in range(2))
        refused = web.ask("GET", FILE)
        assert refused.status == 503
        assert refused.headers["retry-after"] == "15"
        assert "too many are downloading" in json.loads(refused.text)["error"]["message"]
        # What costs little is always to be had, as is everything else.
        assert web.ask("GET", f"{BASE}/1.2.3/SHA256SUMS").status == 200
        assert web.ask("HEAD", FILE).status == 200
        assert web.ask("GET", "/webapi/find").status == 200
        first.close()
        eventually(lambda: web.downloads.under_way == 1, seconds=30)
        assert rest(begin(web)) > len(LARGE)  # its head, too
        assert rest(second) > len(LARGE)
        eventually(lambda: web.downloads.under_way == 0, seconds=30)


def test_nor_more_than_a_few_of_all(root):
    with WebServing(releases=root, downloads=Limits(at_once=1)) as web, begin(web):
        assert web.ask("GET", FILE).status == 503


def test_who_does_not_read_is_cut_off_and_nothing_else_is_said(root, caplog):
    caplog.set_level(logging.INFO)
    with WebServing(releases=root, downloads=Limits(stall=0.2)) as web:
        wire = begin(web)
        eventually(lambda: web.downloads.under_way == 0, seconds=30)
        assert rest(wire) < len(LARGE)
    assert caplog.text == ""


def test_a_download_may_take_longer_than_other_requests(root, monkeypatch):
    with WebServing(releases=root) as web:
        assert web.ask("HEAD", FILE).status == 200  # its digest is known
        monkeypatch.setattr("teleport_lite.proxy.web.TIME", 1.0)
        wire, then = begin(web), time.monotonic() + 1.2
        eventually(lambda: time.monotonic() > then)
        assert rest(wire) > len(LARGE)


def test_a_file_that_becomes_shorter_is_cut_off(tmp_path):
    stock(tmp_path)
    with WebServing(releases=tmp_path) as web:
        wire = begin(web)
        with (tmp_path / "1.2.3" / PROGRAM.format("1.2.3")).open("r+b") as file:
            file.truncate(1000)
        assert rest(wire) < len(LARGE)
        assert web.ask("GET", "/webapi/find").status == 200


class SlowFile(io.BytesIO):
    """On a disk that takes its time."""

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        self.begun.set()
        assert self.goes_on.wait(60)
        return super().read(size)


class SlowReleases:
    """Opening takes its time, too."""

    def __init__(self, file: SlowFile) -> None:
        self.file, self.begun, self.goes_on = file, threading.Event(), threading.Event()

    def open(self, version: str, name: str) -> Opened:
        self.begun.set()
        assert self.goes_on.wait(60)
        return Opened(self.file, len(self.file.getvalue()), "digest")


@pytest.mark.parametrize("size", [SMALL, SMALL + 1])
@pytest.mark.parametrize("when", ["opened", "read"])
def test_a_file_is_closed_when_nobody_reads_it_any_more_and_not_before(size, when):
    """Who is cancelled goes at once. The thread does not, and by then its descriptor could be that
    of somebody else's connection."""

    async def body() -> None:
        file = SlowFile(size)
        releases = SlowReleases(file)
        downloads = Downloads(releases, Limits())
        work = asyncio.ensure_future(
            downloads.send(make_mocked_request("GET", "/"), "1.2.3", "x", "192.0.2.1")
        )
        if when == "read":
            releases.goes_on.set()
        waited_for = file.begun if when == "read" else releases.begun
        await until(waited_for.is_set)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert not file.closed
        assert downloads.under_way == 0
        releases.goes_on.set()
        file.goes_on.set()
        await until(lambda: file.closed)
        downloads.close()

    run("asyncio", body)
