"""Who stays outside of the jump host, and what somebody finds who has taken over its worker."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from teleport_lite.node.confine import worker_account
from teleport_lite.node.settings import Settings
from teleport_lite.testing.certs import PaperCluster, options, ssh_signature
from tests.node.house import ME, REPO, House
from tests.node.test_isolation import memory, parent, raw_private, status
from tests.pki import forgeries
from tests.pki.forgeries import MATRIX
from tests.pki.sshd import RawClient, RawKey
from tests.proxy.jump_house import PROXY, JumpHouse, jumping
from tests.support import eventually

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may look into other processes")
FORCED = {name for name in MATRIX if MATRIX[name].ours and "forced" in name}
# A jump host asks for no login, so it does not matter which one the certificate is for.
NO_MATTER = {"another principal"}


class Session:
    def __init__(self, jump: JumpHouse) -> None:
        before = set(jump.named("tl-jump-worker"))
        self.client = jump.popen("-J", "jump", f"{ME}@node1", "echo up; cat")
        assert self.client.stdout
        assert self.client.stdout.readline() == b"up\n"
        [self.worker] = set(jump.named("tl-jump-worker")) - before
        self.monitor = parent(self.worker)

    def end(self) -> None:
        self.client.communicate(timeout=30)


@as_root
def test_the_worker_has_nothing(jump: JumpHouse) -> None:
    session = Session(jump)
    names = set(jump.processes().values())
    assert names == {"tl-jump-zygote", "tl-jump-signer", "tl-jump-monitor", "tl-jump-worker"}
    facts = status(session.worker)
    settings = Settings(data_dir=jump.data_dir)
    nobody = worker_account(settings.worker_accounts, jump.data_dir)
    own = str(0x70000000 + session.worker)  # not even other workers are the same user
    assert facts["Uid"].split() == [own] * 4
    assert facts["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert facts["Groups"] == ""
    assert facts["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(facts[kind], 16) == 0
    kinds = [str(fd.readlink()) for fd in Path(f"/proc/{session.worker}/fd").iterdir()]
    # Null three times, the client, the monitor, and the way to the node.
    assert sum(kind.startswith("socket:") for kind in kinds) == 3
    assert kinds.count("/dev/null") == 3
    assert len(kinds) == 6
    session.end()


@as_root
def test_the_host_key_is_in_the_signer_and_nowhere_else(jump: JumpHouse) -> None:
    session = Session(jump)
    pem = jump.papers.ssh_private.reveal()
    middle = "".join(pem.split("\n")[2:4])[:60].encode()
    needles = (middle, raw_private(pem))
    for pid, name in jump.processes().items():
        found = any(needle in memory(pid) for needle in needles)
        assert found is (name == "tl-jump-signer"), name
    session.end()


@as_root
def test_nobody_of_the_family_holds_what_is_said_in_a_session(jump: JumpHouse) -> None:
    """It is encrypted between the client and the node; a proxy that is taken over hears noise."""
    session = Session(jump)
    secret = b"correct horse battery staple"
    assert session.client.stdin
    assert session.client.stdout
    session.client.stdin.write(secret + b"\n")
    session.client.stdin.flush()
    assert session.client.stdout.readline() == secret + b"\n"
    for pid, name in jump.processes().items():
        assert secret not in memory(pid), name
    session.end()


def test_a_worker_that_dies_takes_only_its_own_connection(jump: JumpHouse) -> None:
    one, two = Session(jump), Session(jump)
    os.kill(one.worker, 9)
    assert one.client.wait(30) == 255
    eventually(lambda: len(jump.sessions) == 1, seconds=30, what="its way to end")
    two.end()


# --- certificates


def refused(jump: JumpHouse, papers: Any) -> str:
    """Why, as the trail has it; the client hears nothing of it."""
    del jump.events[:]
    done = jump.ssh("-W", "node1:22", "jump", papers=papers)
    assert b"Permission denied (publickey)" in done.stderr
    plain = "a plain key, and only certificates are accepted"

    def told() -> list[str]:
        found = [each.facts["reason"] for each in jump.events if each.code == "T3007W"]
        return found if plain in found else []

    return eventually(told, seconds=30, what="the refusal in the trail")[0]


def test_a_good_certificate_gets_in_whatever_the_login(jump: JumpHouse) -> None:
    """Else every test below would pass for no reason."""
    for login in ("anybody", "root", "Jane.Doe@example.com", "x" * 200):
        client = RawClient(jump.port)
        case = MATRIX["plain and right"]
        jump.learn(ssh_user_cas=forgeries.trusted_lines().splitlines())
        assert client.accepts(RawKey(case.algorithm, case.blob(ME), case.sign), login)
        client.close()
    jump.learn()


def test_those_who_are_not_let_in(jump: JumpHouse) -> None:
    past = PaperCluster(now=jump.cluster.now - timedelta(hours=2))
    past.authority = jump.cluster.authority
    expired = past.user(logins=(ME,), life=timedelta(hours=1))
    assert refused(jump, expired) == "expired or not yet valid"
    assert refused(jump, PaperCluster().user(logins=(ME,))) == "signed by a CA we do not trust"
    elsewhere = jump.cluster.user(logins=(ME,), source_address="192.0.2.0/24")
    assert refused(jump, elsewhere) == "not from 127.0.0.1"
    assert refused(jump, jump.cluster.user(logins=())) == "no principal is a login"
    plain = replace(jump.cluster.user(logins=(ME,)), ssh_cert="")
    assert refused(jump, plain) == "a plain key, and only certificates are accepted"
    here = jump.cluster.user(logins=(ME,), source_address="127.0.0.0/8")
    assert jump.ssh("-J", "jump", f"{ME}@node1", "true", papers=here).returncode == 0


@pytest.mark.parametrize("login", ["", "a\0b", "new\nline", "\u202eroot", "A" * 9999])
def test_a_login_that_could_not_be_told(jump: JumpHouse, login: str) -> None:
    client = RawClient(jump.port)
    forged = jump.cluster.forgery(forgeries.ed_key(), principals=(ME.encode(),))
    assert not client.accepts(_raw(forged), login)
    client.close()


def test_a_forced_command_leads_nowhere_else(jump: JumpHouse) -> None:
    del jump.events[:]
    critical = options((b"force-command", b"true"))
    forged = jump.cluster.forgery(forgeries.ed_key(), principals=(ME.encode(),), critical=critical)
    client = RawClient(jump.port)
    assert not client.accepts(_raw(forged))
    client.close()
    assert jump.event("T3007W", reason="a certificate with a forced command leads nowhere else")


def _raw(forged: Any) -> RawKey:
    return RawKey(forgeries.ED, forged.blob(), lambda data: ssh_signature(forged.key, data))


@pytest.fixture(scope="module")
def matrix(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JumpHouse]:
    """Trusts the CAs of the matrix."""
    with jumping(tmp_path_factory.mktemp("matrix"), house) as jump:
        jump.learn(ssh_user_cas=forgeries.trusted_lines().splitlines())
        yield jump


@pytest.mark.parametrize("name", MATRIX)
def test_the_jump_host_agrees_with_the_matrix(name: str, matrix: JumpHouse) -> None:
    case = MATRIX[name]
    client = RawClient(matrix.port)
    verdict = client.accepts(RawKey(case.algorithm, case.blob(ME), case.sign))
    client.close()
    expected = (case.ours and name not in FORCED) or name in NO_MATTER
    assert verdict is expected


def test_a_host_that_has_heard_nothing_lets_nobody_in(house: House, tmp_path: Path) -> None:
    with jumping(tmp_path, house) as own:
        (own.data_dir / "knowledge.json").unlink()
        reason = refused(own, own.cluster.user(logins=(ME,)))
        assert reason == "this host has heard nothing from auth yet"
        own.learn(locks=[{"kind": "lock", "spec": {"target": {"planet": "mars"}}}])
        assert refused(own, own.cluster.user(logins=(ME,)))
        (own.data_dir / "identity.json").unlink()
        with socket.create_connection((PROXY, own.port), timeout=30) as peer:
            assert peer.recv(100) == b""


# --- a worker that lies

LIARS = {
    "a way before any login": """
        link.send(FromWorker(open=Way(number=1, host="node1", port=22)))
        answers.append(link.receive(Reply).ok)
    """,
    "that it is logged in": """
        link._sock.send(b'{"wanted": {"number": 1, "host": "x", "port": 1, "user": "root"}}')
        answers.append(link.receive(Reply).ok)
    """,
    "as if it had a broker": """
        link._sock.send(write(ToBroker(start=Start(channel=0, command=b"id"))))
        answers.append(link.receive(Reply).ok)
    """,
    "a login without a key exchange": """
        link.send(FromWorker(login=Login(login=me, algorithm=ED, certificate=cert, signature=b"y")))
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
    "with descriptors nobody asked for": """
        socket.send_fds(link._sock, [b"{}"], [0, 1, 2])
        answers.append(link.receive(Reply).ok)
    """,
}
# After a login: it may ask, but only so much, and never twice the same.
GREEDY = {
    "a number twice": "ask(7); ask(7)",
    "the number of none": "ask(0)",
    "a negative number": "ask(-1)",
    "more than there may be": "[ask(each) for each in range(1, 40)]",
    "a word that is too long": 'ask(1, "x" * 150_000)',
    "to be somebody else": """link._sock.send(
            b'{"open": {"number": 1, "host": "x", "port": 1, "user": "root"}}')""",
    "another login": 'link.send(FromWorker(login=Login(login="a", algorithm=ED, certificate=b"")))',
}


@pytest.mark.parametrize("lie", LIARS)
def test_a_worker_that_lies_gets_nothing(tmp_path: Path, jump: JumpHouse, lie: str) -> None:
    body = textwrap.dedent(LIARS[lie])
    verdict, told = planted(tmp_path, jump, body, logged_in=False)
    assert verdict in ("answers: ", "answers: []", "answers: [False]", "answers: [False, False]")
    assert [each for each in told if each["logged_in"] or each["wanted"]] == []
    assert {each["event"]["code"] for each in told if each["event"]} <= {"T3007W"}
    assert [each["outcome"] for each in told if each["outcome"]] != []


@pytest.mark.parametrize("wish", GREEDY)
def test_a_worker_that_asks_for_too_much_is_ended(
    tmp_path: Path, jump: JumpHouse, wish: str
) -> None:
    body = GREEDY[wish] + "\nanswers.append(link.receive(Reply).ok)"
    verdict, told = planted(tmp_path, jump, body, logged_in=True)
    assert verdict in ("answers: ", "answers: []")
    wishes = [each["wanted"] for each in told if each["wanted"]]
    assert len(wishes) <= 32
    assert {each["user"] for each in wishes} <= {"alice"}
    assert len({each["number"] for each in wishes}) == len(wishes)


def test_an_expired_certificate_opens_no_new_ways(tmp_path: Path, jump: JumpHouse) -> None:
    """A connection can be kept for weeks (ControlPersist)."""
    body = "ask(1)\nreply = link.receive(Reply)\nanswers += [reply.ok, reply.reason]"
    verdict, told = planted(tmp_path, jump, body, logged_in=True, hours_later=13)
    assert verdict == "answers: [False, 'the certificate has expired']"
    assert [each for each in told if each["wanted"]] == []


def planted(
    tmp_path: Path, jump: JumpHouse, body: str, *, logged_in: bool, hours_later: int = 0
) -> tuple[str, list[dict[str, Any]]]:
    """A real monitor with a worker that does `body`: its answers, and what the daemon hears.

    Between the login and that `hours_later` pass.
    """
    script = tmp_path / "liar.py"
    words = {"logged_in": logged_in, "hours": hours_later}
    script.write_text(PLANTED.format(body=textwrap.indent(body, " " * 8), **words))
    cert = tmp_path / "cert"
    cert.write_text(jump.cluster.user(logins=(ME,)).ssh_cert)
    done = subprocess.run(
        [sys.executable, script, str(jump.data_dir), ME, str(cert)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    verdict, *lines = done.stdout.splitlines()
    return verdict, [json.loads(line) for line in lines]


PLANTED = """
import os, socket, sys
from datetime import timedelta
from pathlib import Path
from teleport_lite.ambient import SystemClock
from teleport_lite.node.jump import JumpMonitor
from teleport_lite.node.monitor import Connection
from teleport_lite.node.processes import fork_child
from teleport_lite.node.settings import Settings
from teleport_lite.node.signer import Signer
from teleport_lite.node.wire import *
from teleport_lite.pki.keys import ssh_blob
from teleport_lite.proto.codec import write

data_dir, me, cert = Path(sys.argv[1]), sys.argv[2], ssh_blob(Path(sys.argv[3]).read_text())
ED = "ssh-ed25519-cert-v01@openssh.com"


def lie(task):
    link, answers = task.monitor, []
    def ask(number, host="node1"):
        link.send(FromWorker(open=Way(number=number, host=host, port=22)))
    try:
{body}
    except EOFError:
        pass
    told.sendall(repr(answers).encode())


class Planted(JumpMonitor):
    def _start_worker(self, host):
        super()._start_worker(host)
        if {logged_in}:
            # As if the certificate had been shown and the signature were right.
            login = Login(login=me, algorithm=ED, certificate=cert)
            self._is_in(self._gate.admit(login, None))
            Later.passed = timedelta(hours={hours})


class Later(SystemClock):
    passed = timedelta()

    def now(self):
        return super().now() + self.passed


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
monitor = Planted(
    Connection(tcp=tcp, line=line, signer=ours, peer=("127.0.0.1", 1), local=("127.0.0.1", 2)),
    settings=Settings(data_dir=data_dir, grace=20, jump=True),
    clock=Later(),
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
