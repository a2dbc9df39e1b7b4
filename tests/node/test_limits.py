"""Those who only knock: how long, how often and how many at once."""

import contextlib
import logging
import os
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.common import MSG_CHANNEL_OPEN, MSG_GLOBAL_REQUEST, MSG_SERVICE_REQUEST

from teleport_lite.testing.certs import packed
from tests.node.house import House, running
from tests.node.test_abuse import PATIENCE, patient
from tests.pki import forgeries
from tests.pki.sshd import LOGIN, RawClient, RawKey
from tests.support import eventually

BANNER = b"SSH-2.0-OpenSSH_teleport-lite\r\n"


@contextlib.contextmanager
def knock(house: House, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    address = ("127.0.0.1", house.port)
    with socket.create_connection(address, timeout=60, source_address=(source, 0)) as sock:
        yield sock


def until_closed(sock: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionError):
        while more := sock.recv(65536):
            said += more
    return said


def test_the_banner_tells_no_version(house: House) -> None:
    with knock(house) as sock:
        assert sock.recv(len(BANNER)) == BANNER


@pytest.mark.parametrize("words", [b"", b"SSH-2.0-slow\r\n", b"S"])
def test_who_does_not_log_in_is_shown_the_door(tmp_path: Path, words: bytes) -> None:
    with running(tmp_path, settings={"grace": 1.0}) as house:
        began = time.monotonic()
        with knock(house) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(words)
            until_closed(sock)
            assert time.monotonic() - began > 0.8  # and until_closed does not wait for ever
        eventually(lambda: not house.named("tl-ssh-worker"), what="the worker to end")


# Seconds in which a key exchange, or a login, has to be over here: the first that are enough.
GRACES = (1.5, 8.0, 40.0)


def test_time_after_the_key_exchange_counts_too(tmp_path: Path) -> None:
    assert any(exchanges_keys_and_is_hung_up_on(tmp_path / str(each), each) for each in GRACES)


def exchanges_keys_and_is_hung_up_on(directory: Path, grace: float) -> bool:
    """False if time was up before the keys were exchanged."""
    directory.mkdir()
    with running(directory, settings={"grace": grace}) as house, knock(house) as sock:
        client = paramiko.Transport(sock)
        patient(client)
        try:
            client.start_client(timeout=PATIENCE)
        except (paramiko.SSHException, EOFError):
            return False
        eventually(lambda: not client.is_active(), what="the server to hang up")
        client.close()
        return True


def test_somebody_who_has_logged_in_may_stay(tmp_path: Path) -> None:
    for grace in GRACES:
        (tmp_path / str(grace)).mkdir()
        with running(tmp_path / str(grace), settings={"grace": grace}) as house:
            said = house.ssh(f"echo in; sleep {grace + 0.5}; echo still here").stdout
        if said:  # else time was up before the login
            break
    assert said == b"in\nstill here\n"


def test_six_tries_and_out(house: House) -> None:
    client = RawClient(house.port)
    wrong = RawKey(forgeries.ED, b"nonsense", lambda _data: b"nonsense")
    transport = client._connected()
    for _ in range(6):
        assert client._connected() is transport
        assert not client._ask(wrong, LOGIN)  # the last may end without a word
    eventually(lambda: not transport.is_active(), what="the server to hang up")
    client.close()


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"SSH-1.5-old\r\n",
        b"A" * 100_000,
        b"SSH-2.0-" + b"A" * 10_000,
        BANNER + struct.pack(">IB", 0x7FFFFFFF, 4) + b"\x14" * 1000,
        BANNER + struct.pack(">IB", 0, 0) * 100,
        BANNER + struct.pack(">IB", 70_000, 4) + b"\x14" * 70_000,
        BANNER + struct.pack(">IBB", 12, 10, 20) + b"\0" * 10,
        BANNER + os.urandom(2000),
    ],
    ids=["http", "tls", "ssh1", "no line", "long line", "2 GB", "zero", "70 kB", "short", "noise"],
)
def test_nonsense_costs_only_its_own_connection(house: House, words: bytes) -> None:
    with knock(house) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(words)
        until_closed(sock)
    assert house.ssh("true").returncode == 0


@pytest.fixture
def stranger(house: House) -> Iterator[paramiko.Transport]:
    """Keys are exchanged, nobody is logged in."""
    paramiko.util.get_logger("paramiko").setLevel(logging.CRITICAL)
    with knock(house) as sock:
        client = paramiko.Transport(sock)
        patient(client)
        client.start_client(timeout=PATIENCE)
        yield client
        client.close()


def send(client: paramiko.Transport, *parts: bytes) -> None:
    message = paramiko.Message()
    message.add_bytes(b"".join(parts))
    client._send_message(message)


@pytest.mark.parametrize(
    "parts",
    [
        (bytes([MSG_CHANNEL_OPEN]), packed(b"session"), struct.pack(">III", 0, 1 << 20, 32768)),
        (bytes([MSG_GLOBAL_REQUEST]), packed(b"tcpip-forward"), b"\1", packed(b""), b"\0\0\0\0"),
        (b"\x62", struct.pack(">I", 0), packed(b"exec"), b"\1", packed(b"touch /tmp/pwned")),
        (b"\x5e", struct.pack(">I", 0), packed(b"data")),
        (b"\x34",),  # USERAUTH_SUCCESS, CVE-2018-10933
        (b"\x33", packed(b"publickey"), b"\0"),
        (b"\x3c",),
        (b"\x3d", struct.pack(">I", 0xFFFFFFFF)),
        (b"\x07", struct.pack(">I", 0xFFFFFFFF)),  # EXT_INFO that counts to four billion
        (bytes([MSG_SERVICE_REQUEST]), packed(b"ssh-connection")),
        (b"\x32", packed(b"root"), packed(b"ssh-connection"), packed(b"none")),
        (b"\x32", packed(b"root")),
        (b"\x32", packed(b"root"), packed(b"ssh-connection"), packed(b"publickey"), b"\1"),
        (b"\xc8", b"local extension"),
        (b"\x00",),
    ],
    ids=lambda parts: f"{parts[0].hex()}-{len(parts)}",
)
def test_requests_before_the_login_lead_nowhere(
    house: House, stranger: paramiko.Transport, parts: tuple[bytes, ...]
) -> None:
    host, port = stranger.sock.getsockname()  # type: ignore[union-attr]  # a socket
    send(stranger, *parts)
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        stranger.open_session(timeout=2)
        raise AssertionError("a session without a login")
    assert house.ssh("true").returncode == 0
    stranger.close()
    eventually(lambda: not house.named("tl-ssh-worker"), what="the worker to end")
    eventually(lambda: house.counters()["connections"] == 0, what="the last word of its monitor")
    ours = [e["code"] for e in house.events() if e["facts"]["addr.remote"] == f"{host}:{port}"]
    assert not {"T3007I", "T2000I"}.intersection(ours)


def test_a_second_key_exchange_before_the_login_ends_the_connection(
    stranger: paramiko.Transport,
) -> None:
    """OpenSSH does not do it either; every one would have the signer sign."""
    with contextlib.suppress(paramiko.SSHException, EOFError):
        stranger.renegotiate_keys()
    eventually(lambda: not stranger.is_active(), what="the server to hang up")


def test_a_flood_from_one_address_leaves_room_for_others(house: House) -> None:
    eventually(lambda: house.counters()["connections"] == 0, what="earlier ones to end")
    eventually(lambda: not house.named("tl-ssh-worker"), what="their workers to end")
    before = house.counters()
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(knock(house, "127.0.0.2")) for _ in range(60)]
        eventually(lambda: house.counters()["accepted"] - before["accepted"] >= 60)
        during = house.counters()
        assert during["without_login"] <= 8 + before["without_login"]
        assert during["dropped_startups"] - before["dropped_startups"] >= 60 - 16
        assert len(house.named("tl-ssh-worker")) <= 8 + 1
        assert house.ssh("echo through").stdout == b"through\n"
        for sock in flood:
            sock.close()
    eventually(lambda: house.counters()["connections"] == 0, what="the flood to drain")


def test_a_dozen_at_once_from_one_address_all_get_in(house: House) -> None:
    """More than may start at a time: the rest wait a moment instead of being turned away."""
    visitor = house.visitor()
    clients = [visitor.start("echo in") for _ in range(14)]
    for client in clients:
        said, _ = client.communicate(timeout=60)
        assert (client.returncode, said) == (0, b"in\n")


def test_many_addresses_at_once_are_thinned_out(tmp_path: Path) -> None:
    limits = {"begin": 5, "rate": 100, "full": 20}
    with running(tmp_path, limits=limits) as house, contextlib.ExitStack() as stack:
        inside = house.visitor().start("echo up; cat")
        assert inside.stdin
        assert inside.stdout
        inside.stdout.readline()
        # Its monitor has told, and the daemon may be about to hear it.
        eventually(lambda: house.counters()["without_login"] == 0, what="news of the login")
        for number in range(40):
            stack.enter_context(knock(house, f"127.0.1.{number + 1}"))
        eventually(lambda: house.counters()["accepted"] >= 41)
        assert house.counters()["without_login"] == 5
        assert house.counters()["dropped_startups"] == 35
        inside.stdin.write(b"untouched\n")
        inside.stdin.flush()
        assert inside.stdout.readline() == b"untouched\n"


def test_a_source_that_keeps_failing_is_kept_out_for_a_while(tmp_path: Path) -> None:
    with running(tmp_path, limits={"punish_everybody": True}) as house:
        client = RawClient(house.port)
        wrong = RawKey(forgeries.ED, b"nonsense", lambda _data: b"")
        fails = 0

        def kept_out() -> bool:
            nonlocal fails
            try:
                assert not client.accepts(wrong)
            except (paramiko.SSHException, EOFError, OSError):
                return True  # before any keys were exchanged
            client.close()
            eventually(lambda: house.counters()["connections"] == 0)
            fails += 1
            return False

        # 5 s each, less what has passed meanwhile, and 15 s are enough.
        eventually(kept_out, what="the source to be kept out")
        assert fails > 2
        with knock(house) as sock:
            assert until_closed(sock) == b""
        assert house.counters()["dropped_penalty"] == 2


def test_out_of_descriptors_is_a_pause_and_not_a_spin(tmp_path: Path) -> None:
    with running(tmp_path, limits={"begin": 1000, "full": 1001, "per_source": 1000}) as house:
        pid = house.daemon.pid
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        most = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, most))
        full = time.monotonic()
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(knock(house))
            eventually(lambda: house.counters()["accept_errors"] > 2, what="errors")
            began, before = time.monotonic(), house.counters()["accept_errors"]
            time.sleep(1.0)
            errors = house.counters()["accept_errors"] - before
            assert errors <= 12 * (time.monotonic() - began)
            said = (tmp_path / "stderr").read_text().count("can not accept SSH connections")
            assert 0 < said <= time.monotonic() - full + 1
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        assert house.ssh("echo again").stdout == b"again\n"


def test_memory_of_a_worker_is_capped(house: House) -> None:
    with knock(house) as sock:
        assert sock.recv(len(BANNER)) == BANNER
        worker = house.one("tl-ssh-worker")
        limits = Path(f"/proc/{worker}/limits").read_text().splitlines()
        line = next(line for line in limits if line.startswith("Max address space"))
        assert 0 < int(line.split()[3]) < 1 << 30


def test_ending_the_listener_leaves_sessions_alone(tmp_path: Path) -> None:
    with running(tmp_path) as house:
        inside = house.visitor().start("echo up; cat")
        assert inside.stdin
        assert inside.stdout
        inside.stdout.readline()
        house.tell("close")
        assert house.hear() == {"closed": True}
        with pytest.raises(ConnectionRefusedError), knock(house):
            pass
        inside.stdin.write(b"on\n")
        inside.stdin.flush()
        assert inside.stdout.readline() == b"on\n"


def test_the_daemon_hears_when_the_zygote_is_gone(tmp_path: Path) -> None:
    with running(tmp_path) as house:
        os.kill(house.zygote, 9)
        assert house.hear() == {"lost": True}
