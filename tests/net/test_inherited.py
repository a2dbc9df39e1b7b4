"""Sockets that systemd keeps while we are restarted, with a paper systemd."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from teleport_lite.net.inherited import keep
from tests.support import free_port

# As systemd does it: the descriptor becomes number 3, and the process is told by its own PID.
_CHILD = """
import os, socket, sys
fd, names, address, others = sys.argv[1:5]
os.dup2(int(fd), 3)
os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"] = "1", names
os.environ["LISTEN_PID"] = str(os.getpid()) if others == "ours" else "1"
from teleport_lite.errors import Error
from teleport_lite.net.listen import forget_unused, listen
try:
    sock = listen(address, "test")
except Error as why:
    print("refused", why.message)
    sys.exit()
same = os.path.samestat(os.fstat(sock.fileno()), os.fstat(int(fd)))
forget_unused()
print(same, os.get_inheritable(sock.fileno()), "LISTEN_FDS" in os.environ)
"""


def child(listening: socket.socket, address: str, *, whose: str = "ours", name: str = "x") -> str:
    fd = listening.fileno()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(fd), name, address, whose],
        pass_fds=[fd],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def listening() -> "socket.socket":
    return socket.create_server(("127.0.0.1", 0))


def test_a_socket_with_our_address_is_used_again(listening: socket.socket) -> None:
    with listening:
        port = listening.getsockname()[1]
        assert child(listening, f"127.0.0.1:{port}") == "True False False"


def test_one_with_another_address_is_not(listening: socket.socket) -> None:
    with listening:
        assert child(listening, f"127.0.0.1:{free_port()}") == "False False False"


def test_one_for_another_process_is_not(listening: socket.socket) -> None:
    with listening:
        port = listening.getsockname()[1]
        assert child(listening, f"127.0.0.1:{port}", whose="theirs").startswith("refused")


def test_a_socket_that_does_not_listen_is_not_ours() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert child(ours, f"127.0.0.1:{free_port()}") == "False False False"


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "socket.socket":
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(30)
    sock.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return sock


def test_systemd_is_given_a_copy_with_a_name(
    systemd: socket.socket, listening: socket.socket
) -> None:
    with systemd, listening:
        keep(listening, "ssh_service.listen_addr")
        words, fds, _, _ = socket.recv_fds(systemd, 1000, 4)
        port = listening.getsockname()[1]
        name = f"tl-ssh_service.listen_addr=127.0.0.1.{port}"
        assert words == f"FDSTORE=1\nFDNAME={name}".encode()
        [fd] = fds
        assert os.path.samestat(os.fstat(fd), os.fstat(listening.fileno()))
        os.close(fd)


def test_systemd_is_told_what_is_not_needed_any_more(
    systemd: socket.socket, listening: socket.socket
) -> None:
    with systemd, listening:
        child(listening, f"127.0.0.1:{free_port()}", name="tl-old.listen_addr")
        said = [socket.recv_fds(systemd, 1000, 4) for _ in range(2)]
        for _, fds, _, _ in said:
            for fd in fds:
                os.close(fd)
        assert said[1][0] == b"FDSTOREREMOVE=1\nFDNAME=tl-old.listen_addr"


def test_what_has_another_address_now_is_kept_and_the_old_one_is_not(
    systemd: socket.socket, listening: socket.socket
) -> None:
    """FDSTOREREMOVE takes back all of a name."""
    with systemd, listening:
        child(listening, f"127.0.0.1:{free_port()}", name=kept_as(systemd, listening, "test"))
        said = [socket.recv_fds(systemd, 1000, 4) for _ in range(2)]
        for _, fds, _, _ in said:
            for fd in fds:
                os.close(fd)
        (new, _, _, _), (gone, _, _, _) = said
        assert new.startswith(b"FDSTORE=1\nFDNAME=tl-test=")
        assert gone.startswith(b"FDSTOREREMOVE=1\nFDNAME=tl-test=")
        assert new.partition(b"FDNAME=")[2] != gone.partition(b"FDNAME=")[2]


def kept_as(systemd: socket.socket, listening: socket.socket, what: str) -> str:
    """The name under which systemd keeps it."""
    keep(listening, what)
    words, fds, _, _ = socket.recv_fds(systemd, 1000, 4)
    for fd in fds:
        os.close(fd)
    return words.decode().partition("FDNAME=")[2]


def test_a_socket_unit_of_somebody_else_is_left_alone(
    systemd: socket.socket, listening: socket.socket
) -> None:
    with systemd, listening:
        child(listening, f"127.0.0.1:{free_port()}", name="sshd.socket")
        _, [fd], _, _ = socket.recv_fds(systemd, 1000, 4)
        os.close(fd)
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(1000)


def test_without_systemd_nothing_happens(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with listening:
        keep(listening, "x")
        assert listening.getsockname()[1] > 0
