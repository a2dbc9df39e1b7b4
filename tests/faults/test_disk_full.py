"""The disk of auth is full: it reads and says so, refuses what it can not keep, and gets well.

A tmpfs of 20 MB for everything that auth has; sizes and times are those of reference 4.4.
"""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from teleport_lite.errors import Error, Unavailable
from teleport_lite.net.http import Connection
from tests.faults.report import BESIDE
from tests.faults.site import Auth
from tests.faults.warm import Warm
from tests.support import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a tmpfs is root's to mount")

SIZE = "20m"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "none", place], check=True
    )
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> Path:
    """To the last byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return ballast


def ready(auth: Auth) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{auth.diag}/readyz", timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as why:
        return why.code, json.loads(why.read())


def refusal(auth: Auth) -> tuple[int, str | None]:
    """As any client of HTTP sees it: the status, and what it says of another try."""
    words = json.dumps({"types": "node", "ttl": "1h"}).encode()
    with Connection.unix(auth.data / "auth.sock") as wire:
        wire._http.request("POST", "/v1/tokens/add", body=words)
        with wire._http.getresponse() as answer:
            return answer.status, answer.getheader("Retry-After")


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as made:
        yield made


def test_auth_is_read_only_while_its_disk_is_full(warm: Warm, disk: Path) -> None:
    auth = Auth(warm, disk)
    auth.log = disk.parent / "auth.log"  # the log of a service is the journal, on another disk
    auth.start()
    try:
        kept = [auth.token("node") for _ in range(5)]
        assert ready(auth)[0] == 200
        files = inventory(disk)
        ballast = fill(disk)
        began = monotonic()
        eventually(lambda: ready(auth)[0] == 503, what="/readyz says so")
        assert ready(auth)[1]["components"]["auth"] == "read-only: the disk is full"

        asked = monotonic()
        for _ in range(20):
            with pytest.raises(Unavailable, match="auth is read-only: the disk is full"):
                auth.token("node")
        assert monotonic() - asked < 20 * 1.0, "at once, each of them"
        assert refusal(auth) == (503, "10"), "and when to come again"
        assert auth.ask("/v1/status")["store"] == "the disk is full"
        assert len(auth.ask("/v1/tokens/list")["tokens"]) == 5, "reads go on"
        assert auth.events("join_token.create")

        ballast.unlink()
        freed = monotonic()
        eventually(lambda: try_token(auth), what="it writes again")
        took = monotonic() - freed
        assert took <= 5 * BESIDE, f"it took {took:.1f} s"
        eventually(lambda: ready(auth)[0] == 200, what="/readyz says so")
        assert auth.ask("/v1/status")["store"] == ""

        values = {each["token"] for each in auth.ask("/v1/tokens/list")["tokens"]}
        assert values >= set(kept), "nothing that was acknowledged is lost"
        assert auth.ask("/v1/audit/verify")["broken_at"] is None
        assert inventory(disk) == files, "no file was left half written"
        lines = auth.log.read_text().splitlines()
        told = [line for line in lines if "disk" in line or "read-only" in line]
        assert len(told) <= 1 + (monotonic() - began) / 10 + 1, told
        assert "Traceback" not in auth.log.read_text()
    finally:
        auth.stop()


def inventory(disk: Path) -> set[str]:
    """Every file that is not the database's own."""
    found = (path for path in disk.rglob("*") if path.is_file() and path.name != "ballast")
    return {str(path) for path in found if not path.name.startswith("auth.db")}


def try_token(auth: Auth) -> bool:
    try:
        auth.token("node")
    except Error:
        return False
    return True
