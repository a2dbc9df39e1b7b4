"""Between the processes of a node: what workers and brokers may make a monitor do, which is root.

The worker may be in the hands of a stranger, the broker belongs to the login user. Neither is
believed (docs/ssh.md).
"""

import atexit
import json
import select
import shutil
import socket
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from teleport_lite.agent import knowledge
from teleport_lite.errors import Denied, Error, Malformed
from teleport_lite.model.user import JoinMode
from teleport_lite.net.ssh_line import MAX_SAID, FromMonitor
from teleport_lite.node import file_story
from teleport_lite.node import monitor as monitors
from teleport_lite.node.file_story import FileStory
from teleport_lite.node.files import Messages
from teleport_lite.node.forward_wire import Happened
from teleport_lite.node.gate import Admitted, Gate, Welcome, signed_login
from teleport_lite.node.monitor import Connection, Monitor
from teleport_lite.node.settings import Settings
from teleport_lite.node.wire import (
    MAX_PACKET,
    FileOp,
    FromBroker,
    FromSigner,
    FromWorker,
    Link,
    Login,
    Moved,
    Reply,
    SessionEnded,
    SessionStarted,
    Sign,
    ToSigner,
)
from teleport_lite.proto.codec import read, write
from teleport_lite.proto.stream import Knowledge
from teleport_lite.testing.certs import options, ssh_signature
from teleport_lite.testing.fakes import FakeClock
from tests.fuzz.of_keys import CERT
from tests.fuzz.of_keys import FORGERY as KEY_FORGERY
from tests.fuzz.ssh_rig import ALGORITHM, CLUSTER, HOST
from tests.fuzz.target import Finding, Pieces, any_of, framed, target

SID = "c52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
_ROLE = {
    "kind": "role",
    "version": "v7",
    "metadata": {"name": "access"},
    "spec": {
        "allow": {"logins": ["root"], "node_labels": {"*": "*"}},
        "options": {"max_sessions": 2},
    },
}
_KNOWN: dict[str, Any] = {
    "cluster": CLUSTER.name,
    "serial": 1,
    "host_cas": CLUSTER.host_cas,
    "ssh_host_cas": [CLUSTER.host_ca.public.ssh_key],
    "ssh_user_cas": [CLUSTER.user_ca.public.ssh_key],
    "user_cas": CLUSTER.user_cas,
    "roles": [_ROLE],
    "locks": [],
}
_LOCK = {
    "kind": "lock",
    "version": "v2",
    "metadata": {"name": "l"},
    "spec": {"target": {"user": "mallory"}},
}


@cache
def _data_dir() -> Path:
    """Kept for the whole run: a monitor only reads there."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    knowledge.save(place, Knowledge(**_KNOWN))
    knowledge.save_labels(place, {"env": "prod"})
    return place


class Line:
    """To the daemon: it takes everything."""

    def __init__(self) -> None:
        self.said: list[FromMonitor] = []

    def send(self, raw: bytes, *flags: int) -> int:
        self.said.append(read(FromMonitor, raw, limit=MAX_SAID))
        return len(raw)

    def settimeout(self, seconds: float) -> None: ...

    def fileno(self) -> int:
        return -1


class _Signer:
    def set_timeout(self, seconds: float) -> None: ...

    def send(self, asked: ToSigner) -> None: ...

    def receive(self, kind: object) -> FromSigner:
        return FromSigner(signature=b"signature")


class _Watched(Monitor):
    """Lets nobody in: what follows would be processes."""

    def _let_in(self, link: Link, welcome: Admitted) -> None:
        self._welcome = welcome
        self._stay.begin(cast(Welcome, welcome))


def a_monitor(line: Line) -> _Watched:
    connection: Any = Connection(
        tcp=cast(socket.socket, None),
        line=cast(socket.socket, line),
        signer=cast(Link, _Signer()),
        peer=("192.0.2.7", 4000),
        local=("192.0.2.1", 3022),
    )
    clock, family = FakeClock(CLUSTER.now), monitors.Family
    monitors.Family = Nobody  # type: ignore[misc,assignment]  # it would handle signals
    try:
        monitor = _Watched(connection, settings=Settings(data_dir=_data_dir()), clock=clock)
    finally:
        monitors.Family = family  # type: ignore[misc]
    monitor._gate = Gate(data_dir=_data_dir(), host_id=HOST.id, peer_ip="192.0.2.7", clock=clock)
    return monitor


_HASH = bytes(32)


def _login(certificate: bytes, signature: bytes | None = None) -> Login:
    return Login(
        login="root", algorithm=ALGORITHM.decode(), certificate=certificate, signature=signature
    )


def _good() -> Login:
    asked = _login(FORGERY.blob())
    signature = ssh_signature(FORGERY.key, signed_login(_HASH, asked))
    return _login(FORGERY.blob(), signature)


FORGERY = replace(
    KEY_FORGERY,
    extensions=options((b"teleport-roles", b'{"version":"v1","roles":["access"]}')),
    valid_before=int(CLUSTER.now.timestamp()) + 3600,
)
WORKERS = [
    FromWorker(sign=Sign(exchange_hash=_HASH)),
    FromWorker(login=_login(FORGERY.blob())),
    FromWorker(login=_login(CERT, b"signature")),
    FromWorker(last_words="worker failed"),
    FromWorker(idle=True),
]


@target(
    seeds=lambda: [framed(*map(write, WORKERS)), framed(*map(write, WORKERS[:3]))],
    parts=lambda: any_of(list(map(write, WORKERS))).map(framed),
    most=8192,
)
def worker_to_monitor(data: bytes) -> None:
    """Before the login: whatever it says, nobody is let in without a signature."""
    line, pieces = Line(), Pieces(data)
    monitor = a_monitor(line)
    ours, theirs = Link.pair()
    theirs.set_timeout(1.0)
    try:
        while pieces and (words := pieces.text()):
            theirs._sock.send(words)
            monitor._hear_worker(ours)
            if monitor._welcome is not None:
                raise Finding("let in")
            while select.select([theirs], [], [], 0)[0]:
                theirs.receive(Reply)
    except Denied as why:
        raise Malformed(why.message) from why
    finally:
        ours.close()
        theirs.close()
    _check_words(line)


def _check_words(line: Line) -> None:
    for said in line.said:
        if said.event is not None and any(len(each) > 4200 for each in said.event.facts.values()):
            raise Finding(f"a long story: {said.event.kind}")


class Nobody:
    """Family, recorder and lodging: their part is to open files, and to start processes."""

    def __init__(self, *_args: object) -> None: ...

    def is_recorded(self, sid: str) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_more: None


BROKERS = [
    FromBroker(started=SessionStarted(sid=SID, command=None, pty=True, tty="/dev/pts/3", pid=9)),
    FromBroker(started=SessionStarted(sid=SID, command="ls", pty=False)),
    FromBroker(ended=SessionEnded(sid=SID, code=0)),
    FromBroker(ended=SessionEnded(sid=SID, code=None, signal="TERM")),
    FromBroker(file=FileOp(sid=SID, action="close", path="/a", read=1 << 62, written=1)),
    FromBroker(file=FileOp(sid=SID, action="rename", path="/a", target="/b", error="Failure")),
    FromBroker(happened=Happened(what="port", facts={"addr": "localhost:80", "sent": "1"})),
]

MOVED = FromWorker(moved=Moved(channel=-1, up=1 << 40, down=7))


@target(
    seeds=lambda: [framed(*map(write, [*BROKERS, MOVED])), framed(*map(write, BROKERS[1:]))],
    parts=lambda: any_of(list(map(write, [*BROKERS, MOVED]))).map(framed),
    most=8192,
)
def broker_to_monitor(data: bytes) -> None:
    """After it: the user's own process tells the monitor what has happened, and the worker how
    much was moved."""
    line, pieces = Line(), Pieces(data)
    monitor = a_monitor(line)
    monitor._lodging = cast(Any, Nobody())
    ours, theirs = Link.pair()
    try:
        while pieces and (words := pieces.text()):
            theirs._sock.send(words)
            if words.startswith(b'{"sign"'):
                monitor._recorder.hear(ours, FromWorker(moved=ours.receive(FromWorker).moved))
            else:
                monitor._hear_broker(ours)
    finally:
        ours.close()
        theirs.close()
    monitor._recorder.files.sum()
    monitor._recorder._counts.close()
    monitor._story.ended_all("over")
    _check_words(line)


class _Told(Gate):
    """Whose knowledge is what was just read."""

    told: Knowledge

    def _known(self) -> Knowledge:
        return self.told


@target(
    raises=(Error,),
    seeds=lambda: [
        json.dumps(_KNOWN).encode(),
        json.dumps(_KNOWN | {"locks": [_LOCK], "roles": [_ROLE, {}]}).encode(),
    ],
    most=8192,
)
def what_a_gate_knows(data: bytes) -> None:
    """Roles and locks as auth has sent them: a login, and another look at it, are decided."""
    clock = FakeClock(CLUSTER.now)
    gate = _Told(data_dir=_data_dir(), host_id=HOST.id, peer_ip="192.0.2.7", clock=clock)
    gate.told = read(Knowledge, data, limit=1 << 20)
    admitted = gate.admit(_good(), _HASH)
    gate.decide_again(admitted.visitor)
    gate.may_join("bob", ["access"], mode=JoinMode.PEER, owner=admitted.visitor)


_SFTP = [
    b'open "/home/a/x" flags READ mode 0666\r\n',
    b'close "/home/a/x" bytes read 10 written 0\r\n',
    b'forced close "/home/a/x" bytes read 0 written 18446744073709551616\r\n',
    b"sent status No such file\r\n",
    b'rename old "/a" new "/b\\302\\240\\\\"\r\n',
    b'set "/a" mode 0644\r\n',
    b'remove name "/a" new "\r\n',
    b'process_write: write "/a": No space left on device\r\n',
    b"a line of the shell's\n",
]


@target(
    raises=(),
    seeds=lambda: [framed(*_SFTP), framed(*_SFTP[:2])],
    parts=lambda: any_of(_SFTP).map(framed),
)
def sftp_log(data: bytes) -> None:
    """What sftp-server logs, with names that people choose; and commands that may be scp's."""
    messages, pieces = Messages(SID), Pieces(data)
    story = FileStory(cast(Any, Nobody()))
    while pieces:
        line = pieces.text()
        done, ours = messages.feed(line)
        if not ours and (done or line.endswith(b"\r\n")):
            raise Finding("somebody else's words")
        for op in done + messages.flush():
            if not (op.path + op.target + op.error + op.flags).isprintable():
                raise Finding(f"{op} does something to a terminal")
            story.tell(read(FromBroker, write(FromBroker(file=op)), limit=MAX_PACKET).file or op)
        file_story.scp(line.decode("utf-8", "backslashreplace"))
    story.sum()
