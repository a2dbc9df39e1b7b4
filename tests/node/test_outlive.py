"""Connections and daemons: either goes on without the other, and the next daemon finds them all."""

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from teleport_lite.ambient import SystemClock
from teleport_lite.audit.spool import Spool
from teleport_lite.model.lock import Target
from teleport_lite.net.ssh_line import SOCKET, FromMonitor, Hello
from teleport_lite.proto.codec import write
from teleport_lite.proto.stream import AgentEvent, LiveSession
from tests.node.house import House, running
from tests.support import eventually

# Of a session with a command, in order.
_STORY = ["T3007I", "T2000I", "T3002I", "T2004I"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with running(tmp_path) as house:
        yield house


def kill_daemon(house: House) -> None:
    house.daemon.kill()
    house.daemon.wait(60)
    assert house.daemon.stdin
    assert house.daemon.stdout
    house.daemon.stdin.close()
    house.daemon.stdout.close()


def session(house: House, command: str = "echo up; cat") -> "subprocess.Popen[bytes]":
    """One that the daemon has heard of: its first words may be here before the news of it."""
    before = started(house)
    client = house.visitor().start(command)
    assert client.stdout
    assert client.stdout.readline() == b"up\n"
    eventually(lambda: started(house) > before and open_sessions(house), what="news of a session")
    return client


def started(house: House) -> int:
    return [event["code"] for event in house.events()].count("T2000I")


def end(client: "subprocess.Popen[bytes]") -> None:
    client.communicate(b"", timeout=60)
    assert client.returncode == 0


def open_sessions(house: House) -> list[str]:
    house.tell("sessions")
    return list(house.hear()["sessions"])


def spooled(house: House) -> list[AgentEvent]:
    taken = Spool(house.data_dir, SystemClock()).take()
    return [] if taken is None else taken.events


def test_open_sessions_are_listed_until_they_end(house: House) -> None:
    client = session(house)
    assert open_sessions(house) == ["echo up; cat"]
    end(client)
    eventually(lambda: open_sessions(house) == [], what="the session to leave the list")


def test_the_next_daemon_hears_who_is_inside_and_how_it_ends(house: House) -> None:
    client = session(house)
    kill_daemon(house)
    house.start()
    eventually(lambda: open_sessions(house) == ["echo up; cat"], what="the session to come back")
    assert house.counters()["connections"] == 1
    assert house.counters()["without_login"] == 0
    end(client)
    assert house.event("T2004I")["facts"]["exitCode"] == "0"
    assert spooled(house) == []
    eventually(lambda: house.counters()["connections"] == 0, what="the connection to be over")


def test_what_nobody_hears_waits_on_disk_in_order(house: House) -> None:
    client = session(house)
    kill_daemon(house)
    end(client)
    eventually(lambda: not house.named("tl-ssh-monitor"), what="the monitor to end")
    codes = [event.code for event in spooled(house)]
    assert [code for code in codes if code in _STORY] == _STORY[2:]


def test_what_was_told_while_the_daemon_closes_is_heard_or_kept(house: House) -> None:
    """Nothing may fall between the last look of the one and the first of the other."""
    client = session(house)
    house.daemon.send_signal(signal.SIGSTOP)
    end(client)
    eventually(lambda: not house.named("tl-ssh-monitor"), what="the monitor to end")
    house.daemon.send_signal(signal.SIGCONT)
    house.tell("close")
    assert house.hear() == {"closed": True}
    codes = [event["code"] for event in house.events()]
    codes += [event.code for event in spooled(house)]
    assert sorted(code for code in codes if code in _STORY) == sorted(_STORY)


def test_a_session_of_an_earlier_daemon_is_cut_at_the_word_of_the_next(tmp_path: Path) -> None:
    """At its word, for by itself the monitor would look after an hour."""
    with running(tmp_path, settings={"recheck_every": 3600.0}) as house:
        client = session(house)
        kill_daemon(house)
        house.start()
        eventually(lambda: house.counters()["connections"] == 1, what="the monitor to come back")
        house.lock(Target.USER, "alice")
        house.tell("recheck")
        assert client.wait(60) == 255
        assert house.event("T2004I")["facts"]["reason"]


def test_connections_of_earlier_daemons_count_for_their_source(tmp_path: Path) -> None:
    with running(tmp_path, limits={"connections_per_source": 1}) as house:
        client = session(house)
        kill_daemon(house)
        house.start()
        eventually(lambda: house.counters()["connections"] == 1, what="the monitor to come back")
        assert house.ssh("true").returncode == 255
        assert house.counters()["dropped_full"] == 1
        end(client)


def test_where_monitors_come_back_to_is_for_root_alone(house: House) -> None:
    found = (house.data_dir / SOCKET).lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(house.data_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "word",
    [b"", b"{", write(FromMonitor(note="no hello")), b"x" * 70_000],
    ids=["nothing", "no message", "no hello", "too long"],
)
def test_who_says_no_hello_is_hung_up_on(house: House, word: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(60)
        line.connect(str(house.data_dir / SOCKET))
        line.send(word)
        if not word:
            line.shutdown(socket.SHUT_WR)
        assert line.recv(10) == b""
    assert house.counters()["connections"] == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_somebody_else_at_the_socket_is_not_believed(house: House) -> None:
    """Permissions keep them out; if those fail, the kernel still says who they are."""
    for path in (house.directory, *house.directory.parents[:-1], house.data_dir):
        path.chmod(path.stat().st_mode | 0o011)
    (house.data_dir / SOCKET).chmod(0o666)
    live = LiveSession(
        sid="s", user="eve", login="eve", started=0.0, addr="", command="none of ours"
    )
    hello = Hello(peer=("192.0.2.1", 1), local=("192.0.2.2", 2), logged_in=True, sessions=[live])
    code = """
import socket, sys
line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
line.connect(sys.argv[1])
try:
    line.send(sys.argv[2].encode())
    sys.exit(0 if line.recv(10) == b"" else 3)
except OSError:
    sys.exit(0)
"""
    words = [str(house.data_dir / SOCKET), write(FromMonitor(hello=hello)).decode()]
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, *words],
        user=65534,
        group=65534,
        extra_groups=[],
        timeout=30,
    )
    assert done.returncode == 0
    assert open_sessions(house) == []


def test_nothing_is_imported_after_the_fork(tmp_path: Path) -> None:
    """The file that the code came from may be replaced or gone by then."""
    names = tmp_path / "imported"
    names.write_bytes(bytes(1 << 16))
    with running(tmp_path, watch_imports=str(names)) as house:
        visitor = house.visitor()
        data = os.urandom(300_000)
        done = visitor.ssh("cat", input=data, options=["-oRekeyLimit=64K"])
        assert done.stdout == data
        tty = visitor.ssh("stty size; exit 3", options=["-tt"])
        assert tty.returncode == 3
        batch = f"put {names} {tmp_path}/there\nls {tmp_path}\n".encode()
        sftp = ["sftp", *visitor.command()[1:-3], "-b", "-", "-P", str(house.port)]
        subprocess.run(
            [*sftp, visitor.command()[-3]],
            input=batch,
            check=True,
            timeout=60,
            capture_output=True,
        )
        refused = house.visitor(house.cluster.user(logins=("nobody-of-ours",)))
        assert refused.ssh("true").returncode == 255
        with socket.create_connection(("127.0.0.1", house.port)) as odd:
            odd.sendall(b"SSH-2.0-odd\r\n" + bytes(64))
            with suppress(ConnectionError):
                while odd.recv(4096):
                    pass
        session(house)
        kill_daemon(house)
        house.start()
        eventually(lambda: house.counters()["connections"] == 1, what="the monitor to come back")
        house.lock(Target.USER, "alice")
        house.tell("recheck")
        eventually(lambda: not house.named("tl-ssh-monitor"), what="everything to end")
    size = int.from_bytes(names.read_bytes()[:4], "big")
    imported = {line.split()[0] for line in names.read_bytes()[4:size].decode().splitlines()}
    assert imported == {"no_such_module"}  # the watch's own trial, at each fork
