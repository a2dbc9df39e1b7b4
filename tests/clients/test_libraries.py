"""Clients that are libraries, and one that has to be turned away."""

import asyncio
import contextlib
import os
import socket
import subprocess
import threading
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncssh
import paramiko
import pytest

from tests.clients.test_openssh import noise
from tests.node.house import ME, House

SIZE = (3 << 20) + 17
# Seconds for what nothing hinders, on a machine with more to do.
PATIENCE = 60


# --- paramiko


@contextlib.contextmanager
def paramiko_client(house: House) -> Iterator[paramiko.SSHClient]:
    visitor = house.visitor()
    key = paramiko.Ed25519Key.from_private_key_file(str(visitor.key))
    key.load_certificate(f"{visitor.key}-cert.pub")
    client = paramiko.SSHClient()
    # It does not know about CAs of hosts, so it is given the plain key.
    kind, blob = house.host.ssh_public.split()[:2]
    host = paramiko.PKey.from_type_string(kind, b64decode(blob))
    client.get_host_keys().add(f"[127.0.0.1]:{house.port}", kind, host)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect(
        "127.0.0.1",
        house.port,
        ME,
        pkey=key,
        allow_agent=False,
        look_for_keys=False,
        timeout=PATIENCE,
        banner_timeout=PATIENCE,
        auth_timeout=PATIENCE,
        channel_timeout=PATIENCE,
    )
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def para(house: House) -> Iterator[paramiko.SSHClient]:
    with paramiko_client(house) as client:
        yield client


def test_paramiko_runs_commands(para: paramiko.SSHClient) -> None:
    for number in range(3):
        stdin, stdout, stderr = para.exec_command(
            f"cat; echo error >&2; exit {number}", timeout=PATIENCE
        )
        stdin.write(b"words\n")
        stdin.channel.shutdown_write()
        assert stdout.read() == b"words\n"
        assert stderr.read() == b"error\n"
        assert stdout.channel.recv_exit_status() == number


def test_paramiko_moves_a_lot_in_both_directions(para: paramiko.SSHClient) -> None:
    stdin, stdout, _ = para.exec_command("cat", timeout=PATIENCE)
    data = noise(SIZE)

    def write() -> None:
        stdin.write(data)
        stdin.channel.shutdown_write()

    writer = threading.Thread(target=write)
    writer.start()
    assert stdout.read() == data
    writer.join()


def test_paramiko_sits_at_a_terminal(para: paramiko.SSHClient) -> None:
    channel = para.invoke_shell(width=101, height=33)
    channel.settimeout(PATIENCE)
    channel.send(b"PS1=; stty size\n")
    assert heard(channel, b"33 101\r\n")
    channel.resize_pty(width=99, height=44)
    channel.send(b"stty size; exit 3\n")
    assert heard(channel, b"44 99\r\n")
    assert channel.recv_exit_status() == 3


def heard(channel: paramiko.Channel, what: bytes) -> bool:
    said = b""
    while what not in said:
        more = channel.recv(4096)
        assert more, said
        said += more
    return True


def test_paramiko_copies_files(para: paramiko.SSHClient, tmp_path: Path) -> None:
    here, there, back = (tmp_path / name for name in ("here", "there", "back"))
    here.write_bytes(noise(SIZE))
    with para.open_sftp() as sftp:
        assert sftp.put(str(here), str(there)).st_size == SIZE
        sftp.get(str(there), str(back))
        sftp.rename(str(there), str(tmp_path / "moved"))
        assert sorted(sftp.listdir(str(tmp_path))) == ["back", "here", "moved"]
    assert back.read_bytes() == here.read_bytes()


def test_paramiko_changes_keys(para: paramiko.SSHClient) -> None:
    """Nothing is closed meanwhile: paramiko's own thread would wait for itself then."""
    transport = para.get_transport()
    assert transport is not None
    stdin, stdout, _ = para.exec_command("cat", timeout=PATIENCE)
    for number in range(3):
        transport.renegotiate_keys()
        stdin.write(b"%d\n" % number)
        assert stdout.readline() == f"{number}\n"


# --- asyncssh


@contextlib.asynccontextmanager
async def connected(house: House) -> AsyncIterator[asyncssh.SSHClientConnection]:
    visitor = house.visitor()
    async with asyncssh.connect(
        "127.0.0.1",
        house.port,
        username=ME,
        client_keys=[str(visitor.key)],  # and the certificate that lies beside it
        known_hosts=str(house.known_hosts),
        agent_path=None,
        config=None,
        keepalive_interval=1,
        keepalive_count_max=PATIENCE,
        connect_timeout=PATIENCE,
        login_timeout=PATIENCE,
    ) as connection:
        yield connection


def talk(house: House, tell: Callable[[asyncssh.SSHClientConnection], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(PATIENCE), connected(house) as connection:
            await tell(connection)

    asyncio.run(whole())


def test_asyncssh_runs_commands_at_once(house: House) -> None:
    async def tell(connection: asyncssh.SSHClientConnection) -> None:
        commands = [
            connection.run(f"cat; echo error >&2; exit {number}", input="words\n")
            for number in range(10)
        ]
        for number, done in enumerate(await asyncio.gather(*commands)):
            assert (done.exit_status, done.stdout, done.stderr) == (number, "words\n", "error\n")

    talk(house, tell)


def test_asyncssh_moves_a_lot_in_both_directions(house: House) -> None:
    data = noise(SIZE)

    async def tell(connection: asyncssh.SSHClientConnection) -> None:
        done = await connection.run("cat", input=data, encoding=None)
        assert done.stdout == data

    talk(house, tell)


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "KILL", "USR1"])
def test_a_signal_that_is_sent_arrives_and_is_told(house: House, name: str) -> None:
    """Signal requests (RFC 4254 §6.9), which OpenSSH's client never makes."""

    async def tell(connection: asyncssh.SSHClientConnection) -> None:
        # Not the shell's own: an exec'd sleep has no handlers.
        process = await connection.create_process("echo up; exec sleep 100")
        assert await process.stdout.readline() == "up\n"
        process.send_signal(name)
        await process.wait()
        assert process.exit_signal is not None
        assert process.exit_signal[0] == name

    talk(house, tell)


def test_asyncssh_sits_at_a_terminal(house: House) -> None:
    async def tell(connection: asyncssh.SSHClientConnection) -> None:
        process = await connection.create_process(term_type="xterm-256color", term_size=(101, 33))
        said = ""

        async def heard(what: str) -> None:
            nonlocal said
            said = ""
            while what not in said:
                said += await process.stdout.read(4096)
                assert not process.stdout.at_eof(), said

        try:
            process.stdin.write("PS1=pro''mpt; stty size; echo $TERM\n")
            await heard("33 101\r\nxterm-256color\r\n")
            process.change_terminal_size(99, 44)
            process.stdin.write("stty size\n")
            await heard("44 99\r\n")
            process.stdin.write("sed -u s/^/heard:/\nthis\n")
            await heard("heard:this\r\n")  # so it runs, and is who will be interrupted
            process.stdin.write("\x03")  # the terminal makes SIGINT of it
            # What is typed before the shell is back is thrown away with the line.
            await heard("prompt")
            process.stdin.write("echo st''ill\n")
            await heard("still\r\n")
            process.stdin.write("exit 5\n")
            await process.wait()
            assert process.exit_status == 5
        except asyncio.CancelledError:
            raise AssertionError(f"last heard: {said!r}") from None

    talk(house, tell)


def test_asyncssh_copies_files(house: House, tmp_path: Path) -> None:
    here, there, back = (tmp_path / name for name in ("here", "there", "back"))
    here.write_bytes(noise(SIZE))

    async def tell(connection: asyncssh.SSHClientConnection) -> None:
        async with connection.start_sftp_client() as sftp:
            await sftp.put(str(here), str(there))
            await sftp.get(str(there), str(back))
        await asyncssh.scp(str(here), (connection, f"{tmp_path}/by-scp"))

    talk(house, tell)
    assert back.read_bytes() == here.read_bytes()
    assert (tmp_path / "by-scp").read_bytes() == here.read_bytes()


def test_asyncssh_is_told_what_the_environment_does_not_take(house: House) -> None:
    async def tell(connection: asyncssh.SSHClientConnection) -> None:
        done = await connection.run("env", env={"LC_TLT": "kept", "TLT_SECRET": "dropped"})
        assert isinstance(done.stdout, str)
        assert "LC_TLT=kept\n" in done.stdout
        assert "dropped" not in done.stdout

    talk(house, tell)


# --- dropbear


def test_dropbear_is_turned_away_before_anything_is_asked_of_it(house: House) -> None:
    """Its client has no certificates, and none of our MACs: all ours authenticate what is
    encrypted (EtM, GCM). It must hear so, at once, and nobody may be the worse for it.
    """
    command = ["dbclient", "-y", "-y", "-T", "-p", str(house.port), f"{ME}@127.0.0.1", "true"]
    env = {**os.environ, "HOME": str(house.directory)}
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert b"No matching algo" in done.stderr
    assert house.ssh("true").returncode == 0


def test_who_does_not_speak_ssh_hears_so_at_once(house: House) -> None:
    """A browser, say. OpenSSH's own scripts look for these words."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=PATIENCE) as line:
        line.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with line.makefile("rb") as said:
            assert said.readline().startswith(b"SSH-2.0-")
            assert b"Invalid SSH identification string.\r\n" in said.read()
