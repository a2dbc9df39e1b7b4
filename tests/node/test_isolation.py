"""What a process that has been taken over would find, and what it could do: nothing."""

import json
import os
import pwd
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from teleport_lite.errors import Denied
from teleport_lite.node.confine import worker_account
from teleport_lite.node.settings import Settings
from tests.node.house import ME, REPO, House, Visitor, running
from tests.support import eventually

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may look into other processes")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    with running(tmp_path) as house:
        yield house


class Session:
    """A shell that is there to be looked at."""

    def __init__(self, visitor: Visitor, login: str = ME) -> None:
        command = ["echo $$; cat"]
        self.client = visitor.start(*command, login=login)
        assert self.client.stdout
        self.shell = int(self.client.stdout.readline())
        self.broker = parent(self.shell)
        self.monitor = parent(self.broker)
        # Those of others may end while we look.
        workers = visitor.house.named("tl-ssh-worker")
        self.worker = next(pid for pid in workers if parent(pid) == self.monitor)

    def echoes(self) -> bool:
        assert self.client.stdin
        assert self.client.stdout
        self.client.stdin.write(b"still here\n")
        self.client.stdin.flush()
        return self.client.stdout.readline() == b"still here\n"

    def end(self) -> int:
        self.client.communicate(timeout=60)
        return self.client.returncode


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def parent(pid: int) -> int:
    """0 for one that has ended."""
    try:
        return int(status(pid)["PPid"])
    except OSError:
        return 0


def alive(pid: int) -> bool:
    try:
        return status(pid)["State"][0] != "Z"
    except OSError:
        return False


def test_the_family_is_as_drawn(house: House) -> None:
    session = Session(house.visitor())
    names = house.processes()
    assert names[session.broker] == "tl-ssh-broker"
    assert names[session.monitor] == "tl-ssh-monitor"
    assert parent(session.monitor) == house.zygote
    assert parent(session.worker) == session.monitor
    assert names[house.zygote] == "tl-ssh-zygote"
    session.end()


@as_root
def test_the_worker_has_nothing(house: House) -> None:
    session = Session(house.visitor())
    facts = status(session.worker)
    settings = Settings(data_dir=house.data_dir)
    nobody = worker_account(settings.worker_accounts, house.data_dir)
    own = str(0x70000000 + session.worker)  # not even other workers are the same user
    assert facts["Uid"].split() == [own] * 4
    assert facts["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert facts["Groups"] == ""
    assert facts["NoNewPrivs"] == "1"
    assert facts["Threads"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(facts[kind], 16) == 0
    limits = Path(f"/proc/{session.worker}/limits").read_text()
    for name in ("Max processes", "Max file size", "Max core file size"):
        line = next(line for line in limits.splitlines() if line.startswith(name))
        assert line.removeprefix(name).split()[:2] == ["0", "0"]
    assert Path(f"/proc/{session.worker}/cwd").readlink() == Path("/")
    kinds = [str(fd.readlink()) for fd in Path(f"/proc/{session.worker}/fd").iterdir()]
    # Null three times, the client, the monitor, the broker and a shell's three pipes.
    assert sum(kind.startswith("socket:") for kind in kinds) == 3
    assert sum(kind.startswith("pipe:") for kind in kinds) == 3
    assert kinds.count("/dev/null") == 3
    assert len(kinds) == 9
    session.end()


@as_root
def test_a_worker_is_never_root_nor_the_owner_of_the_data(tmp_path: Path) -> None:
    """An auth service may run as teleport-lite on the same host, and own its database."""
    nobody = pwd.getpwnam("nobody")
    daemon = pwd.getpwnam("daemon")
    os.chown(tmp_path, daemon.pw_uid, daemon.pw_gid)
    candidates = ("no-such-account", "root", "daemon", "nobody")
    assert worker_account(candidates, tmp_path) == nobody
    with pytest.raises(Denied, match="no account to run SSH workers as"):
        worker_account(("root", "daemon"), tmp_path)


@as_root
def test_limits_of_a_worker_are_not_those_of_a_session(house: House, other: str) -> None:
    papers = house.cluster.user(logins=(other,))
    done = house.visitor(papers).ssh("ulimit -Hc; ulimit -Hu; ulimit -Hf; env", login=other)
    core, processes, size, *env = done.stdout.decode().split("\n")
    assert "0" not in (core, processes, size)
    assert not any(line.startswith(("PYTHON", "PYENV", "VIRTUAL_ENV")) for line in env)


@as_root
def test_the_broker_is_the_user_and_nobody_else(house: House, other: str) -> None:
    session = Session(house.visitor(house.cluster.user(logins=(other,))), login=other)
    uid = str(pwd.getpwnam(other).pw_uid)
    for pid in (session.broker, session.shell):
        assert status(pid)["Uid"].split() == [uid] * 4
        assert int(status(pid)["CapPrm"], 16) == 0
    session.end()


@as_root
def test_the_host_key_is_in_the_signer_and_nowhere_else(house: House, other: str) -> None:
    """The bytes of the private key, as it is written in the file and as it is in memory."""
    session = Session(house.visitor(house.cluster.user(logins=(other,))), login=other)
    pem = house.host.ssh_private.reveal()
    middle = "".join(pem.split("\n")[2:4])[:60].encode()
    needles = (middle, raw_private(pem))
    ours = {session.worker, session.broker, session.monitor, house.one("tl-ssh-signer")}
    for pid, name in house.processes().items():
        if not name.startswith("tl-ssh-"):
            continue
        try:
            found = any(needle in memory(pid) for needle in needles)
        except OSError:  # of a session that was about to end
            assert pid not in ours
            continue
        assert found is (name == "tl-ssh-signer"), name
        ours.discard(pid)
    assert not ours
    session.end()


def raw_private(pem: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = load_ssh_private_key(pem.encode(), None)
    return key.private_bytes_raw()  # type: ignore[union-attr]  # Ed25519


def memory(pid: int) -> bytes:
    found = []
    with open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights = line.split()[:2]
            if "r" not in rights or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(each, 16) for each in where.split("-"))
            try:
                mem.seek(start)
                found.append(mem.read(end - start))
            except OSError:
                continue
    return b"".join(found)


def test_a_worker_that_dies_takes_only_its_own_connection(house: House) -> None:
    one, two = Session(house.visitor()), Session(house.visitor())
    os.kill(one.worker, signal.SIGKILL)
    assert one.client.wait(60) == 255
    eventually(lambda: not alive(one.shell), what="its shell to end")
    assert two.echoes()
    assert house.ssh("true").returncode == 0
    two.end()


def test_a_monitor_that_dies_takes_its_worker_and_shells_along(house: House) -> None:
    session = Session(house.visitor())
    os.kill(session.monitor, signal.SIGKILL)
    assert session.client.wait(60) == 255
    for pid in (session.worker, session.broker, session.shell):
        eventually(lambda pid=pid: not alive(pid), what=f"{pid} to end")


def test_a_broker_that_is_killed_ends_the_connection(house: House) -> None:
    session = Session(house.visitor())
    os.kill(session.broker, signal.SIGKILL)
    assert session.client.wait(60) == 255
    eventually(lambda: not alive(session.monitor), what="the monitor to end")


def test_a_signer_that_dies_is_replaced(own: House) -> None:
    first = Session(own.visitor())
    signer = own.one("tl-ssh-signer")
    os.kill(signer, signal.SIGKILL)
    eventually(lambda: not alive(signer), what="the signer to end")
    assert own.ssh("true").returncode == 0
    assert first.echoes()
    first.end()


def test_sessions_outlive_the_daemon(own: House) -> None:
    session = Session(own.visitor())
    own.daemon.kill()
    own.daemon.wait(60)
    eventually(lambda: not alive(own.zygote), what="the zygote to end")
    assert session.echoes()
    # Keys are exchanged anew in the middle of it: the signer is still there for that.
    assert session.end() == 0
    eventually(lambda: not own.processes(), what="everything to end after the last session")


def test_a_rekey_works_after_the_daemon_has_gone(own: House) -> None:
    visitor = own.visitor()
    client = visitor.start("echo up; cat", options=["-oRekeyLimit=64K"])
    assert client.stdout
    client.stdout.readline()
    own.daemon.kill()
    own.daemon.wait(60)
    data = os.urandom(1 << 20)
    assert client.communicate(data, timeout=60)[0] == data


def test_a_renewed_identity_serves_new_connections_and_old_ones(own: House) -> None:
    client = own.visitor().start("echo up; cat", options=["-oRekeyLimit=64K"])
    assert client.stdout
    client.stdout.readline()
    renewed = own.cluster.host("node1", host_id=own.host.id, extra=("127.0.0.1",))
    old, own.host = own.host, renewed
    own.save_identity()
    shown = scan(own)
    assert renewed.ssh_public.split()[1] in shown
    assert old.ssh_public.split()[1] not in shown
    data = os.urandom(1 << 20)
    assert client.communicate(data, timeout=60)[0] == data


def scan(house: House) -> str:
    command = ["ssh-keyscan", "-T", "60", "-t", "ed25519", "-p", str(house.port), "127.0.0.1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=90).stdout


def test_a_client_sees_the_host_certificate_and_no_question_is_asked(house: House) -> None:
    done = house.visitor().ssh("true", options=["-oLogLevel=DEBUG", "-v"])
    assert b"Server host certificate: ssh-ed25519-cert-v01@openssh.com" in done.stderr
    assert b"remote software version OpenSSH_teleport-lite" in done.stderr
    assert b"compression: none" in done.stderr
    house.known_hosts.write_text("")
    try:
        assert b"Host key verification failed" in house.ssh("true").stderr
    finally:
        ca = house.cluster.host_ca.public.ssh_key
        house.known_hosts.write_text(f"@cert-authority * {ca}\n")


# --- a worker that lies

LIARS = {
    "that nobody was refused": """
        link.send(FromWorker(login=Login(login=me, algorithm=ED, certificate=b"x", signature=b"y")))
        answers.append(link.receive(Reply).ok)
    """,
    "that it is logged in": """
        link._sock.send(b'{"welcome": true}')
        answers.append(link.receive(Reply).ok)
    """,
    "as if the monitor were the broker": """
        link._sock.send(write(ToBroker(start=Start(channel=0, command=b"id"))))
        answers.append(link.receive(Reply).ok)
    """,
    "and wants signatures for whatever it likes": """
        link.send(FromWorker(sign=Sign(exchange_hash=b"h" * 32)))
        answers.append(not link.receive(Reply).data)
        link.send(FromWorker(sign=Sign(exchange_hash=b"i" * 32)))
        answers.append(link.receive(Reply).ok)
    """,
    "and wants a login request signed": """
        link.send(FromWorker(sign=Sign(exchange_hash=b"r" * 200)))
        answers.append(link.receive(Reply).ok)
    """,
    "with noise": """
        link._sock.send(os.urandom(1000))
        answers.append(link.receive(Reply).ok)
    """,
    "with a descriptor nobody asked for": """
        socket.send_fds(link._sock, [b"{}"], [0, 1, 2])
        answers.append(link.receive(Reply).ok)
    """,
}


@pytest.mark.parametrize("lie", LIARS)
def test_a_worker_that_lies_gets_nothing(tmp_path: Path, lie: str) -> None:
    """Planted in a real monitor, it says what it likes. `answers` must hold no yes."""
    house = House(tmp_path)
    script = tmp_path / "liar.py"
    script.write_text(PLANTED.format(body=textwrap.indent(textwrap.dedent(LIARS[lie]), " " * 8)))
    done = subprocess.run(
        [sys.executable, script, str(house.data_dir), ME],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    verdict, *lines = done.stdout.splitlines()
    # Nothing: it was killed before it could tell.
    assert verdict in ("answers: ", "answers: []", "answers: [False]", "answers: [False, False]")
    told = [json.loads(line) for line in lines]
    assert [each["logged_in"] for each in told if each["logged_in"]] == []
    assert {each["event"]["code"] for each in told if each["event"]} <= {"T3007W"}
    assert [each["outcome"] for each in told if each["outcome"]] != []


PLANTED = """
import os, socket, sys
from pathlib import Path
from teleport_lite.ambient import SystemClock
from teleport_lite.node.monitor import Connection, Monitor
from teleport_lite.node.processes import fork_child
from teleport_lite.node.settings import Settings
from teleport_lite.node.signer import Signer
from teleport_lite.node.wire import *
from teleport_lite.proto.codec import write

data_dir, me = Path(sys.argv[1]), sys.argv[2]
ED = "ssh-ed25519-cert-v01@openssh.com"
read_end, write_end = os.pipe()
os.set_inheritable(write_end, True)


def lie(task):
    link, answers = task.monitor, []
    try:
{body}
    except EOFError:
        pass
    told.sendall(repr(answers).encode())


told, hears = socket.socketpair()
control, signers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ours, theirs = Link.pair()
signer = os.fork()
if not signer:
    for end in (control, ours, theirs, told, hears):
        end.close()
    Signer(signers, data_dir).run()
    os._exit(0)
signers.close()
socket.send_fds(control, [b"+"], [theirs.fileno()])
theirs.close()
line, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
tcp, client = socket.socketpair()

import teleport_lite.node.family as module
module.fork_child = lambda title, body, keep: fork_child(title, body, [*keep, told.fileno()])
monitor = Monitor(
    Connection(tcp=tcp, line=line, signer=ours, peer=("127.0.0.1", 1), local=("127.0.0.1", 2)),
    settings=Settings(data_dir=data_dir, grace=5),
    clock=SystemClock(),
    work=lie,
)
monitor.run()
told.close()
print("answers:", hears.recv(1000).decode())
line.close()
while said := daemon.recv(65536):
    print(said.decode())
control.close()
ours.close()
os.waitpid(signer, 0)
"""
