"""Who has no user of its own to become can still be kept from the files of the one it is."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from teleport_lite.node import landlock

needs_landlock = pytest.mark.skipif(not landlock.version(), reason="a kernel without landlock")

# Tells what it can do before and after, one line each.
_PROBE = """
import ctypes, os, socket, sys
from teleport_lite.node.confine import _prctl, _PR_SET_NO_NEW_PRIVS
from teleport_lite.node.landlock import shut_in
secret, port, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = open(secret)
def tell(name, act):
    try:
        act()
    except OSError as why:
        print(name, type(why).__name__)
    else:
        print(name, "ok")
def look():
    tell("open", lambda: os.close(os.open(secret, os.O_RDONLY)))
    tell("list", lambda: os.listdir("/"))
    tell("write", lambda: open(secret + ".new", "w").close())
    tell("memory", lambda: os.close(os.open(f"/proc/{parent}/mem", os.O_RDONLY)))
    tell("dial", lambda: socket.create_connection(("127.0.0.1", port)).close())
    tell("signal", lambda: os.kill(parent, 0))
    tell("held", lambda: held.read(1))
look()
_prctl(_PR_SET_NO_NEW_PRIVS, 1)
print("shut in", shut_in())
look()
"""


@needs_landlock
def test_files_connections_and_signals_are_closed_and_what_is_open_stays(tmp_path: Path) -> None:
    secret = tmp_path / "identity.json"
    secret.write_text("two keys")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        words = [sys.executable, "-c", _PROBE, str(secret), str(port), str(os.getpid())]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    before, _, after = done.stdout.partition("shut in True\n")
    assert after, done.stderr
    assert set(before.split()[1::2]) == {"ok"}
    facts = dict(line.split() for line in after.splitlines())
    assert {facts[each] for each in ("open", "list", "write", "memory")} == {"PermissionError"}
    assert facts["held"] == "ok"
    if landlock.version() >= 4:
        assert facts["dial"] == "PermissionError"
    if landlock.version() >= 6:
        assert facts["signal"] == "PermissionError"


def test_a_kernel_without_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert not landlock.shut_in()


@pytest.mark.parametrize(
    ("known", "files"), [(1, 0x1FFF), (2, 0x3FFF), (3, 0x7FFF), (4, 0x7FFF), (5, 0xFFFF)]
)
def test_an_older_kernel_is_asked_for_no_more_than_it_knows(known: int, files: int) -> None:
    assert landlock._all(landlock._FILES, known) == files
