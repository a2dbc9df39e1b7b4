"""The door with a desk of our own behind it: one process, so that its insides can be turned."""

import contextlib
import logging
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import paramiko
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teleport_lite.net import ssh_door, ssh_wire
from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_door import Answer, Exit, Streams, Terminal
from teleport_lite.net.ssh_forwards import Arrival, Display, Opened, Target
from teleport_lite.net.ssh_hostkey import HostKey
from teleport_lite.testing.certs import PaperCluster, packed
from tests.support import eventually

YES, NO = Answer(ok=True), Answer(ok=False)
# Seconds: paramiko's own are too few for a machine with more to do.
PATIENCE = 60.0


@dataclass
class PaperDesk:
    """Says yes to everything, and runs `cat` for every command."""

    key: HostKey
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    logins: list[tuple[str, str, bytes, bytes | None]] = field(default_factory=list)
    signed: list[bytes] = field(default_factory=list)
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    idle_seconds: float = 0.0
    goodbye: str = ""
    moves: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forwards = PaperForwards(self)

    def was_idle(self) -> None:
        self.asked.append("was idle")

    def join(self, channel: int) -> Answer:
        return NO

    def moved(self, channel: int, up: int, down: int) -> None:
        self.moves.append((up, down))

    def sign(self, exchange_hash: bytes) -> bytes:
        self.signed.append(exchange_hash)
        return self.key.sign(exchange_hash)

    def login(
        self, login: str, algorithm: str, certificate: bytes, signature: bytes | None
    ) -> Answer:
        self.logins.append((login, algorithm, certificate, signature))
        return self.answers.get("login", YES)

    def watched(self) -> tuple[int, ...]:
        return tuple(child.pidfd for child in self._alive())  # type: ignore[attr-defined]  # below

    def hear(self, fd: int) -> None:
        """`ended` has the news."""

    def _alive(self) -> list[subprocess.Popen[bytes]]:
        return list(self.running.values())

    def ended(self) -> list[Exit]:
        gone = [number for number, child in self.running.items() if child.poll() is not None]
        return [Exit(channel=number, code=self._forget(number)) for number in gone]

    def _forget(self, number: int) -> int:
        child = self.running.pop(number)
        os.close(child.pidfd)  # type: ignore[attr-defined]  # below
        return child.returncode

    def ask(self, what: str) -> Answer:
        self.asked.append(what)
        return self.answers.get(what, YES)

    def terminal(self, channel: int, terminal: Terminal) -> Answer:
        return YES

    def env(self, channel: int, name: bytes, value: bytes) -> Answer:
        return YES

    def start(self, channel: int, command: bytes | None, subsystem: str = "") -> Streams | Answer:
        self.asked += [f"subsystem {subsystem}"] if subsystem else []
        pipe = subprocess.PIPE
        child = subprocess.Popen(["cat"], stdin=pipe, stdout=pipe, stderr=pipe)
        child.pidfd = os.pidfd_open(child.pid)  # type: ignore[attr-defined]  # to be watched
        self.running[channel] = child
        assert child.stdin
        assert child.stdout
        assert child.stderr
        fds = [os.dup(end.fileno()) for end in (child.stdin, child.stdout, child.stderr)]
        for end in (child.stdin, child.stdout, child.stderr):
            end.close()
        return Streams(*fds)

    def resize(self, channel: int, columns: int, rows: int, width: int, height: int) -> Answer:
        return YES

    def signal(self, channel: int, name: str) -> Answer:
        self.asked.append(f"signal {name}")
        return YES

    def close(self, channel: int) -> None:
        child = self.running.get(channel)
        if child is not None:
            child.kill()
            child.wait()
            self._forget(channel)


@dataclass
class PaperForwards:
    """Answers by the desk's answers. What is connected and who arrives, a test says."""

    desk: "PaperDesk"
    told: list[int] = field(default_factory=list)
    # With the next connection that somebody asks for, and when the desk is told of an end.
    opens: list[Opened] = field(default_factory=list)
    arrives: list[Arrival] = field(default_factory=list)
    later: list[Opened] = field(default_factory=list)
    _opened: list[Opened] = field(default_factory=list)
    _arrived: list[Arrival] = field(default_factory=list)

    def connect(self, number: int, target: Target) -> Answer:
        self._opened, self.opens = self.opens, []
        self._arrived, self.arrives = self.arrives, []
        return self.desk.ask("open direct-tcpip")

    def opened(self) -> list[Opened]:
        opened, self._opened = self._opened, []
        return opened

    def listen(self, target: Target) -> tuple[Answer, int]:
        return self.desk.ask("global tcpip-forward"), 0

    def unlisten(self, target: Target) -> Answer:
        return NO

    def arrived(self) -> list[Arrival]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def agent(self, channel: int) -> Answer:
        return NO

    def display(self, channel: int, display: Display) -> Answer:
        return NO

    def over(self, number: int, *, sent: int, received: int, reason: str) -> None:
        self.told.append(number)
        self._opened, self.later = self._opened + self.later, []


class Conversation:
    def __init__(self, papers: object = None) -> None:
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
        host = PaperCluster().host()
        self.desk = PaperDesk(HostKey(host.ssh_private))
        ours, theirs = socket.socketpair()
        self.why: list[str] = []

        def serve() -> None:
            self.why.append(
                ssh_door.serve(
                    ours, self.desk, host_public=host.ssh_public, host_cert=host.ssh_cert
                )
            )

        self.server = threading.Thread(target=serve)
        self.server.start()
        self.client = paramiko.Transport(theirs)
        client = self.client
        client.banner_timeout = client.handshake_timeout = client.auth_timeout = PATIENCE
        client.start_client(timeout=PATIENCE)

    def log_in(self) -> "Conversation":
        key = paramiko.Ed25519Key.generate() if hasattr(paramiko.Ed25519Key, "generate") else KEY
        self.client.auth_publickey("alice", key)
        return self

    def send(self, *parts: bytes) -> None:
        message = paramiko.Message()
        message.add_bytes(b"".join(parts))
        self.client._send_message(message)

    def end(self) -> str:
        """Everything is over, and nothing has come out of the server but a reason."""
        self.client.close()
        self.client.join(PATIENCE)
        self.server.join(PATIENCE)
        assert not self.server.is_alive()
        for number in list(self.desk.running):
            self.desk.close(number)
        return self.why[0]


KEY = paramiko.RSAKey.generate(2048)


@pytest.fixture
def talk() -> Iterator[Conversation]:
    talk = Conversation()
    yield talk
    with contextlib.suppress(Exception):
        talk.end()


def test_the_desk_gets_the_key_as_it_was_offered(talk: Conversation) -> None:
    talk.log_in()
    [(login, algorithm, blob, signature)] = talk.desk.logins
    assert (login, algorithm) == ("alice", "rsa-sha2-512")
    assert blob == KEY.asbytes()
    assert signature is not None
    # Over what RFC 4252 says, with the hash of the first key exchange as session id.
    signed = b"".join(
        (
            packed(talk.desk.signed[0]),
            b"\x32",
            packed(b"alice"),
            packed(b"ssh-connection"),
            packed(b"publickey"),
            b"\1",
            packed(b"rsa-sha2-512"),
            packed(blob),
        )
    )
    assert KEY.verify_ssh_sig(signed, paramiko.Message(signature))


def test_a_desk_that_says_no_is_obeyed(talk: Conversation) -> None:
    talk.desk.answers["login"] = NO
    with pytest.raises(paramiko.AuthenticationException):
        talk.log_in()
    assert not talk.client.is_authenticated()


def test_the_last_no_ends_the_connection(talk: Conversation) -> None:
    talk.desk.answers["login"] = Answer(ok=False, last=True)
    with pytest.raises(paramiko.SSHException):
        talk.log_in()
    eventually(lambda: not talk.client.is_active(), what="the server to hang up")


def test_every_channel_and_global_request_is_put_to_the_desk(talk: Conversation) -> None:
    talk.log_in()
    talk.desk.answers["open direct-tcpip"] = Answer(ok=False, reason="no forwarding")
    talk.desk.answers["global tcpip-forward"] = NO
    with pytest.raises(paramiko.ChannelException):
        talk.client.open_channel("direct-tcpip", ("h", 1), ("h", 2), timeout=PATIENCE)
    assert talk.client.global_request("tcpip-forward", ("", 0)) is None
    channel = talk.client.open_session(timeout=PATIENCE)
    channel.invoke_subsystem("sftp")
    with pytest.raises(paramiko.SSHException):
        talk.client.open_session(timeout=PATIENCE).invoke_subsystem("")
    assert talk.desk.asked == [
        "open direct-tcpip",
        "global tcpip-forward",
        "open session",
        "subsystem sftp",
        "open session",
    ]


def test_a_yes_of_the_desk_is_not_enough_for_what_the_door_cannot_do(talk: Conversation) -> None:
    talk.log_in()
    with pytest.raises(paramiko.ChannelException):
        talk.client.open_channel("x11", src_addr=("h", 1), timeout=PATIENCE)


def test_news_that_come_with_an_answer_are_heard(
    talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody arrives for whom there is no room. While the desk is told, it hears that another
    connection has failed, and no descriptor tells of it any more."""
    talk.log_in()
    monkeypatch.setattr(policy, "MAX_CHANNELS", 1)
    ours, theirs = socket.socketpair()
    forwards, nowhere = talk.desk.forwards, Target(host=b"h", port=1)
    arrival = Arrival(number=-1, kind="tcp", at=nowhere, host="h", port=2, sock=theirs)
    forwards.arrives, forwards.later = [arrival], [Opened(number=1, sock=None, reason="late")]
    with pytest.raises(paramiko.ChannelException):
        talk.client.open_channel("direct-tcpip", ("h", 1), ("h", 2), timeout=PATIENCE)
    assert forwards.told == [-1]
    ours.close()


def test_the_desk_hears_of_an_end_that_the_client_does_not_confirm(talk: Conversation) -> None:
    talk.log_in()
    ours, theirs = socket.socketpair()
    talk.desk.forwards.opens = [Opened(number=1, sock=theirs)]
    channel = talk.client.open_channel("direct-tcpip", ("h", 1), ("h", 2), timeout=PATIENCE)
    heard = threading.Event()
    # A client that says its last and then nothing: CLOSE would be the answer to ours.
    table = talk.client._channel_handler_table
    talk.client._channel_handler_table = {**table, 97: lambda _channel, _message: heard.set()}
    ours.shutdown(socket.SHUT_WR)
    assert channel.recv(1) == b""
    channel.shutdown_write()
    assert heard.wait(PATIENCE)
    eventually(lambda: talk.desk.forwards.told == [1], what="the desk to hear of it")
    ours.close()


def test_no_more_sessions_means_none(talk: Conversation) -> None:
    talk.log_in()
    talk.client.open_session(timeout=PATIENCE)
    talk.client.global_request("no-more-sessions@openssh.com", wait=True)
    with pytest.raises(paramiko.ChannelException):
        talk.client.open_session(timeout=PATIENCE)


def test_the_server_renews_its_keys_in_the_middle_of_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every 100 kB, while data flows both ways and channels come and go."""
    monkeypatch.setattr(ssh_wire.Wire, "REKEY_BYTES", 100_000)
    talk = Conversation().log_in()
    data = os.urandom(3_000_000)
    channel = talk.client.open_session(timeout=PATIENCE)
    channel.exec_command("cat")
    heard: list[bytes] = []

    def listen() -> None:
        while more := channel.recv(65536):
            heard.append(more)

    listener = threading.Thread(target=listen)
    listener.start()
    for at in range(0, len(data), 300_000):
        channel.sendall(data[at : at + 300_000])
        other = talk.client.open_session(timeout=PATIENCE)
        other.exec_command("cat")
        other.sendall(b"beside")
        assert other.recv(6) == b"beside"
        other.close()
    channel.shutdown_write()
    listener.join(PATIENCE)
    assert b"".join(heard) == data
    assert channel.recv_exit_status() == 0
    assert len(talk.desk.signed) > 10
    assert talk.end() == ""


def test_a_reason_is_given_for_an_unusual_end(talk: Conversation) -> None:
    talk.log_in()
    talk.send(b"\x5a", struct.pack(">I", 0xFFFFFFFF))
    eventually(lambda: talk.why, what="the server to end")
    assert talk.why == ["message 90 can not be read: truncated"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.integers(80, 100) | st.integers(0, 255), st.binary(max_size=60)),
        min_size=1,
        max_size=8,
    )
)
def test_any_messages_after_the_login_end_in_peace(messages: list[tuple[int, bytes]]) -> None:
    talk = SHARED.get()
    channel = None
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        channel = talk.client.open_session(timeout=PATIENCE)
        number = struct.pack(">I", channel.remote_chanid)
        for kind, rest in messages:
            talk.send(bytes([kind]), number if 93 <= kind <= 98 else b"", rest)
        channel.close()
    talk.server.join(0.02)
    if not talk.server.is_alive() or not talk.client.is_active():
        # It may end, but only by its own decision, in a word.
        assert len(talk.end()) < 200
        SHARED.renew()


class _Shared:
    """A connection costs a key exchange; one is used until somebody breaks it."""

    def __init__(self) -> None:
        self._talk: Conversation | None = None

    def get(self) -> Conversation:
        if self._talk is None:
            self._talk = Conversation().log_in()
        return self._talk

    def renew(self) -> None:
        self._talk = None

    def close(self) -> None:
        if self._talk is not None:
            self._talk.end()
            self._talk = None


SHARED = _Shared()


@pytest.fixture(scope="module", autouse=True)
def _close_shared() -> Iterator[None]:
    yield
    SHARED.close()
