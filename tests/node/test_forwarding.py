"""Ports and unix sockets, forwarded by the system's own ssh."""

import os
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.node.ends import Echo, ask, echoing, listens, wait_for
from tests.node.house import ME, House, Visitor
from tests.support import eventually, free_port

BIG = os.urandom(8 * 1024 * 1024)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with echoing() as echo:
        yield echo


@contextmanager
def forwarding(visitor: Visitor, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client with no session, only forwarding."""
    strict = "-oExitOnForwardFailure=yes"
    client = visitor.start(options=["-N", strict, "-oLogLevel=INFO", *options])
    try:
        yield client
    finally:
        client.kill()
        client.wait(60)


class Master:
    """A connection that later clients use, and that can be told to forward more or less."""

    def __init__(self, visitor: Visitor, directory: Path) -> None:
        self._visitor, self._path = visitor, directory / "m"
        self.client = visitor.start(options=["-N", "-M", "-S", str(self._path)])
        eventually(lambda: self.tell("check").returncode == 0, what="the master")

    def tell(self, word: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        return self._visitor.ssh(options=["-S", str(self._path), "-O", word, *options])

    def ssh(self, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        options = ["-S", str(self._path), *more.pop("options", [])]
        return self._visitor.ssh(*words, options=options, **more)

    def close(self) -> None:
        self.client.kill()
        self.client.wait(60)


@pytest.fixture
def master(house: House, tmp_path: Path) -> Iterator[Master]:
    master = Master(house.visitor(), tmp_path)
    yield master
    master.close()


# --- to the host


def test_a_port_leads_to_a_server_on_the_host(house: House, echo: Echo) -> None:
    port = free_port()
    with forwarding(house.visitor(), f"-L{port}:127.0.0.1:{echo.port}"):
        wait_for(("127.0.0.1", port))
        assert ask(("127.0.0.1", port)) == b"hello"
        assert ask(("127.0.0.1", port), BIG) == BIG
    told = house.event("T3003S", addr=f"127.0.0.1:{echo.port}", received=str(len(BIG)))
    assert told["facts"]["direction"] == "local"
    assert told["facts"]["sent"] == str(len(BIG))
    assert house.event("T3003I", addr=f"127.0.0.1:{echo.port}")["kind"] == "port"


def test_w_leads_to_a_name(house: House, echo: Echo) -> None:
    done = house.visitor().ssh(input=b"hello", options=[f"-Wlocalhost:{echo.port}"])
    assert (done.returncode, done.stdout) == (0, b"hello")


def own_name() -> str:
    """In some containers nobody knows the name of the machine."""
    try:
        socket.getaddrinfo(socket.gethostname(), 0)
    except OSError:
        return "localhost"
    return socket.gethostname()


def test_a_name_is_looked_up_on_the_host(house: House, echo: Echo) -> None:
    """That of this machine is in /etc/hosts, mostly, and not "localhost", which nobody looks up."""
    name = own_name()
    with socket.create_server((name, 0)) as server:
        port = server.getsockname()[1]
        client = house.visitor().start(options=[f"-W{name}:{port}"])
        conn, _ = server.accept()
        with conn:
            conn.sendall(b"found")
        assert client.stdout
        assert client.stdout.read() == b"found"


def test_d_is_a_proxy_that_looks_names_up_on_the_host(house: House, tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"the page\n")
    port, proxy = free_port(), free_port()
    words = ["python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    server = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        wait_for(("127.0.0.1", port))
        with forwarding(house.visitor(), f"-D{proxy}"):
            wait_for(("127.0.0.1", proxy))
            socks = ["--socks5-hostname", f"127.0.0.1:{proxy}"]
            page = f"http://localhost:{port}/page"
            done = subprocess.run(["curl", "-s", *socks, page], capture_output=True, timeout=60)
            assert (done.returncode, done.stdout) == (0, b"the page\n")
    finally:
        server.kill()
        server.wait()


def test_a_jump_through_the_node_to_itself(house: House) -> None:
    visitor = house.visitor()
    [*proxy, _target, _p, _port] = visitor.command(options=["-W", "%h:%p"])
    through = " ".join([*proxy, f"{ME}@127.0.0.1", "-p", str(house.port)])
    done = visitor.ssh("echo there", options=[f"-oProxyCommand={through}"])
    assert done.stdout == b"there\n"


def test_a_port_leads_to_a_unix_socket_of_the_host(house: House, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with echoing(there), forwarding(house.visitor(), f"-L{here}:{there}"):
        wait_for(here)
        assert ask(here, BIG) == BIG
    house.event("T3003I", addr=str(there), direction="local")


def test_many_at_once(house: House, echo: Echo) -> None:
    port = free_port()
    with forwarding(house.visitor(), f"-L{port}:127.0.0.1:{echo.port}"):
        wait_for(("127.0.0.1", port))
        socks = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(60)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%d\n" % number)
        for number, sock in enumerate(socks):
            assert sock.recv(100) == b"%d\n" % number
            sock.close()


def test_each_half_of_a_connection_ends_by_itself(house: House) -> None:
    """The server ends first and still hears what comes after."""
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        forwarding(house.visitor(), f"-L{port}:127.0.0.1:{server.getsockname()[1]}"),
    ):
        eventually(lambda: listens(("127.0.0.1", port)), what="the client to listen")
        server.accept()[0].close()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            conn, _ = server.accept()
            with conn:
                conn.sendall(b"bye")
                conn.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b"bye"
                assert client.recv(100) == b""
                client.sendall(b"late")
                client.shutdown(socket.SHUT_WR)
                assert conn.recv(100) == b"late"
                assert conn.recv(100) == b""


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("127.0.0.1:{closed}", "connect failed: Connection refused"),
        ("no-such-host.invalid:80", "connect failed: "),
        ("localhost:{closed}", "connect failed: Connection refused"),
        ("/nonexistent/socket", "connect failed: No such file or directory"),
    ],
)
def test_a_target_that_cannot_be_had_says_why(house: House, target: str, reason: str) -> None:
    target = target.format(closed=free_port())
    port = free_port()
    with forwarding(house.visitor(), f"-L{port}:{target}") as client:
        wait_for(("127.0.0.1", port))
        assert ask(("127.0.0.1", port)) == b""
        assert client.stderr
        assert reason in client.stderr.readline().decode()
    told = house.event("T3003E", addr=target)
    assert told["facts"]["direction"] == "local"
    assert told["facts"]["reason"]


def test_what_the_login_user_may_not_reach(
    house: House, other: str, others_home: Path, tmp_path: Path
) -> None:
    """The connection is theirs, not root's."""
    (tmp_path / "private").mkdir(mode=0o700)
    with echoing(tmp_path / "private" / "socket"):
        visitor = house.visitor(house.cluster.user(logins=(other,)))
        port = free_port()
        options = [f"-L{port}:{tmp_path}/private/socket", "-oLogLevel=INFO", "-N"]
        client = visitor.start(options=options, login=other)
        wait_for(("127.0.0.1", port))
        assert ask(("127.0.0.1", port)) == b""
        assert client.stderr
        assert b"connect failed: Permission denied" in client.stderr.readline()


# --- from the host


def allocated(client: subprocess.Popen[bytes]) -> int:
    assert client.stderr
    found = re.search(rb"Allocated port (\d+) ", client.stderr.readline())
    assert found
    return int(found[1])


def test_a_port_of_the_host_leads_back(house: House, echo: Echo) -> None:
    """Port 0 is one that the host chooses; "localhost" is both families."""
    with forwarding(house.visitor(), f"-R0:127.0.0.1:{echo.port}") as client:
        port = allocated(client)
        assert ask(("127.0.0.1", port), BIG) == BIG
        assert ask(("::1", port)) == b"hello"
        assert house.event("T3003I", direction="remote", addr=f"localhost:{port}")
    came = house.event("T3003S", direction="remote", addr=f"localhost:{port}")
    assert came["facts"]["from"].startswith(("127.0.0.1:", "[::1]:"))
    eventually(lambda: not listens(("127.0.0.1", port)), what="the port to be free")


def test_only_loopback_is_listened_on_whatever_is_asked_for(house: House, echo: Echo) -> None:
    address = socket.gethostbyname(own_name())
    with forwarding(house.visitor(), f"-R0.0.0.0:0:127.0.0.1:{echo.port}", "-v") as client:
        assert client.stderr
        port = 0
        while not port:
            line = client.stderr.readline()
            assert line
            found = re.search(rb"Allocated port (\d+) ", line)
            port = int(found[1]) if found else 0
        assert ask(("127.0.0.1", port)) == b"hello"
        if not address.startswith("127."):
            assert not listens((address, port))


def test_one_family_if_its_address_is_named(house: House, echo: Echo) -> None:
    with forwarding(house.visitor(), f"-R127.0.0.1:0:127.0.0.1:{echo.port}") as client:
        port = allocated(client)
        assert ask(("127.0.0.1", port)) == b"hello"
        assert not listens(("::1", port))


def test_a_port_that_is_taken_is_refused(house: House, echo: Echo) -> None:
    done = house.visitor().ssh(
        "true", options=[f"-R{echo.port}:127.0.0.1:1", "-oExitOnForwardFailure=yes"]
    )
    assert done.returncode == 255
    assert b"remote port forwarding failed for listen port" in done.stderr
    told = house.event("T3003E", addr=f"localhost:{echo.port}")
    assert told["facts"]["reason"] == "Address already in use"


def test_why_a_port_is_not_forwarded_is_said_in_the_session(house: House, echo: Echo) -> None:
    done = house.visitor().ssh("echo hello", options=[f"-R{echo.port}:127.0.0.1:1"])
    assert done.stdout == b"hello\n"
    assert b"teleport-lite: Address already in use\r\n" in done.stderr


def test_the_same_port_twice(master: Master, echo: Echo) -> None:
    port = free_port()
    assert master.tell("forward", f"-R{port}:127.0.0.1:{echo.port}").returncode == 0
    assert ask(("127.0.0.1", port)) == b"hello"
    again = master.tell("forward", f"-R{port}:127.0.0.1:1")
    assert b"remote port forwarding failed" in again.stderr
    assert ask(("127.0.0.1", port)) == b"hello"


def test_what_is_forwarded_can_be_taken_back(master: Master, echo: Echo) -> None:
    port = free_port()
    assert master.tell("forward", f"-R{port}:127.0.0.1:{echo.port}").returncode == 0
    kept = socket.create_connection(("127.0.0.1", port), timeout=30)
    kept.sendall(b"before")
    assert kept.recv(100) == b"before"
    assert master.tell("cancel", f"-R{port}:127.0.0.1:{echo.port}").returncode == 0
    eventually(lambda: not listens(("127.0.0.1", port)), what="the port to be free")
    kept.sendall(b"after")
    assert kept.recv(100) == b"after"
    kept.close()
    assert master.tell("forward", f"-R{port}:127.0.0.1:{echo.port}").returncode == 0
    assert ask(("127.0.0.1", port)) == b"hello"


def test_a_unix_socket_of_the_host_leads_back(house: House, tmp_path: Path) -> None:
    """Private, and gone with the connection."""
    here, there = tmp_path / "here", tmp_path / "there"
    with echoing(here), forwarding(house.visitor(), f"-R{there}:{here}"):
        wait_for(there)
        assert stat.S_IMODE(there.stat().st_mode) == 0o600
        assert ask(there, BIG) == BIG
    eventually(lambda: not there.exists(), what="the socket to be gone")
    house.event("T3003I", direction="remote", addr=str(there))


def test_what_is_there_already_is_not_replaced(house: House, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    options = [f"-R{there}:{tmp_path}/here", "-oExitOnForwardFailure=yes"]
    done = house.visitor().ssh("true", options=options)
    assert done.returncode == 255
    assert there.read_text() == "mine"
    assert house.event("T3003E", addr=str(there))["facts"]["reason"] == "Address already in use"


def test_a_socket_that_somebody_has_replaced_stays(house: House, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    before = set(house.named("tl-ssh-broker"))
    with echoing(here), forwarding(house.visitor(), f"-R{there}:{here}"):
        wait_for(there)
        there.unlink()
        there.write_text("mine")
    eventually(lambda: set(house.named("tl-ssh-broker")) <= before, what="the broker to end")
    assert there.read_text() == "mine"


def test_a_unix_socket_can_be_taken_back(master: Master, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with echoing(here):
        assert master.tell("forward", f"-R{there}:{here}").returncode == 0
        assert ask(there) == b"hello"
        assert master.tell("cancel", f"-R{there}:{here}").returncode == 0
        eventually(lambda: not there.exists(), what="the socket to be gone")


def test_nothing_is_left_when_the_client_is_gone(house: House, echo: Echo, tmp_path: Path) -> None:
    there = tmp_path / "there"
    with forwarding(house.visitor(), f"-R0:127.0.0.1:{echo.port}", f"-R{there}:/x") as client:
        port = allocated(client)
        eventually(there.exists)
        client.kill()
    eventually(lambda: not listens(("127.0.0.1", port)), what="the port to be free")
    eventually(lambda: not there.exists(), what="the socket to be gone")


def test_sessions_and_forwards_share_a_connection(master: Master, echo: Echo) -> None:
    port, back = free_port(), free_port()
    master.tell("forward", f"-L{port}:127.0.0.1:{echo.port}")
    master.tell("forward", f"-R{back}:127.0.0.1:{echo.port}")
    for number in range(3):
        assert master.ssh(f"echo {number}").stdout == b"%d\n" % number
        assert ask(("127.0.0.1", port)) == ask(("127.0.0.1", back)) == b"hello"
