"""What VS Code's Remote-SSH does: a server of its own on the host, reached through a SOCKS door.

One connection stays (`-D`, ControlMaster). A script on the standard input of `bash -s` starts a
server that listens on loopback only, and prints its port between marks; everything else goes
through the SOCKS door of the same connection, to that port.
"""

import shlex
import socket
import struct
import sys
from pathlib import Path

import pytest

from tests.clients.test_openssh import noise
from tests.node.house import House
from tests.support import free_port

SIZE = (8 << 20) + 1
START = f"""
set -e
cd "$1"
nohup {shlex.quote(sys.executable)} -u -m http.server 0 --bind 127.0.0.1 >log 2>&1 </dev/null &
echo $! >pid
until grep -q 'port [0-9]' log; do sleep 0.05; done
echo "start==$(sed -n 's/.*port \\([0-9]*\\).*/\\1/p' log | head -1)==end"
"""


def through(door: int, port: int, name: str = "127.0.0.1") -> socket.socket:
    """A connection by SOCKS 5 (RFC 1928). Raises ConnectionRefusedError."""
    line = socket.create_connection(("127.0.0.1", door), timeout=30)
    line.sendall(b"\5\1\0")
    line.recv(2)
    line.sendall(b"\5\1\0\3" + bytes([len(name)]) + name.encode() + struct.pack(">H", port))
    answer = line.recv(10)
    # OpenSSH's answer to a channel that is refused is to hang up.
    if answer[1:2] != b"\0":
        line.close()
        raise ConnectionRefusedError(f"{name} {port}: {answer!r}")
    return line


def fetch(door: int, port: int, path: str) -> bytes:
    with through(door, port) as line:
        line.sendall(f"GET /{path} HTTP/1.0\r\n\r\n".encode())
        said = bytearray()
        while more := line.recv(1 << 16):
            said += more
    head, _, body = bytes(said).partition(b"\r\n\r\n")
    assert head.split()[1] == b"200"
    return body


def test_a_server_behind_the_socks_door(house: House, short: Path, tmp_path: Path) -> None:
    visitor, door = house.visitor(), free_port()
    (tmp_path / "large").write_bytes(noise(SIZE))
    (tmp_path / "small").write_text("small")
    script = ["bash", "-s", "--", shlex.quote(str(tmp_path))]
    with visitor.master(short / "control", f"-D{door}") as shared:
        try:
            done = visitor.ssh(*script, options=shared, input=START.encode())
            assert done.returncode == 0, done.stderr
            port = int(done.stdout.decode().partition("start==")[2].partition("==end")[0])
            assert fetch(door, port, "large") == noise(SIZE)
            # A window opens many at once, and goes on asking the host beside them.
            lines = [through(door, port) for _ in range(8)]
            check = visitor.ssh("bash", "-s", options=shared, input=b"uname -s\n")
            assert check.stdout == b"Linux\n"
            for line in lines:
                line.sendall(b"GET /small HTTP/1.0\r\n\r\n")
            for line in lines:
                with line, line.makefile("rb") as answer:
                    assert answer.read().endswith(b"\r\n\r\nsmall")
            with pytest.raises(ConnectionRefusedError):
                through(door, free_port())
            assert fetch(door, port, "small") == b"small"
        finally:
            visitor.ssh(f"kill $(cat {tmp_path}/pid)", options=shared)
