"""The client's agent and display, on the node (ssh -A, -X). X11 programs are played by a socket."""

import os
import pwd
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from teleport_lite.model.user import Options
from tests.node.ends import listens
from tests.node.house import ME, ROLE, House, Visitor, running
from tests.support import eventually, free_port

GENEROUS = Options(forward_agent=True, x11_forwarding=True)
needs_xauth = pytest.mark.skipif(shutil.which("xauth") is None, reason="needs xauth")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One whose role and config allow all of it."""
    directory = tmp_path_factory.mktemp("agents")
    with running(directory, settings={"x11": True}) as house:
        house.roles = [replace(ROLE, options=GENEROUS)]
        house.save_knowledge()
        yield house


def visitor(house: House, login: str = ME, options: Options = GENEROUS) -> Visitor:
    return house.visitor(house.cluster.user(logins=(login,), options=options))


@contextmanager
def agent(directory: Path) -> Iterator[dict[str, str]]:
    """A real ssh-agent with one key; the environment that leads to it."""
    path, key = directory / "agent", directory / "agent-key"
    words = ["ssh-agent", "-D", "-a", str(path)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(path), what="the agent")
        env = os.environ | {"SSH_AUTH_SOCK": str(path)}
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the-key", "-f", str(key)]
        subprocess.run(make, check=True, timeout=60)
        subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, timeout=60)
        yield env
    finally:
        process.kill()
        process.wait()


def test_the_agent_of_the_client_is_there(house: House, tmp_path: Path) -> None:
    with agent(tmp_path) as env:
        done = visitor(house).ssh("ssh-add -l; echo $SSH_AUTH_SOCK", options=["-A"], env=env)
    keys, where = done.stdout.decode().splitlines()
    assert "the-key" in keys
    assert where.startswith("/tmp/ssh-")
    eventually(lambda: not Path(where).parent.exists(), what="its directory to be gone")
    house.event("TAF00I")


def test_every_session_of_the_connection_has_it(house: House, tmp_path: Path) -> None:
    with agent(tmp_path) as env, visitor(house).master(tmp_path / "m", "-A", env=env) as shared:
        for _ in range(2):
            done = visitor(house).ssh("ssh-add -l", options=["-A", *shared], env=env)
            assert b"the-key" in done.stdout


def test_it_belongs_to_the_login_user_alone(house: House, other: str, tmp_path: Path) -> None:
    with agent(tmp_path) as env:
        command = "echo $SSH_AUTH_SOCK; read x"
        guest = visitor(house, other)
        client = guest.start(command, login=other, options=["-A"], env=env)
        assert client.stdout
        path = Path(client.stdout.readline().decode().strip())
        uid = pwd.getpwnam(other).pw_uid
        for each, mode in ((path.parent, 0o700), (path, 0o600)):
            found = each.stat()
            assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (uid, mode)
        client.kill()
    eventually(lambda: not path.parent.exists(), what="its directory to be gone")


def test_no_agent_without_asking(house: House, tmp_path: Path) -> None:
    with agent(tmp_path) as env:
        done = visitor(house).ssh("echo [$SSH_AUTH_SOCK]", options=["-a"], env=env)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("certificate", "role", "reason"),
    [
        (Options(), GENEROUS, "the certificate lacks permit-agent-forwarding"),
        (GENEROUS, Options(), "the role forbids agent forwarding"),
    ],
)
def test_certificate_and_role_have_to_allow_it(
    house: House, tmp_path: Path, certificate: Options, role: Options, reason: str
) -> None:
    house.roles = [replace(ROLE, options=role)]
    house.save_knowledge()
    try:
        with agent(tmp_path) as env:
            guest = visitor(house, options=certificate)
            done = guest.ssh("echo [$SSH_AUTH_SOCK]", options=["-A"], env=env)
    finally:
        house.roles = [replace(ROLE, options=GENEROUS)]
        house.save_knowledge()
    assert done.stdout == b"[]\n"
    assert done.stderr == f"teleport-lite: {reason}\r\n".encode()
    house.event("TAF00W", reason=reason)


# --- X11: as somebody whose ~/.Xauthority is nobody's loss


@contextmanager
def screen(directory: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """What the client takes for its display: a socket, and a cookie for it."""
    number = free_port() - 6000
    sock = socket.create_server(("127.0.0.1", 6000 + number))
    home = {"XAUTHORITY": str(directory / "xauth"), "DISPLAY": f"127.0.0.1:{number}"}
    env = os.environ | home
    add = ["xauth", "-q", "add", env["DISPLAY"], "MIT-MAGIC-COOKIE-1", "ab" * 16]
    subprocess.run(add, env=env, check=True, timeout=60, capture_output=True)
    with sock:
        yield sock, env


@needs_xauth
def test_x11_programs_reach_the_client_s_display(house: House, other: str, tmp_path: Path) -> None:
    """With the cookie that the client made up they are let in, and it puts the real one there."""
    with screen(tmp_path) as (display, env):
        command = "echo $DISPLAY; xauth -q list $DISPLAY; read x"
        client = visitor(house, other).start(command, login=other, options=["-Y"], env=env)
        assert client.stdout
        name = client.stdout.readline().decode().strip()
        _, protocol, cookie = client.stdout.readline().decode().split()
        assert name.startswith("localhost:")
        assert protocol == "MIT-MAGIC-COOKIE-1"
        assert cookie != "ab" * 16
        port = 6000 + int(name.partition(":")[2].partition(".")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as program:
            program.sendall(hello(protocol.encode(), bytes.fromhex(cookie)))
            conn, _ = display.accept()
            with conn:
                assert conn.recv(1000) == hello(protocol.encode(), bytes.fromhex("ab" * 16))
                conn.sendall(b"welcome")
                assert program.recv(100) == b"welcome"
        assert client.stdin
        client.stdin.close()
        assert client.wait(60) == 1
    eventually(lambda: not listens(("127.0.0.1", port)), what="the display to be gone")
    house.event("T3008I")


def hello(protocol: bytes, cookie: bytes) -> bytes:
    """The first words of an X11 client."""
    head = b"l\0\x0b\0\0\0" + len(protocol).to_bytes(2, "little")
    head += len(cookie).to_bytes(2, "little") + b"\0\0"
    return head + protocol + b"\0" * (-len(protocol) % 4) + cookie + b"\0" * (-len(cookie) % 4)


@needs_xauth
def test_x11_is_refused_if_nobody_allows_it(house: House, other: str, tmp_path: Path) -> None:
    guest = visitor(house, other, options=Options())
    with screen(tmp_path) as (_, env):
        done = guest.ssh("echo [$DISPLAY]", login=other, options=["-Y"], env=env)
    assert done.stdout == b"[]\n"
    assert b"teleport-lite: the certificate lacks permit-X11-forwarding\r\n" in done.stderr
    house.event("T3008W", reason="the certificate lacks permit-X11-forwarding")


@needs_xauth
def test_a_display_for_each_session(house: House, other: str, tmp_path: Path) -> None:
    with screen(tmp_path) as (_, env):
        clients = [
            visitor(house, other).start(
                "echo $DISPLAY; read x", login=other, options=["-Y"], env=env
            )
            for _ in range(2)
        ]
        names = {client.stdout.readline() for client in clients if client.stdout}
        assert len(names) == 2
        for client in clients:
            client.kill()
