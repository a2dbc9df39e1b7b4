"""What stays behind when a daemon stops, how long, and what ends it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from teleport_lite.daemon import outlast
from teleport_lite.daemon.outlast import _outlast
from tests.net.serving import LOOPS
from tests.support import eventually


class PaperRelays:
    """Sessions that are over after so many looks; -1 never."""

    def __init__(self, looks: int) -> None:
        self.looks, self.closed = looks, False

    @property
    def relayed(self) -> int:
        return 2 if self.looks else 0

    def look_again(self) -> None:
        self.looks -= 1

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlast, "LOOK", 0.01)


def test_it_ends_with_the_last_session(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    relays = PaperRelays(3)
    asyncio.run(_outlast(relays, asyncio.Event()))
    assert (relays.looks, relays.closed) == (0, True)
    assert caplog.text.endswith("its last session is over\n")


def test_it_ends_when_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    relays, told = PaperRelays(-1), asyncio.Event()
    told.set()
    asyncio.run(_outlast(relays, told))
    assert relays.closed
    assert "it was told to end; 2 are cut" in caplog.text


def test_it_does_not_stay_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    relays = PaperRelays(-1)
    asyncio.run(_outlast(relays, asyncio.Event(), longest=0.05))
    assert relays.closed
    assert "0 h are over; 2 are cut" in caplog.text


# A daemon that echoes on one connection, and leaves that behind when it is told to stop.
_DAEMON = """
import asyncio, json, logging, os, signal, socket, sys
from teleport_lite.daemon.outlast import leave_behind
from tests.net.serving import LOOPS
logging.basicConfig(filename=sys.argv[2], level=logging.INFO)

class Echo(asyncio.Protocol):
    over = False
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(b"%d " % os.getpid() + data)
    def connection_lost(self, why): self.over = True

class Relays:
    echo = None
    closed = False
    @property
    def relayed(self): return int(not self.echo.over)
    def look_again(self): pass
    async def close(self): self.echo.transport.abort()

async def main():
    loop, relays, stop = asyncio.get_running_loop(), Relays(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    listening = socket.create_server(("127.0.0.1", 0))
    print(json.dumps(listening.getsockname()[1]), flush=True)
    sock, _ = listening.accept()
    listening.close()
    sock.setblocking(False)
    _, relays.echo = await loop.connect_accepted_socket(Echo, sock)
    await asyncio.to_thread(lambda: None)  # a thread, which does not come along
    await stop.wait()
    await leave_behind(relays, code=7)

with asyncio.Runner(loop_factory=LOOPS[sys.argv[1]]) as runner:
    runner.run(main())
"""


def has_ended(pid: int) -> bool:
    """Gone, or waiting for an init that may take its time, in a container for ever."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("loop", sorted(LOOPS))
@pytest.mark.parametrize("end", ["by itself", "told"])
def test_a_connection_goes_on_in_another_process(loop: str, end: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = [sys.executable, "-c", _DAEMON, loop, str(log)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as daemon:
        assert daemon.stdout
        assert daemon.stderr
        with socket.create_connection(("127.0.0.1", json.loads(daemon.stdout.readline()))) as line:
            line.settimeout(30)
            line.sendall(b"one")
            assert line.recv(100) == b"%d one" % daemon.pid
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 7
            line.sendall(b"two")
            pid, word = line.recv(100).split()
            assert word == b"two"
            assert int(pid) != daemon.pid
            said = daemon.stderr.readline().decode()
            assert (
                said == f"1 session goes on in process {int(pid)} (to end them: kill {int(pid)})\n"
            )
            assert os.getsid(int(pid)) == int(pid)
            assert Path(f"/proc/{int(pid)}/comm").read_text() == "tl-relay\n"
            if end == "told":
                os.kill(int(pid), signal.SIGTERM)
                assert line.recv(100) == b""
        reason = "it was told to end" if end == "told" else "its last session is over"
        eventually(lambda: reason in log.read_text(), what="its last words")
        eventually(lambda: has_ended(int(pid)), what="its end")
