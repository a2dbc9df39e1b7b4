"""Places to listen at: loopback, private, and nobody else's."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from teleport_lite.node.forward_listen import (
    Listener,
    Made,
    listen_agent,
    listen_tcp,
    listen_unix,
    listen_x11,
)
from teleport_lite.node.forward_wire import Target
from tests.support import free_port


@contextmanager
def closing(listener: Listener) -> Iterator[Listener]:
    try:
        yield listener
    finally:
        listener.close()


def names(listener: Listener) -> set[tuple[str, int]]:
    return {sock.getsockname()[:2] for sock in listener.socks}


@pytest.mark.parametrize("host", [b"", b"localhost", b"*", b"0.0.0.0", b"192.0.2.1", b"\xff"])
def test_any_name_is_loopback_of_both_families(host: bytes) -> None:
    with closing(listen_tcp(Target(host=host))) as listener:
        port = listener.at.port
        assert names(listener) == {("127.0.0.1", port), ("::1", port)}
        assert listener.at.host == host  # what the client will look for


def test_an_address_is_its_family_alone() -> None:
    with closing(listen_tcp(Target(host=b"::1"))) as listener:
        assert names(listener) == {("::1", listener.at.port)}


def test_a_port_that_is_taken_in_one_family_is_taken() -> None:
    """Else "localhost" would lead to somebody else's service half of the time."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use"):
            listen_tcp(Target(port=port))
        with closing(listen_tcp(Target(host=b"::1", port=port))):
            pass  # and nothing of the failed one is left


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_such_port(port: int) -> None:
    with pytest.raises(OSError, match="no such port"):
        listen_tcp(Target(port=port))


def test_a_socket_is_for_its_user_and_goes_with_the_listener(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with closing(listen_unix(Target(path=os.fsencode(path)))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    assert os.umask(0o022) == 0o022


def test_a_relative_path_means_the_same_one_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = listen_unix(Target(path=b"socket"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    listener.close()
    assert not (tmp_path / "socket").exists()


def test_an_agent_is_in_a_directory_of_its_own() -> None:
    with closing(listen_agent()) as listener:
        path = Path(os.fsdecode(listener.at.path))
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.name == f"agent.{os.getpid()}"
    assert not path.parent.exists()


def test_a_directory_that_is_not_empty_stays(tmp_path: Path) -> None:
    made = Made(tmp_path)
    (tmp_path / "file").touch()
    made.remove()
    assert tmp_path.exists()


def test_displays_are_given_out_one_after_the_other() -> None:
    first = free_port() - 6000
    with closing(listen_x11(first, first, channel=0, single=False, screen=0)) as one:
        assert one.at.port == first
        with pytest.raises(OSError, match="all displays for X11 forwarding are in use"):
            listen_x11(first, first, channel=1, single=False, screen=0)
