"""Somebody who is logged in and sends what no client of good will sends."""

import contextlib
import io
import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from teleport_lite.node import commands
from teleport_lite.testing.certs import Papers, packed
from tests.node.house import ME, House, running
from tests.support import eventually

# Seconds in which whoever is not hindered answers, even on a machine with more to do.
PATIENCE = 60.0


class Client:
    """A paramiko client with raw messages: channel numbers and all are ours to choose."""

    def __init__(self, house: House, papers: Papers | None = None, *, kex: str = "") -> None:
        paramiko.util.get_logger("paramiko").setLevel(logging.CRITICAL)
        papers = papers or house.cluster.user(logins=(ME,))
        key = paramiko.Ed25519Key.from_private_key(io.StringIO(papers.ssh_private.reveal()))
        key.load_certificate(papers.ssh_cert)
        self.transport = paramiko.Transport(
            socket.create_connection(("127.0.0.1", house.port), timeout=PATIENCE)
        )
        patient(self.transport)
        if kex:
            self.transport.get_security_options().kex = (kex,)
        self.transport.start_client(timeout=PATIENCE)
        self.transport.auth_publickey(ME, key)

    def close(self) -> None:
        self.transport.close()
        self.transport.join(10)

    def send(self, *parts: bytes) -> None:
        message = paramiko.Message()
        message.add_bytes(b"".join(parts))
        self.transport._send_user_message(message)

    def request(self, channel: paramiko.Channel, kind: bytes, *rest: bytes) -> bool:
        """A channel request that wants an answer: was it granted?"""
        channel._event_pending()
        start = struct.pack(">BI", 98, channel.remote_chanid)
        self.send(start, packed(kind), b"\1", *rest)
        channel.event.wait(PATIENCE)
        return bool(channel.event_ready)

    def quietly(self, channel: paramiko.Channel, kind: bytes, *rest: bytes) -> None:
        self.send(struct.pack(">BI", 98, channel.remote_chanid), packed(kind), b"\0", *rest)


def patient(transport: paramiko.Transport) -> None:
    """Paramiko would give up after 15 seconds."""
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = PATIENCE


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    client = Client(house)
    yield client
    client.transport.close()
    client.transport.join(10)


def output(channel: paramiko.Channel) -> bytes:
    said = b""
    while more := channel.recv(65536):
        said += more
    return said


# --- what is refused, and that the refusal is clean


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("tun@openssh.com", 1, "tunnel devices are never available"),
        ("x11", 1, "X11 channels are opened by the host, not by clients"),
        ("forwarded-tcpip", 1, "not known here"),
        ("auth-agent@openssh.com", 1, "not known here"),
        ("Session", 1, "not known here"),
        ("\r\n\x1b[2J", 1, "not known here"),
    ],
)
def test_nothing_else_is_opened(client: Client, kind: str, code: int, reason: str) -> None:
    heard: list[tuple[int, str]] = []

    def refused(message: paramiko.Message) -> None:
        message.get_int()
        heard.append((message.get_int(), message.get_text()))

    client.transport._handler_table[92] = refused
    client.send(b"\x5a", packed(kind.encode()), struct.pack(">III", 7, 1 << 20, 1 << 15))
    eventually(lambda: heard, what="the refusal")
    assert heard[0][0] == code
    assert reason in heard[0][1]
    assert heard[0][1].isprintable()
    with contextlib.closing(client.transport.open_session(timeout=PATIENCE)) as channel:
        channel.exec_command("echo fine")
        assert output(channel) == b"fine\n"


@pytest.mark.parametrize(
    "kind",
    ["cancel-tcpip-forward", "keepalive@openssh.com", "tcpip-forward@nonsense", "nonsense"],
)
def test_requests_about_the_connection_are_refused(client: Client, kind: str) -> None:
    assert client.transport.global_request(kind, ("", 0), wait=True) is None
    assert client.transport.is_active()


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        (b"subsystem", packed(b"netconf")),
        (b"subsystem", packed(b"")),
        (b"auth-agent-req@openssh.com", b""),
        (b"x11-req", b"\0" + packed(b"MIT-MAGIC-COOKIE-1") + packed(b"00") + b"\0\0\0\0"),
        (b"break", b"\0\0\0\1"),
        (b"simple@putty.projects.tartarus.org", b""),
        (b"window-change", struct.pack(">IIII", 80, 24, 0, 0)),
        (b"signal", packed(b"TERM")),
    ],
)
def test_requests_that_are_not_served_are_refused(client: Client, kind: bytes, rest: bytes) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    assert not client.request(channel, kind, rest)
    again = client.transport.open_session(timeout=PATIENCE)
    again.exec_command("echo fine")
    assert output(again) == b"fine\n"


def test_a_certificate_without_permit_pty_gets_no_terminal(house: House) -> None:
    from teleport_lite.testing.certs import options, ssh_signature
    from tests.pki import forgeries
    from tests.pki.sshd import RawClient, RawKey

    allowed = options(
        (b"teleport-roles", b'{"version":"v1","roles":["access"]}'),
        (b"teleport-traits", b'{"logins":["%s"]}' % ME.encode()),
    )
    forged = house.cluster.forgery(
        forgeries.ed_key(), principals=(ME.encode(),), extensions=allowed
    )
    transport = logged_in(house, RawClient(house.port), forged, RawKey, ssh_signature)
    with pytest.raises(paramiko.SSHException):
        transport.open_session(timeout=PATIENCE).get_pty()
    channel = transport.open_session(timeout=PATIENCE)
    channel.exec_command("echo without")
    assert output(channel) == b"without\n"
    transport.close()
    transport.join(10)


def test_a_forced_command_is_what_runs(house: House) -> None:
    from teleport_lite.testing.certs import options, ssh_signature
    from tests.pki import forgeries
    from tests.pki.sshd import RawClient, RawKey

    forged = house.cluster.forgery(
        forgeries.ed_key(),
        principals=(ME.encode(),),
        critical=options((b"force-command", b"echo forced; echo $SSH_ORIGINAL_COMMAND")),
        extensions=options(
            (b"teleport-roles", b'{"version":"v1","roles":["access"]}'),
            (b"teleport-traits", b'{"logins":["%s"]}' % ME.encode()),
        ),
    )
    transport = logged_in(house, RawClient(house.port), forged, RawKey, ssh_signature)
    asked = transport.open_session(timeout=PATIENCE)
    asked.exec_command("id; echo $(date)")
    assert output(asked) == b"forced\nid; echo $(date)\n"
    shell = transport.open_session(timeout=PATIENCE)
    shell.invoke_shell()
    assert output(shell) == b"forced\n\n"
    files = transport.open_session(timeout=PATIENCE)
    files.invoke_subsystem("sftp")
    assert output(files) == b"forced\n%s\n" % commands.sftp_server()
    house.event("T2000I", command="echo forced; echo $SSH_ORIGINAL_COMMAND")
    transport.close()
    transport.join(10)


def logged_in(house, raw, forged, key_type, sign):  # type: ignore[no-untyped-def]  # test glue
    key = key_type("ssh-ed25519-cert-v01@openssh.com", forged.blob(), lambda d: sign(forged.key, d))
    transport = raw._connected()
    key.public_blob = paramiko.pkey.PublicBlob(key.algorithm, key.blob)
    transport.auth_publickey(ME, key)
    return transport


# --- signals


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1", "KILL"])
def test_a_signal_reaches_the_command_and_comes_back(client: Client, name: str) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    ends: list[str] = []
    real = client.transport._channel_handler_table[98]

    def listen(chan: paramiko.Channel, message: paramiko.Message) -> None:
        fields = paramiko.Message(message.get_remainder())
        if fields.get_text() == "exit-signal":
            fields.get_boolean()
            ends.append(fields.get_text())
        real(chan, message)

    client.transport._channel_handler_table = {
        **client.transport._channel_handler_table,
        98: listen,
    }
    channel.exec_command("echo ready; exec sleep 100")
    assert channel.recv(100) == b"ready\n"
    client.quietly(channel, b"signal", packed(name.encode()))
    eventually(lambda: ends, what="the exit signal")
    assert ends == [name]


def test_a_signal_goes_to_the_job_in_front_of_a_terminal(client: Client) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    channel.get_pty()
    channel.invoke_shell()
    channel.sendall(b"PS1=; (trap 'echo caught' USR1; echo go; sleep 3 & wait); exit 7\n")
    said = b""
    while b"go\r\n" not in said:
        said += channel.recv(1000)
    client.quietly(channel, b"signal", packed(b"USR1"))
    assert b"caught" in output(channel)
    assert channel.recv_exit_status() == 7


@pytest.mark.parametrize("name", [b"BOGUS", b"SIGTERM", b"", b"9", b"\xff\xfe", b"A" * 10_000])
def test_signals_that_do_not_exist_do_nothing(client: Client, name: bytes) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    channel.exec_command("cat")
    client.quietly(channel, b"signal", packed(name))
    channel.sendall(b"alive\n")
    assert channel.recv(100) == b"alive\n"
    channel.shutdown_write()
    assert channel.recv_exit_status() == 0


# --- sizes and numbers


def test_a_terminal_of_any_size(client: Client) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    channel.get_pty(width=4_000_000_000, height=65535)
    channel.exec_command("stty size")
    assert output(channel).strip() == b"65535 65535"


def test_modes_that_break_off_or_are_unknown(client: Client) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    modes = b"\x35\0\0\0\0" + b"\x9f\xff\xff\xff\xff" + b"\x48\0"
    sides = struct.pack(">IIII", 80, 24, 0, 0)
    assert client.request(channel, b"pty-req", packed(b"xterm"), sides, packed(modes))
    channel.exec_command("stty -a")
    assert b"-echo " in output(channel)


def test_terminal_types_that_are_none_are_dropped(client: Client) -> None:
    for term in (b"../../evil", b"a b", b"\x1b", b"x" * 1000, b""):
        channel = client.transport.open_session(timeout=PATIENCE)
        sides = struct.pack(">IIII", 80, 24, 0, 0)
        assert client.request(channel, b"pty-req", packed(term), sides, packed(b""))
        channel.exec_command("echo [$TERM]")
        assert output(channel).strip() == b"[dumb]"


def test_the_longest_command_runs_and_a_longer_one_does_not(client: Client) -> None:
    longest = b"echo " + b"x" * (128 * 1024 - 1 - 5)
    channel = client.transport.open_session(timeout=PATIENCE)
    assert client.request(channel, b"exec", packed(longest))
    assert len(output(channel)) == len(longest) - 4
    channel = client.transport.open_session(timeout=PATIENCE)
    assert not client.request(channel, b"exec", packed(longest + b"x"))
    assert client.transport.is_active()


def test_a_command_with_nul_does_not_run(client: Client) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    assert not client.request(channel, b"exec", packed(b"echo a\0b"))


def test_ten_thousand_variables(client: Client) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    for number in range(10_000):
        letters = "".join(chr(ord("A") + int(digit)) for digit in str(number))
        client.quietly(channel, b"env", packed(b"LC_" + letters.encode()), packed(b"x"))
    channel.exec_command("env | grep -c ^LC_")
    assert 0 < int(output(channel)) <= 32


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"LANG", b"x\0y"), (b"LANG", b"x" * 100_000), (b"LANG=a", b"b"), (b"", b""), (b"LC_-", b"x")],
)
def test_variables_that_are_none(client: Client, name: bytes, value: bytes) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    assert not client.request(channel, b"env", packed(name), packed(value))


def test_a_thousand_channels_are_ten(client: Client) -> None:
    opened = []
    with contextlib.suppress(paramiko.ChannelException):
        for _ in range(1000):
            opened.append(client.transport.open_session(timeout=PATIENCE))
    assert len(opened) == 10
    for channel in opened:
        channel.close()
    with contextlib.closing(client.transport.open_session(timeout=PATIENCE)) as channel:
        channel.exec_command("echo again")
        assert output(channel) == b"again\n"


def test_a_second_shell_on_a_channel_is_refused(client: Client) -> None:
    channel = client.transport.open_session(timeout=PATIENCE)
    assert client.request(channel, b"exec", packed(b"cat"))
    assert not client.request(channel, b"exec", packed(b"id"))


@pytest.mark.parametrize(
    "parts",
    [
        (b"\x5e", struct.pack(">I", 77), packed(b"data for nobody")),
        (b"\x62", struct.pack(">I", 77), packed(b"exec"), b"\1", packed(b"id")),
        (b"\x5a",),
        (b"\x5a", packed(b"session")),
        (b"\x5a", struct.pack(">I", 0xFFFFFFF0), b"session"),
        (b"\x50",),
        (b"\x50", struct.pack(">I", 0x7FFFFFFF)),
        (b"\x62", struct.pack(">I", 0)),
        (b"\x5f", struct.pack(">II", 0, 1)),
    ],
    ids=lambda parts: f"{parts[0].hex()}-{len(parts)}",
)
def test_broken_messages_end_the_connection_and_nothing_else(
    house: House, client: Client, parts: tuple[bytes, ...]
) -> None:
    client.transport.open_session(timeout=PATIENCE)
    client.send(*parts)
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        channel = client.transport.open_session(timeout=PATIENCE)
        channel.exec_command("echo fine")
        assert output(channel) in (b"fine\n", b"")
    assert house.ssh("true").returncode == 0


def test_data_past_the_window_ends_the_connection(house: House, client: Client) -> None:
    """Nobody reads at the other end, and the client does not care."""
    channel = client.transport.open_session(timeout=PATIENCE)
    channel.exec_command("sleep 100")
    piece = packed(b"x" * 32000)
    start = struct.pack(">BI", 94, channel.remote_chanid)

    def flood() -> bool:
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            for _ in range(50):
                client.send(start, piece)
        return not client.transport.is_active()

    eventually(flood, what="the server to hang up")
    assert house.ssh("true").returncode == 0


def test_a_client_that_asks_and_never_listens_is_not_kept_in_memory(tmp_path: Path) -> None:
    """Requests that want an answer, more than we would keep, and not one answer is read."""
    with running(tmp_path) as house:
        client = Client(house)
        worker = house.one("tl-ssh-worker")
        sock = client.transport.sock
        # From here on nobody reads: paramiko's thread goes on with the other end of this pair.
        deaf, silence = socket.socketpair()
        client.transport.packetizer._Packetizer__socket = Talking(sock, deaf)
        message = b"\x50" + packed(b"nonsense@example.com") + b"\1"
        sock.settimeout(1)

        def ask_until_nobody_takes_it() -> None:
            for _ in range(2_000_000):
                client.send(message)

        with pytest.raises(EOFError):
            ask_until_nobody_takes_it()
        assert rss(worker) < 150 << 20
        for end in (sock, deaf, silence):
            end.close()


class Talking:
    """Sends on one socket and listens on another, where nothing is ever said."""

    def __init__(self, out: socket.socket, silent: socket.socket) -> None:
        self._out, self.recv = out, silent.recv
        silent.settimeout(0.1)

    def send(self, data: bytes) -> int:
        try:
            return self._out.send(data)
        except TimeoutError as why:
            raise OSError("nobody takes it") from why  # paramiko would try for ever

    def close(self) -> None:
        pass


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
