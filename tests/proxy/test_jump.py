"""`ssh -J` through a real jump host to a real node, and what it does not let through."""

import contextlib
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import paramiko
import pytest

from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.user import Condition, Role
from teleport_lite.proto.stream import Route
from teleport_lite.testing.certs import PaperCluster
from teleport_lite.testing.fakes import T0
from tests.node.house import ME, House
from tests.proxy.jump_house import PROXY, JumpHouse, jumping
from tests.proxy.rig import host_id
from tests.support import eventually


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode()


# --- getting through


@pytest.mark.parametrize("host", ["node1", "NODE1", "node1.test.example", "uuid", "env=test"])
def test_a_session_goes_through_by(jump: JumpHouse, host: str) -> None:
    target = jump.house.host.id if host == "uuid" else host
    done = jump.ssh("-J", "jump", "-o", "HostKeyAlias=node1", f"{ME}@{target}", "id -un")
    assert (done.returncode, done.stdout, said(done)) == (0, ME.encode() + b"\n", "")


def test_the_trail_has_the_login_the_way_and_its_end(jump: JumpHouse) -> None:
    del jump.events[:]
    papers = jump.cluster.user("carol", logins=(ME,))
    assert jump.ssh("-J", "jump", f"{ME}@node1", "true", papers=papers).returncode == 0
    login = jump.event("T3007I", user="carol")
    assert login.facts["login"] == "anybody"
    connect, end = jump.event("TSC01I", user="carol"), jump.event("T2006I", user="carol")
    assert connect.facts["node_id"] == jump.house.host.id
    assert connect.facts["via"] == "direct"
    assert connect.facts["addr.remote"] == login.facts["addr.remote"]
    assert int(end.facts["bytes_up"]) > 1000
    assert int(end.facts["bytes_down"]) > 1000


def test_proxyjump_and_w_do_the_same(jump: JumpHouse) -> None:
    done = jump.ssh("-o", "ProxyJump=jump", f"{ME}@node1", "echo jumped")
    assert done.stdout == b"jumped\n"
    config = jump.config()
    command = f"ssh -F {config} -W %h:%p jump"
    done = jump.ssh("-o", f"ProxyCommand={command}", f"{ME}@node1", "echo forwarded")
    assert done.stdout == b"forwarded\n"


def test_much_goes_through_unharmed_both_ways(jump: JumpHouse) -> None:
    data = os.urandom(20 << 20)
    done = jump.ssh("-J", "jump", f"{ME}@node1", "cat", input=data)
    assert done.stdout == data
    assert done.returncode == 0


def test_files_go_through(jump: JumpHouse, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1 << 20))
    command = ["scp", "-F", str(jump.config()), "-J", "jump", str(source), f"{ME}@node1:{target}"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == source.read_bytes()


class Caller:
    """A client of paramiko's, for what OpenSSH would not do."""

    def __init__(self, jump: JumpHouse, login: str = "whoever", **who: Any) -> None:
        papers = jump.cluster.user(**({"logins": (ME,)} | who))
        key = paramiko.Ed25519Key.from_private_key(_Readable(papers.ssh_private.reveal()))
        key.load_certificate(papers.ssh_cert)
        self.client = paramiko.Transport(socket.create_connection((PROXY, jump.port)))
        self.client.start_client(timeout=30)
        self.client.auth_publickey(login, key)

    def open(self, host: str, port: int = 0, kind: str = "direct-tcpip") -> paramiko.Channel:
        return self.client.open_channel(kind, (host, port), ("192.0.2.9", 1), timeout=30)

    def refused(self, host: str, port: int = 0, kind: str = "direct-tcpip") -> str:
        """The code of RFC 4254 §5.1 in words; the reason paramiko only logs."""
        with pytest.raises(paramiko.ChannelException) as no:
            self.open(host, port, kind)
        return no.value.text

    def close(self) -> None:
        self.client.close()
        self.client.join(10)


class _Readable:
    def __init__(self, text: str) -> None:
        self._text = text

    def readlines(self) -> list[str]:
        return self._text.splitlines(keepends=True)


class Echo:
    """Passes for a node: greets, and says everything back; ends when it hears the end."""

    def __init__(self, *, reads: bool = True) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.reads = threading.Event()
        self.met = 0
        self.ended = 0
        if reads:
            self.reads.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self.met += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            sock.sendall(b"SSH-2.0-echo\r\n")
            self.reads.wait(60)
            try:
                while data := sock.recv(65536):
                    sock.sendall(data)
                sock.sendall(b"the end")
            except OSError:
                pass
            self.ended += 1

    def close(self) -> None:
        self._listening.close()


def exactly(channel: paramiko.Channel, size: int) -> bytes:
    heard = b""
    channel.settimeout(30)
    while len(heard) < size:
        more = channel.recv(size - len(heard))
        assert more, heard
        heard += more
    return heard


@pytest.fixture
def echo(jump: JumpHouse) -> Any:
    echo = Echo()
    jump.add(Route(id=host_id(7), name="echo", address=f"127.0.0.1:{echo.port}"))
    yield echo
    echo.close()


GREETING = b"SSH-2.0-echo\r\n"


def test_several_ways_on_one_connection(jump: JumpHouse, echo: Echo) -> None:
    caller = Caller(jump)
    channels = [caller.open("echo") for _ in range(5)]
    for number, channel in enumerate(channels):
        channel.sendall(b"%d" % number * 1000)
    for number, channel in enumerate(channels):
        assert exactly(channel, len(GREETING)) == GREETING
        assert exactly(channel, 1000) == b"%d" % number * 1000
    channels[0].close()
    assert caller.refused("nobody") == "Connect failed"
    channels[1].sendall(b"still here")
    assert exactly(channels[1], 10) == b"still here"
    caller.close()
    eventually(lambda: echo.ended == 5, seconds=30, what="all of them to end")
    eventually(lambda: not len(jump.sessions), seconds=30)


def test_the_end_of_one_direction_leaves_the_other_open(jump: JumpHouse, echo: Echo) -> None:
    caller = Caller(jump)
    channel = caller.open("echo")
    channel.sendall(b"x" * 500_000)
    channel.shutdown_write()
    expected = GREETING + b"x" * 500_000 + b"the end"
    assert exactly(channel, len(expected)) == expected
    assert channel.recv(10) == b""
    eventually(lambda: channel.closed, seconds=30, what="the channel to be closed")
    caller.close()


def test_a_node_that_does_not_read_stops_its_client_and_nobody_else(jump: JumpHouse) -> None:
    """The client's window stays shut, and no process takes in what nobody wants."""
    slow, quick = Echo(reads=False), Echo()
    jump.add(
        Route(id=host_id(8), name="slow", address=f"127.0.0.1:{slow.port}"),
        Route(id=host_id(9), name="quick", address=f"127.0.0.1:{quick.port}"),
    )
    caller = Caller(jump)
    channel = caller.open("slow")
    channel.settimeout(1.0)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 64 << 20:
            sent += channel.send(b"x" * 65536)
    # Two windows, and the buffers of the kernel on the way.
    assert sent < 32 << 20
    other = caller.open("quick")
    other.sendall(b"beside")
    assert exactly(other, len(GREETING) + 6) == GREETING + b"beside"
    slow.reads.set()
    assert exactly(channel, len(GREETING)) == GREETING
    assert exactly(channel, sent) == b"x" * sent
    caller.close()
    slow.close()
    quick.close()


def test_only_so_many_ways_on_one_connection(jump: JumpHouse, echo: Echo) -> None:
    caller = Caller(jump)
    channels = [caller.open("echo") for _ in range(32)]
    assert caller.refused("echo") == "Resource shortage"
    channels[0].close()
    eventually(lambda: len(jump.sessions) == 31, seconds=30)
    caller.open("echo")
    caller.close()
    eventually(lambda: not len(jump.sessions), seconds=30)


def test_keys_are_exchanged_anew_in_the_middle_of_it(jump: JumpHouse, echo: Echo) -> None:
    caller = Caller(jump)
    channel = caller.open("echo")
    exactly(channel, len(GREETING))
    for _ in range(3):
        caller.client.renegotiate_keys()
        channel.sendall(b"y" * 100_000)
        assert exactly(channel, 100_000) == b"y" * 100_000
        assert caller.refused("nobody") == "Connect failed"
    caller.close()


# --- not getting through


def test_there_are_no_shells_and_no_way_back(jump: JumpHouse) -> None:
    done = jump.ssh("jump", "id")
    assert done.returncode == 255
    assert "this is a jump host, it has no shells; try ssh -J" in said(done)
    done = jump.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "jump")
    assert "remote port forwarding failed" in said(done)
    done = jump.ssh("-s", "jump", "sftp")
    assert "no shells" in said(done)
    caller = Caller(jump)
    for kind in ("session", "x11", "forwarded-tcpip", "auth-agent@openssh.com", "tun@openssh.com"):
        caller.refused("node1", kind=kind)
    channel = caller.open("node1")
    with pytest.raises(paramiko.SSHException):
        channel.exec_command("id")
    caller.close()


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("127.0.0.1:22", "there is no node 127.0.0.1 that you may reach"),
        ("localhost:3025", "there is no node localhost"),
        ("169.254.169.254:80", "there is no node 169.254.169.254"),
        ("[::1]:22", "there is no node ::1"),
        ("node1:80", "port 80 of node1 can not be reached, only its SSH service"),
        ("node1:3025", "port 3025 of node1"),
        ("metadata:3022", "169.254.169.254, where no node may be"),
        ("web:3022", "does not speak SSH"),
        ("nobody:22", "there is no node nobody that you may reach"),
        ("twin:22", f"twin can mean 2 nodes: {host_id(21)}"),
        ("away:22", "node away has no tunnel to this proxy"),
    ],
)
def test_where_no_way_leads_the_client_is_told(jump: JumpHouse, target: str, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as sock:
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                assert sock.recv(100) == b""

        threading.Thread(target=answer, daemon=True).start()
        jump.add(
            Route(id=host_id(20), name="metadata", address="169.254.169.254:80"),
            Route(id=host_id(21), name="twin"),
            Route(id=host_id(22), name="twin"),
            Route(id=host_id(23), name="away", tunnels=[host_id(99)]),
            Route(id=host_id(24), name="web", address=f"127.0.0.1:{listening.getsockname()[1]}"),
        )
        done = jump.ssh("-W", target, "jump")
    assert done.returncode == 255
    assert done.stdout == b""
    assert "channel 0: open failed: connect failed: " in said(done)
    assert why in said(done)
    assert jump.events[-1].code == "TSC01W"
    assert jump.events[-1].facts["reason"] in said(done)


def test_roles_decide_and_hide(jump: JumpHouse, tmp_path: Path) -> None:
    dev = Role(name="dev", allow=Condition(logins=(ME,), node_labels={"env": ("dev",)}))
    with jumping(tmp_path, jump.house) as own:
        own.roles = [*own.roles, dev]
        own.learn()
        papers = own.cluster.user("dave", logins=(ME,), roles=("dev",))
        done = own.ssh("-J", "jump", f"{ME}@node1", "true", papers=papers)
        assert "there is no node node1 that you may reach" in said(done)
        own.add(Route(**{**_fields(own.hosts[0]), "labels": {"env": "dev"}}))
        # The proxy believes that label now; the node knows better, and decides again.
        done = own.ssh("-J", "jump", f"{ME}@node1", "true", papers=papers)
        assert "Permission denied" in said(done)
        assert own.event("TSC01I", user="dave").facts["by"] == "dev"


def _fields(route: Route) -> dict[str, Any]:
    return {name: getattr(route, name) for name in route.__struct_fields__}


def test_odd_words_end_a_connection_and_nothing_else(jump: JumpHouse) -> None:
    """Channel opens that are cut short, or hold what no host name holds."""
    for rest in (b"", b"\xff\xff\xff\xff", _open(b"\xff\xfe\0", b"x" * 60_000) + b"more"):
        caller = Caller(jump)
        message = paramiko.Message()
        message.add_byte(b"\x5a")
        message.add_string("direct-tcpip")
        message.add_bytes(rest)
        caller.client._send_message(message)  # type: ignore[attr-defined]  # not in stubs
        caller.client.join(30)
        assert not caller.client.is_active()
        caller.close()
    caller = Caller(jump)
    for host in ("\u202e", "a\0b", "x" * 60_000, "../../etc", "%s%n", "a b"):
        assert caller.refused(host)
    caller.close()


def _open(host: bytes, origin: bytes) -> bytes:
    message = paramiko.Message()
    for number in (1, 1 << 20, 1 << 15):
        message.add_int(number)
    message.add_string(host)
    message.add_int(22)
    message.add_string(origin)
    message.add_int(1)
    return message.asbytes()


# --- locks


def a_lock(target: Target, value: str) -> Lock:
    return Lock(id="lock-1", target=target, value=value, created_at=T0)


@pytest.fixture
def held(jump: JumpHouse) -> Any:
    """A session that is there to be cut; the locks are taken away after it."""
    del jump.events[:]
    client = jump.popen("-J", "jump", f"{ME}@node1", "echo up; cat")
    assert client.stdout
    assert client.stdout.readline() == b"up\n"
    yield client
    jump.locks = []
    jump.learn()


def test_a_lock_on_the_user_cuts_everything(jump: JumpHouse, held: subprocess.Popen[bytes]) -> None:
    jump.locks = [a_lock(Target.USER, "alice")]
    jump.learn()
    assert held.wait(30) == 255
    assert jump.event("T2006I", reason="user alice is locked")
    eventually(lambda: not jump.named("tl-jump-worker"), seconds=30, what="the worker to end")
    done = jump.ssh("-J", "jump", f"{ME}@node1", "true")
    assert "Permission denied (publickey)" in said(done)
    assert jump.event("T3007W", reason="user alice is locked")


def test_a_lock_on_the_node_cuts_the_way_there_and_not_the_connection(
    jump: JumpHouse, held: subprocess.Popen[bytes], echo: Echo
) -> None:
    caller = Caller(jump)
    channel = caller.open("echo")
    exactly(channel, len(GREETING))
    jump.locks = [a_lock(Target.NODE, jump.house.host.id)]
    jump.learn()
    assert held.wait(30) == 255
    channel.sendall(b"here")
    assert exactly(channel, 4) == b"here"
    assert caller.refused("node1") == "Connect failed"
    assert "is locked" in jump.event("TSC01W").facts["reason"]
    caller.close()


def test_a_change_of_roles_cuts_ways(jump: JumpHouse, held: subprocess.Popen[bytes]) -> None:
    jump.learn(roles=[])
    assert held.wait(30) == 255
    assert jump.event("T2006I", reason="no role allows any login here")


def test_after_the_user_ca_was_rotated_open_ways_stay_and_none_is_added(
    jump: JumpHouse, echo: Echo
) -> None:
    caller = Caller(jump)
    channel = caller.open("echo")
    exactly(channel, len(GREETING))
    new = PaperCluster(jump.cluster.name).user_ca.public
    old = jump.cluster.user_ca.public
    jump.learn(ssh_user_cas=[new.ssh_key, old.ssh_key], user_cas=[new.tls_cert, old.tls_cert])
    caller.open("echo").close()
    jump.learn(ssh_user_cas=[new.ssh_key], user_cas=[new.tls_cert])
    assert caller.refused("echo") == "Connect failed"
    channel.sendall(b"here")
    assert exactly(channel, 4) == b"here"
    caller.close()
    done = jump.ssh("-J", "jump", f"{ME}@node1", "true")
    assert "Permission denied (publickey)" in said(done)
    jump.learn()


def test_a_host_that_is_locked_lets_nobody_in(jump: JumpHouse) -> None:
    jump.locks = [a_lock(Target.NODE, jump.papers.id)]
    jump.learn()
    try:
        assert "Permission denied" in said(jump.ssh("-J", "jump", f"{ME}@node1", "true"))
    finally:
        jump.locks = []
        jump.learn()


def test_the_end_of_the_daemon_is_the_end_of_all_ways(house: House, tmp_path: Path) -> None:
    with jumping(tmp_path, house) as own:
        client = own.popen("-J", "jump", f"{ME}@node1", "echo up; cat")
        assert client.stdout
        assert client.stdout.readline() == b"up\n"
        own.wait(own.jump.close())
        assert client.wait(30) == 255
        eventually(lambda: not own.named("tl-jump-monitor"), seconds=30, what="it to end")


def test_it_works_on_the_loop_of_python_itself_too(house: House, tmp_path: Path) -> None:
    with jumping(tmp_path, house, loop="asyncio") as own:
        data = os.urandom(1 << 20)
        done = own.ssh("-J", "jump", f"{ME}@node1", "cat", input=data)
        assert done.stdout == data
        assert "no node" in said(own.ssh("-W", "nobody:22", "jump"))
        client = own.popen("-J", "jump", f"{ME}@node1", "echo up; cat")
        assert client.stdout
        assert client.stdout.readline() == b"up\n"
        own.locks = [a_lock(Target.USER, "alice")]
        own.learn()
        assert client.wait(30) == 255


def test_a_zygote_that_dies_is_told(house: House, tmp_path: Path) -> None:
    with jumping(tmp_path, house) as own:
        os.kill(own.born.pid, 9)
        eventually(lambda: own.lost, seconds=30, what="the loss to be told")


def test_a_tunnelled_node_is_reached_with_the_client_s_address(
    house: House, tmp_path: Path
) -> None:
    """And what it hears is what the client says: nothing is added on the way."""
    with jumping(tmp_path, house) as own:
        own.add(replace_route(own.hosts[0], address=""))
        own.wait(own.tunnels.add(house.host.id, _relay(house.port)))
        done = own.ssh("-J", "jump", f"{ME}@node1", "echo through the tunnel")
        assert done.stdout == b"through the tunnel\n"
        assert own.tunnels.opened[0][0] == "127.0.0.1"
        assert own.event("TSC01I").facts["via"] == "tunnel"


def replace_route(route: Route, **changes: Any) -> Route:
    return Route(**{**_fields(route), **changes})


def _relay(port: int) -> int:
    """The node greets at once, and a paper tunnel would miss it: this one waits for the client."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        left, _ = listening.accept()
        listening.close()
        first = left.recv(65536)
        right = socket.create_connection(("127.0.0.1", port))
        right.sendall(first)

        def copy(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=copy, args=(right, left), daemon=True)
        back.start()
        copy(left, right)
        back.join(30)
        left.close()
        right.close()

    threading.Thread(target=serve, daemon=True).start()
    return int(listening.getsockname()[1])
