"""What roles, certificate or host forbid, with the reason that the client shows."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.model.user import Options
from teleport_lite.testing.certs import packed
from tests.node.ends import Echo, ask, echoing, listens, wait_for
from tests.node.house import ME, ROLE, House, running
from tests.node.test_abuse import Client
from tests.node.test_refusals import ALLOWED, forged_user
from tests.support import eventually, free_port

REMOTE = "remote port forwarding"


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with echoing() as echo:
        yield echo


@pytest.fixture
def said(house: House) -> Iterator[House]:
    """A house whose role a test may change."""
    yield house
    house.roles = [ROLE]
    house.save_knowledge()


def allow(house: House, **options: Any) -> None:
    house.roles = [replace(ROLE, options=Options(**options))]
    house.save_knowledge()


LOCAL_REFUSALS = [
    ({"port_forwarding": False}, {}, "the role forbids port forwarding"),
    ({"local_forwarding": False}, {}, "the role forbids port forwarding"),
    ({}, {"port_forwarding": False}, "the certificate lacks permit-port-forwarding"),
]
REMOTE_REFUSALS = [
    ({"port_forwarding": False}, {}, f"the role forbids {REMOTE}"),
    ({"remote_forwarding": False}, {}, f"the role forbids {REMOTE}"),
    ({}, {"port_forwarding": False}, "the certificate lacks permit-port-forwarding"),
]
IDS = ["role", "role-side", "certificate"]


@pytest.mark.parametrize(("role", "certificate", "reason"), LOCAL_REFUSALS, ids=IDS)
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_ports_and_sockets_of_the_host(
    said: House,
    echo: Echo,
    tmp_path: Path,
    role: dict[str, Any],
    certificate: dict[str, Any],
    reason: str,
    unix: bool,
) -> None:
    allow(said, **role)
    papers = said.cluster.user(logins=(ME,), options=Options(**certificate))
    target = str(tmp_path / "there") if unix else f"127.0.0.1:{echo.port}"
    port, seen = free_port(), echo.seen
    options = [f"-L{port}:{target}", "-N", "-oLogLevel=INFO"]
    client = said.visitor(papers).start(options=options)
    wait_for(("127.0.0.1", port))
    assert ask(("127.0.0.1", port)) == b""
    assert client.stderr
    line = client.stderr.readline().decode()
    assert f"open failed: administratively prohibited: {reason}" in line
    assert echo.seen == seen
    client.kill()
    said.event("T3003E", addr=target, reason=reason, direction="local")


@pytest.mark.parametrize(("role", "certificate", "reason"), REMOTE_REFUSALS, ids=IDS)
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_listening_on_the_host(
    said: House,
    tmp_path: Path,
    role: dict[str, Any],
    certificate: dict[str, Any],
    reason: str,
    unix: bool,
) -> None:
    """OpenSSH's client says that it failed; why, the first session says."""
    allow(said, **role)
    papers = said.cluster.user(logins=(ME,), options=Options(**certificate))
    there, port = tmp_path / "there", free_port()
    what = f"-R{there}:/x" if unix else f"-R{port}:127.0.0.1:1"
    done = said.visitor(papers).ssh("echo on", options=[what, "-oLogLevel=INFO"])
    assert done.stdout == b"on\n"
    assert b"forwarding failed" in done.stderr
    assert f"teleport-lite: {reason}\r\n".encode() in done.stderr
    assert not there.exists()
    assert not listens(("127.0.0.1", port))
    addr = str(there) if unix else f"localhost:{port}"
    said.event("T3003E", addr=addr, reason=reason, direction="remote")


def test_the_reason_is_a_debug_message_too(said: House) -> None:
    allow(said, remote_forwarding=False)
    options = ["-R0:127.0.0.1:1", "-v", "-oLogLevel=DEBUG"]
    done = said.visitor().ssh("true", options=options)
    assert f"Remote: the role forbids {REMOTE}".encode() in done.stderr


def test_one_side_may_be_allowed_without_the_other(said: House, echo: Echo) -> None:
    allow(said, remote_forwarding=False)
    done = said.visitor().ssh(input=b"hello", options=[f"-W127.0.0.1:{echo.port}"])
    assert done.stdout == b"hello"


def test_files(said: House, tmp_path: Path) -> None:
    allow(said, file_copy=False)
    source = tmp_path / "source"
    source.write_text("secret")
    visitor = said.visitor()
    sftp = visitor.ssh("sftp", options=["-s"])
    assert sftp.returncode == 1
    assert b"teleport-lite: the role forbids copying files\r\n" in sftp.stderr
    said.event("T3001W", name="sftp", reason="the role forbids copying files")
    for command in (f"scp -f {source}", "/usr/bin/scp -v -t x", "rsync --server . x"):
        done = visitor.ssh(command)
        assert done.stdout == b""
        assert b"the role forbids copying files" in done.stderr
    assert visitor.ssh(f"cat {source}; echo scp -f").stdout == b"secretscp -f\n"


def test_sftp_is_told_to_the_trail(house: House) -> None:
    house.visitor().ssh("sftp", options=["-s"])
    house.event("T3001I", name="sftp")


def test_a_terminal(house: House) -> None:
    """Our own CA always allows one, so the certificate is forged. OpenSSH's client gives up
    without a look at what came before."""
    papers = forged_user(house, extensions=ALLOWED)
    done = house.visitor(papers).ssh("tty", options=["-tt"])
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"PTY allocation request failed" in done.stderr
    client = Client(house, papers)
    channel = client.transport.open_session(timeout=30)
    sizes = struct.pack(">IIII", 80, 24, 0, 0)
    assert not client.request(channel, b"pty-req", packed(b"vt220"), sizes, packed(b"\0"))
    assert channel.recv_stderr(100) == b"teleport-lite: the certificate lacks permit-pty\r\n"
    client.close()


# --- the host itself


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = {"port_forwarding": False, "file_copy": False}
    with running(tmp_path_factory.mktemp("strict"), settings=settings) as house:
        everything = Options(forward_agent=True, x11_forwarding=True)
        house.roles = [replace(ROLE, options=everything)]
        house.save_knowledge()
        yield house


def test_a_host_forbids_for_everybody(strict: House, echo: Echo) -> None:
    everything = Options(forward_agent=True, x11_forwarding=True)
    visitor = strict.visitor(strict.cluster.user(logins=(ME,), options=everything))
    through = visitor.ssh(options=[f"-W127.0.0.1:{echo.port}", "-oLogLevel=INFO"])
    assert b"administratively prohibited: this host forbids port forwarding" in through.stderr
    back = visitor.ssh("true", options=["-R0:127.0.0.1:1"])
    assert f"this host forbids {REMOTE}".encode() in back.stderr
    files = visitor.ssh("sftp", options=["-s"])
    assert b"this host forbids copying files" in files.stderr
    strict.event("T3003E", reason="this host forbids port forwarding")


def test_x11_is_off_unless_the_host_says_otherwise(strict: House) -> None:
    client = Client(strict)
    channel = client.transport.open_session(timeout=30)
    cookie = b"\0" + packed(b"MIT-MAGIC-COOKIE-1") + packed(b"00") + b"\0\0\0\0"
    assert not client.request(channel, b"x11-req", cookie)
    assert channel.recv_stderr(100) == b"teleport-lite: this host forbids X11 forwarding\r\n"
    client.close()


def test_without_permission_nothing_is_looked_up_or_dialled(said: House) -> None:
    allow(said, local_forwarding=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        said.visitor().ssh(options=[f"-W127.0.0.1:{server.getsockname()[1]}"])
        with pytest.raises(TimeoutError):
            server.accept()
    assert eventually(lambda: "tl-ssh-lookup" not in said.processes().values())
