"""The watchdog hears of a daemon that works, and of no other."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from teleport_lite.daemon import watch
from teleport_lite.daemon.notify import Notify
from teleport_lite.daemon.watch import RoundTrip, Watch, ended
from teleport_lite.errors import Unavailable
from teleport_lite.net import listen
from tests.daemon.configs import TEXT
from tests.daemon.systemds import Systemd
from tests.support import eventually, free_port


class PaperStore:
    """Writes when it is let."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.writes = 0

    def write(self, change: Callable[[Any], object]) -> None:
        assert self.gate.wait(30)
        self.writes += 1
        change(None)

    def hosts(self) -> list[str]:
        return ["auth-1", "web-1", "web-2"]


@pytest.fixture
def store() -> Iterator[PaperStore]:
    made = PaperStore()
    yield made
    made.gate.set()


@pytest.fixture(autouse=True)
def _listens_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_open", {})


def a_process(store: PaperStore, **roles: Any) -> Any:
    presence = SimpleNamespace(connected=lambda: 2)
    auth = SimpleNamespace(store=store, desks=SimpleNamespace(presence=presence))
    identity = SimpleNamespace(cluster="tele.example.com", roles=("Auth",))
    health = SimpleNamespace(overall=lambda: (0, {"auth": "ok"}))
    parts = {"auth": auth, "node": None, "proxy": None, "tunnels": None, "identity": identity}
    return SimpleNamespace(**parts | {"health": health} | roles)


def watched(process: Any, work: Callable[[Watch], Any]) -> None:
    """`work` in a loop beside a running watch."""

    async def main() -> None:
        looking = Watch(process, Notify())
        looking.start()
        try:
            await asyncio.to_thread(work, looking)
        finally:
            await looking.stop()

    asyncio.run(main())


def test_it_is_petted_as_long_as_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: PaperStore
) -> None:
    with Systemd(tmp_path, monkeypatch, watchdog=0.2) as systemd:
        watched(a_process(store), lambda _: [systemd.hears("WATCHDOG=1") for _ in range(3)])
    assert store.writes
    assert "STATUS=cluster tele.example.com; auth: 2 hosts (2 online)" in systemd.all


def test_a_store_that_does_not_write_is_told_once_and_nobody_pets(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: PaperStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    def stuck_for_a_while(_: Watch) -> None:
        systemd.hears("WATCHDOG=1")
        store.gate.clear()
        eventually(lambda: "has written nothing" in caplog.text)
        systemd.rest()
        assert not quiet.wait(0.8)
        assert "WATCHDOG=1" not in systemd.rest()
        assert caplog.text.count("does not work any more") == 1
        store.gate.set()
        systemd.hears("WATCHDOG=1")
        assert "works again" in caplog.text

    quiet = threading.Event()
    with Systemd(tmp_path, monkeypatch, watchdog=0.6) as systemd:
        watched(a_process(store), stuck_for_a_while)


def test_a_loop_that_hangs_pets_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: PaperStore
) -> None:
    async def main() -> None:
        looking = Watch(a_process(store), Notify())
        looking.start()
        await asyncio.to_thread(systemd.hears, "WATCHDOG=1")
        await asyncio.sleep(0.05)
        systemd.rest()
        assert not threading.Event().wait(0.5)  # in the loop itself
        assert systemd.rest() == []
        await looking.stop()

    with Systemd(tmp_path, monkeypatch, watchdog=0.2) as systemd:
        asyncio.run(main())


def test_without_a_watchdog_the_status_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: PaperStore
) -> None:
    monkeypatch.setattr(watch, "STATUS_EVERY", 0.05)
    with Systemd(tmp_path, monkeypatch) as systemd:
        watched(a_process(store), lambda _: systemd.hears("STATUS=cluster"))
        assert not [each for each in systemd.all + systemd.rest() if "WATCHDOG" in each]


def test_without_systemd_nobody_looks(monkeypatch: pytest.MonkeyPatch, store: PaperStore) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    watched(a_process(store), lambda looking: looking)
    assert store.writes == 0


# What is looked at


def troubles(process: Any) -> list[str]:
    async def look() -> list[str]:
        return list(Watch(process, Notify()).troubles())

    return asyncio.run(look())


@pytest.mark.parametrize("role", ["node", "proxy"])
def test_a_zygote_that_has_ended_is_a_trouble(role: str, store: PaperStore) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    part = SimpleNamespace(zygote=ours)
    parts = {role: part if role == "node" else SimpleNamespace(ssh=part)}
    process = a_process(store, auth=None, **parts)
    with ours:
        assert troubles(process) == []
        theirs.send(b"news")
        assert troubles(process) == [], "words are not the end"
        theirs.close()
        (said,) = troubles(process)
    assert said.endswith("has ended")
    assert ended(ours)


def test_an_address_that_is_not_listened_on_is_a_trouble(store: PaperStore) -> None:
    process = a_process(store, auth=None)
    sock = listen.listen("127.0.0.1:0", "auth_service.listen_addr")
    assert troubles(process) == []
    sock.close()
    assert troubles(process) == ["nobody listens on auth_service.listen_addr"]


def test_an_error_is_an_answer() -> None:
    def full() -> None:
        raise Unavailable("no space left on device")

    trip = RoundTrip(full, every=0, most=5)
    assert not trip.overdue(0)
    trip.join(30)
    assert not trip.overdue(100)


def test_an_answer_has_its_time() -> None:
    gate = threading.Event()
    trip = RoundTrip(lambda: gate.wait(30), every=0, most=5)
    assert [trip.overdue(now) for now in (0, 4.9, 5.0, 60)] == [False, False, True, True]
    gate.set()
    trip.join(30)
    assert not trip.overdue(61)
    trip.join(30)


def test_it_is_not_asked_all_the_time() -> None:
    asked: list[int] = []
    trip = RoundTrip(lambda: asked.append(1), every=15, most=30)
    for now in (0, 3, 14.9, 15, 18):
        assert not trip.overdue(now)
        trip.join(30)
    assert len(asked) == 2


def test_a_store_that_is_slow_once_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: PaperStore
) -> None:
    """A disk that writes nothing for two thirds of the watchdog's time is no reason to die."""
    now = 0.0

    async def main() -> None:
        nonlocal now
        looking = Watch(a_process(store), Notify())
        looking._now = lambda: now
        store.gate.clear()
        for now in (0.0, 0.6, 1.2, 1.8, 2.0):
            looking._look()
            assert systemd.rest() == ["WATCHDOG=1"], f"after {now} s"
        store.gate.set()
        looking._writes.join(30)
        for now in (2.4, 3.0, 3.6):
            looking._look()
            assert systemd.rest() == ["WATCHDOG=1"], f"after {now} s"
        looking._writes.join(30)

    with Systemd(tmp_path, monkeypatch, watchdog=3) as systemd:
        asyncio.run(main())
    assert store.writes


# A whole daemon


def a_daemon(home: Path, systemd: Systemd) -> "subprocess.Popen[str]":
    text = TEXT.format(home=home / "data", port=free_port())
    keyring = f"teleport:\n  storage: {{type: sqlite, keyring: {home / 'keyring'}}}"
    path = home / "auth.yaml"
    path.write_text(text.replace("teleport:", keyring, 1))
    path.chmod(0o600)
    return subprocess.Popen(
        [sys.executable, "-m", "teleport_lite", "start", "-c", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **systemd.environ},
    )


def test_a_daemon_tells_its_whole_life(tmp_path: Path) -> None:
    with Systemd(tmp_path, watchdog=0.5) as systemd, a_daemon(tmp_path, systemd) as process:
        try:
            systemd.hears("READY=1")
            systemd.hears("STATUS=cluster test.example; auth: ")
            systemd.hears("WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            systemd.hears("RELOADING=1\nMONOTONIC_USEC=")
            systemd.hears("READY=1")
            process.send_signal(signal.SIGTERM)
            systemd.hears("STOPPING=1")
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert systemd.all.index("READY=1") < systemd.all.index("WATCHDOG=1")


def test_what_the_watchdog_ends_leaves_the_stack_of_every_thread(tmp_path: Path) -> None:
    with Systemd(tmp_path) as systemd, a_daemon(tmp_path, systemd) as process:
        try:
            systemd.hears("READY=1")
            process.send_signal(signal.SIGABRT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in said
    assert "store/writer.py" in said
    assert "daemon/run.py" in said
