"""Forwarding, by clients that do it in ways of their own; `tests/node/test_forwarding.py` has
the rules, with OpenSSH in front.
"""

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import paramiko
import pytest

from teleport_lite.model.user import Options
from tests.clients.test_libraries import paramiko_client, talk
from tests.clients.test_openssh import noise, options
from tests.node.ends import Echo, ask, echoing, wait_for
from tests.node.house import ME, ROLE, House, Visitor, running
from tests.support import eventually, free_port

SIZE = (2 << 20) + 9


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with echoing() as echo:
        yield echo


# --- OpenSSH: every kind at once on one connection


def test_all_kinds_share_a_connection(house: House, echo: Echo, short: Path) -> None:
    """-L and -R, from ports to ports, from sockets to sockets, and across."""
    ports = [free_port() for _ in range(4)]
    target = f"127.0.0.1:{echo.port}"
    socket_behind = short / "behind"
    with echoing(socket_behind):
        words = [
            *("-L", f"{ports[0]}:{target}", "-L", f"{ports[1]}:{socket_behind}"),
            *("-L", f"{short}/here:{target}", "-L", f"{short}/across:{socket_behind}"),
            *("-R", f"{ports[2]}:{target}", "-R", f"127.0.0.1:{ports[3]}:{socket_behind}"),
            *("-R", f"{short}/there:{target}", "-R", f"{short}/back:{socket_behind}"),
        ]
        client = house.visitor().start("cat", options=["-oExitOnForwardFailure=yes", *words])
        doors = [("127.0.0.1", port) for port in ports]
        paths = [short / name for name in ("here", "across", "there", "back")]
        for place in (*doors, *paths):
            wait_for(place)
        _asking(*doors, *paths)()
        assert client.communicate(b"and a session\n", timeout=60)[0] == b"and a session\n"
        assert client.returncode == 0


def test_a_hop_through_the_node(house: House) -> None:
    """`-W` below `ProxyJump`: a connection within a connection."""
    visitor = house.visitor()
    hop = visitor.command(options=["-W", f"127.0.0.1:{house.port}"])
    done = visitor.ssh("cat", options=[f"-oProxyCommand={' '.join(hop)}"], input=noise(SIZE))
    assert (done.returncode, done.stdout) == (0, noise(SIZE))


# --- agents


@pytest.fixture
def agent(short: Path) -> Iterator[Path]:
    """An agent with one key in it."""
    door, key = short / "agent", short / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tlt", "-f", key], check=True
    )
    process = subprocess.Popen(["ssh-agent", "-D", "-a", door], stdout=subprocess.DEVNULL)
    env = {"SSH_AUTH_SOCK": str(door)}
    try:
        add = ["ssh-add", "-q", key]
        # Its socket is there a moment before it listens.
        eventually(lambda: subprocess.run(add, env=env, capture_output=True).returncode == 0)
        yield door
    finally:
        process.terminate()
        process.wait(60)


def with_agent(agent: Path) -> dict[str, str]:
    return {**os.environ, "SSH_AUTH_SOCK": str(agent)}


@pytest.fixture
def trusting(tmp_path: Path) -> Iterator[House]:
    """A house whose role lets agents be forwarded."""
    with running(tmp_path) as house:
        house.roles = [replace(ROLE, options=Options(forward_agent=True))]
        house.save_knowledge()
        yield house


def trusted(house: House) -> Visitor:
    papers = house.cluster.user(logins=(ME,), options=Options(forward_agent=True))
    return house.visitor(papers)


def test_an_agent_comes_along_and_goes_away(trusting: House, agent: Path) -> None:
    visitor = trusted(trusting)
    script = "echo $SSH_AUTH_SOCK; stat -c %U:%a $SSH_AUTH_SOCK; ssh-add -l"
    done = visitor.ssh(script, options=["-A"], env=with_agent(agent))
    assert done.returncode == 0, done.stderr
    where, rights, key = done.stdout.decode().splitlines()
    assert rights in (f"{ME}:600", f"{ME}:700", f"{ME}:755")
    assert " tlt (ED25519)" in key
    eventually(lambda: not Path(where).exists(), what="the socket to go with the session")


def test_a_second_hop_logs_in_with_the_agent(trusting: House, agent: Path) -> None:
    """What agents are forwarded for: neither key nor certificate leave the first machine."""
    visitor = trusted(trusting)
    subprocess.run(["ssh-add", "-q", visitor.key], env={"SSH_AUTH_SOCK": str(agent)}, check=True)
    own = ("-oIdentityFile=", "-oIdentitiesOnly=")
    there = [word for word in options(visitor) if not word.startswith(own)]
    hop = ["ssh", *there, "-p", str(trusting.port), f"{ME}@127.0.0.1", "echo", "hopped"]
    done = visitor.ssh(" ".join(hop), options=["-A"], env=with_agent(agent))
    assert (done.returncode, done.stdout) == (0, b"hopped\n"), done.stderr


def test_a_role_that_is_silent_about_agents_forbids_them(house: House, agent: Path) -> None:
    script = 'echo "<$SSH_AUTH_SOCK>"'
    done = house.visitor().ssh(script, options=["-A"], env=with_agent(agent))
    assert done.stdout == b"<>\n"


# --- paramiko


def test_paramiko_opens_ways_from_here(house: House, echo: Echo) -> None:
    with paramiko_client(house) as client:
        transport = client.get_transport()
        assert transport is not None
        channels = [
            transport.open_channel("direct-tcpip", ("127.0.0.1", echo.port), ("127.0.0.1", 1))
            for _ in range(20)
        ]
        for number, channel in enumerate(channels):
            channel.sendall(b"%d" % number)
            channel.shutdown_write()
        for number, channel in enumerate(channels):
            assert channel.makefile("rb").read() == b"%d" % number
        with pytest.raises(paramiko.ChannelException, match="Connect"):
            transport.open_channel("direct-tcpip", ("127.0.0.1", free_port()), ("127.0.0.1", 1))


def test_paramiko_is_visited_from_there(house: House) -> None:
    with paramiko_client(house) as client:
        transport = client.get_transport()
        assert transport is not None
        port = transport.request_port_forward("127.0.0.1", 0)

        def serve() -> None:
            channel = transport.accept(60)
            assert channel is not None
            while data := channel.recv(1 << 16):
                channel.sendall(data)
            channel.close()

        server = threading.Thread(target=serve)
        server.start()
        assert ask(("127.0.0.1", port), noise(SIZE)) == noise(SIZE)
        server.join(60)
        transport.cancel_port_forward("127.0.0.1", port)
        eventually(lambda: not _listens(port), what="the port to be closed")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except OSError:
        return False
    return True


# --- asyncssh


def _asking(*places: tuple[str, int] | Path) -> Callable[[], None]:
    def asks() -> None:
        for place in places:
            said = ask(place, noise(SIZE))
            assert (len(said), said == noise(SIZE)) == (SIZE, True), place

    return asks


def test_asyncssh_forwards_ports_and_sockets_both_ways(
    house: House, echo: Echo, short: Path
) -> None:
    behind = short / "behind"
    with echoing(behind):

        async def tell(connection: asyncssh.SSHClientConnection) -> None:
            here = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", echo.port)
            there = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", echo.port)
            await connection.forward_local_path(str(short / "here"), str(behind))
            await connection.forward_remote_path(str(short / "there"), str(behind))
            ports = [("127.0.0.1", each.get_port()) for each in (here, there)]
            await asyncio.to_thread(_asking(*ports, short / "here", short / "there"))

        talk(house, tell)
