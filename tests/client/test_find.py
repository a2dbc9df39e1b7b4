"""Which cluster is meant, and what is said when none can be found."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.client import identity_file, profile
from teleport_lite.client.doors import TlsDoor, UnixDoor, no_socket
from teleport_lite.client.find import Places, Wish, find
from teleport_lite.errors import Denied, Malformed, NotFound, Unauthenticated, Unavailable
from tests.client.test_identity_file import an_identity
from tests.client.test_profile import ALICE, credentials


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; for these lines it gives that up."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class Host:
    """A host with nothing on it yet."""

    def __init__(self, root: Path) -> None:
        self.config, self.data_dir, self.home = root / "etc.yaml", root / "data", root / ".tsh"
        self.data_dir.mkdir()

    @property
    def places(self) -> Places:
        return Places(config=self.config, data_dir=self.data_dir, home=self.home)

    def runs_auth(self, where: Path | None = None) -> Path:
        path = (where or self.data_dir) / "auth.sock"
        path.touch()
        return path

    def logs_in(self) -> None:
        profile.save(self.home, ALICE, credentials())

    def identity(self) -> str:
        path = self.home.parent / "alice.identity"
        path.write_bytes(identity_file.write(an_identity()))
        path.chmod(0o600)
        return str(path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_an_identity_file_comes_first(host: Host) -> None:
    host.runs_auth()
    host.logs_in()
    door = find(Wish(identity=host.identity(), auth_servers=("10.0.0.5",)), host.places)
    assert isinstance(door, TlsDoor)
    assert (door.address, door.cluster) == ("10.0.0.5:3025", "tele.example.com")
    alone = find(Wish(identity=host.identity()), host.places)
    assert alone.name == "127.0.0.1:3025"


def test_several_auth_servers_are_tried_in_turn(host: Host) -> None:
    door = find(Wish(identity=host.identity(), auth_servers=("10.0.0.5, 10.0.0.6:1",)), host.places)
    assert isinstance(door, TlsDoor)
    assert (door.address, door.others) == ("10.0.0.5:3025", ("10.0.0.6:1",))


def test_the_last_auth_server_counts_and_keeps_its_port(host: Host) -> None:
    servers = ("10.0.0.5", "[::1]:4025")
    assert find(Wish(identity=host.identity(), auth_servers=servers), host.places).name == (
        "[::1]:4025"
    )
    with pytest.raises(Malformed):
        find(Wish(identity=host.identity(), auth_servers=("10.0.0.5:x",)), host.places)


def test_the_auth_service_here_comes_before_the_profile(host: Host) -> None:
    host.logs_in()
    socket_path = host.runs_auth()
    assert find(Wish(), host.places) == UnixDoor(socket_path)


def test_the_config_file_says_where_the_socket_is(host: Host, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    socket_path = host.runs_auth(elsewhere)
    host.config.write_text(f"teleport:\n  data_dir: {elsewhere}\n")
    assert find(Wish(), host.places) == UnixDoor(socket_path)
    typed = tmp_path / "typed.yaml"
    host.config.rename(typed)
    assert find(Wish(config=str(typed)), host.places) == UnixDoor(socket_path)
    assert find(Wish(data_dir=str(elsewhere)), host.places) == UnixDoor(socket_path)


def test_without_auth_here_the_profile_is_used(host: Host) -> None:
    host.logs_in()
    door = find(Wish(), host.places)
    assert isinstance(door, TlsDoor)
    assert door.address == "tele.example.com:3025"
    host.config.write_text("auth_service:\n  enabled: no\n")
    host.runs_auth()
    assert isinstance(find(Wish(), host.places), TlsDoor)


def test_a_profile_goes_through_its_proxy_when_auth_has_no_address_of_its_own(host: Host) -> None:
    profile.save(host.home, replace(ALICE, auth_addr=""), credentials())
    door = find(Wish(), host.places)
    assert isinstance(door, TlsDoor)
    assert (door.address, door.cluster) == ("tele.example.com:3080", "tele.example.com")


def test_a_config_that_runs_auth_is_never_passed_over_for_a_profile(host: Host) -> None:
    host.logs_in()
    host.config.write_text("auth_service:\n  enabled: yes\n")
    with pytest.raises(Unavailable) as caught:
        find(Wish(), host.places)
    assert caught.value.message == (
        f"cannot reach the auth socket {host.data_dir}/auth.sock: there is none, auth is not "
        "running here"
    )
    assert "teleport-lite start" in caught.value.hint


def test_an_auth_server_that_was_typed_is_never_answered_by_the_local_socket(host: Host) -> None:
    host.runs_auth()
    with pytest.raises(Unauthenticated, match=r"no credentials for 10\.0\.0\.5"):
        find(Wish(auth_servers=("10.0.0.5",)), host.places)
    host.logs_in()
    assert find(Wish(auth_servers=("10.0.0.5",)), host.places).name == "10.0.0.5:3025"


def test_nothing_at_all_names_both_places(host: Host) -> None:
    with pytest.raises(Unavailable) as caught:
        find(Wish(), host.places)
    assert str(host.data_dir / "auth.sock") in caught.value.message
    assert "no tsh profile" in caught.value.message
    host.config.write_text("auth_service: {enabled: 'no'}\n")
    with pytest.raises(Unauthenticated, match="turns it off"):
        find(Wish(), host.places)


def test_a_config_that_was_typed_has_to_be_there_and_readable(host: Host) -> None:
    with pytest.raises(NotFound, match=r"/nowhere/x\.yaml does not exist"):
        find(Wish(config="/nowhere/x.yaml"), host.places)
    host.config.write_text("a: [\n")
    with pytest.raises(Malformed, match=str(host.config)):
        find(Wish(), host.places)


def test_a_profile_without_keys_asks_for_a_login(host: Host) -> None:
    host.logs_in()
    profile.Files(host.home, ALICE).tls.unlink()
    with pytest.raises(Unauthenticated, match=r"not logged in to tele\.example\.com"):
        find(Wish(), host.places)


def test_a_missing_identity_file_is_not_found(host: Host) -> None:
    with pytest.raises(NotFound, match="/nowhere/alice"):
        find(Wish(identity="/nowhere/alice"), host.places)


def test_permission_denied_names_who_may() -> None:
    refused = no_socket(Path("/var/lib/x/auth.sock"), PermissionError(13, "Permission denied"))
    assert isinstance(refused, Denied)
    assert refused.message == (
        "cannot reach the auth socket /var/lib/x/auth.sock: permission denied, only root and "
        "the service's user may"
    )


def test_a_closed_data_directory_is_denied_and_so_is_its_config() -> None:
    with tempfile.TemporaryDirectory() as root:
        host = Host(Path(root))
        Path(root).chmod(0o755)
        host.runs_auth()
        host.config.write_text("auth_service: {enabled: yes}\n")
        host.data_dir.chmod(0)
        with as_nobody(), pytest.raises(Denied, match=r"auth\.sock: permission denied"):
            find(Wish(), host.places)
        host.config.chmod(0)
        with as_nobody(), pytest.raises(Denied, match=r"auth\.sock: permission denied"):
            find(Wish(), host.places)
        with as_nobody(), pytest.raises(Denied, match=r"etc\.yaml cannot be read"):
            find(Wish(config=str(host.config)), host.places)
        host.data_dir.chmod(0o700)


def test_a_socket_nobody_listens_on_is_a_stopped_service(tmp_path: Path) -> None:
    path = tmp_path / "auth.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with pytest.raises(Unavailable, match="auth has stopped"):
        UnixDoor(path).open()


def test_a_path_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="too long"):
        UnixDoor(tmp_path / ("x" * 120)).open()
