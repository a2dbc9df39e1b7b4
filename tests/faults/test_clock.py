"""The clock of auth is put while it runs: by days, there and back (B75).

libfaketime gives auth a wall clock of ours, which is put by writing into a file; the clock that
only runs forward stays as it is, as it does when an administrator or a time server puts the wall.
"""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from teleport_lite.agent.join import JoinRequest, join
from teleport_lite.errors import Denied
from teleport_lite.net.http import Connection
from teleport_lite.pki.pin import parse_pins
from teleport_lite.secret import Secret
from teleport_lite.testing.fakes import FakeClock
from tests.flow.cluster import Cluster, Running
from tests.support import eventually

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


class Wall:
    """The wall clock of auth."""

    def __init__(self, file: Path) -> None:
        self.file, self.by = file, timedelta()
        self.put()

    def put(self, **by: float) -> None:
        """So far from the real time."""
        self.by = timedelta(**by)
        text = f"{self.by.total_seconds():+.0f}\n"
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.file)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by

    @property
    def env(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }


class Site(Cluster):
    """Its auth server lives by that clock; hosts do not."""

    def __init__(self, root: Path) -> None:
        self.wall = Wall(root / "wall")
        super().__init__(root, name="clock.example.com")

    def start_auth(self) -> Running:
        running = self._spawn(
            ("start", "-c", str(self.config)), self.root / "auth.log", self.wall.env
        )
        running.wait_for("is running")
        self.auth = running
        return running

    def ask(self, path: str, **words: Any) -> Any:
        with Connection.unix(self.data / "auth.sock", timeout=20) as wire:
            return wire.ask(path, words)

    def joins(self, name: str, token: str) -> bool:
        """Does a host with the clock of auth get in?"""
        pins = self.ask("/v1/status")["ca_pins"]
        request = JoinRequest(
            servers=(self.address,),
            token=Secret(token),
            pins=parse_pins(tuple(pins)),
            roles=("Node",),
            node_name=name,
            clock=FakeClock(self.wall.now()),
            say=lambda _: None,
        )
        try:
            join(request)
        except Denied as why:
            if "token expired or not found" not in why.message:
                raise
            return False
        return True

    def state(self, name: str) -> str:
        hosts = self.ask("/v1/resources/get", kind="host")["resources"]
        found = [each for each in hosts if each["spec"]["hostname"] == name]
        return str(found[0]["status"]["state"]) if found else "not there"

    def cpu(self) -> float:
        stat = Path(f"/proc/{self.auth.process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert LIBRARY is not None, "faketime is not installed"
    with Site(tmp_path_factory.mktemp("clock")) as made:
        yield made


@pytest.fixture(scope="module")
def host(site: Site) -> Running:
    """One that has joined, and beats."""
    running = site.start(
        "--roles=app",
        f"--token={site.token('app')}",
        f"--ca-pin={site.pin}",
        f"--auth-server={site.address}",
        name="app-1",
    )
    eventually(lambda: site.state("app-1") == "online")
    return running


def test_a_token_is_dead_once_it_was_seen_dead(site: Site) -> None:
    token = str(site.ask("/v1/tokens/add", types="node", ttl="5m")["token"])
    assert site.joins("in-time", token)
    site.wall.put(minutes=6)
    assert not site.joins("late", token)
    for back in ({"minutes": 0}, {"days": -1}):
        site.wall.put(**back)
        assert not site.joins("early-again", token), back
    fresh = str(site.ask("/v1/tokens/add", types="node", ttl="5m")["token"])
    assert site.joins("by-that-clock", fresh), "what is made now holds now"
    site.wall.put()


@pytest.mark.parametrize("by", [{"days": -1}, {"days": 9}, {}], ids=str)
def test_nobody_notices_that_the_clock_was_put(
    by: dict[str, float], site: Site, host: Running
) -> None:
    connected = host.said().count("connected to auth")
    # It says nothing meanwhile, so auth has to find out by itself. A beat is 15 s old at the most,
    # and one of 33 s would be stale.
    host.process.send_signal(signal.SIGSTOP)
    try:
        site.wall.put(**by)
        eventually(lambda: site.state("app-1") == "online", seconds=17)
    finally:
        host.process.send_signal(signal.SIGCONT)
    used, began = site.cpu(), monotonic()
    sleep(1.5)  # more than the second in which auth looks
    share = (site.cpu() - used) / (monotonic() - began)
    assert share < 0.2, f"{share:.0%} of a processor"
    assert site.state("app-1") == "online"
    assert host.said().count("connected to auth") == connected, "its stream goes on"
    assert "Traceback" not in site.auth.said()
