"""Somebody who is logged in and forwards as no client of good will does."""

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from teleport_lite.net.ssh_policy import MAX_DIALS, MAX_FORWARDS, MAX_LISTENERS
from teleport_lite.node.forward_story import BURST, EVERY
from teleport_lite.testing.certs import packed
from tests.node.ends import Echo, ask, echoing, listens, wait_for
from tests.node.house import House, running
from tests.node.test_abuse import PATIENCE, Client, output
from tests.support import eventually, free_port

OPEN, CONFIRMATION, FAILURE, DATA, CLOSE = 90, 91, 92, 94, 97
FIRST = 1000  # of our channel numbers: paramiko's own begin at 0


class Raw(Client):
    """Opens channels by hand: `opened` has their numbers there by ours, `refused` the reasons."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.opened: dict[int, int] = {}
        self.refused: dict[int, str] = {}
        self.heard: dict[int, bytes] = {}
        self._next = FIRST
        table = self.transport._handler_table
        table[CONFIRMATION] = self._confirmed
        table[FAILURE] = self._failed

    def tcp(self, port: int, *, window: int = 1 << 20, host: bytes = b"127.0.0.1") -> int:
        rest = packed(host) + struct.pack(">I", port) + packed(b"here") + struct.pack(">I", 1)
        return self.open(b"direct-tcpip", rest, window)

    def open(self, kind: bytes, rest: bytes, window: int = 1 << 20) -> int:
        number, self._next = self._next, self._next + 1
        head = struct.pack(">III", number, window, 1 << 15)
        self.send(bytes([OPEN]), packed(kind), head, rest)
        return number

    def close_channel(self, number: int) -> None:
        self.send(struct.pack(">BI", CLOSE, self.opened[number]))

    def settle(self, count: int, what: str) -> None:
        """Until so many have their answer."""
        self.wait(lambda: len(self.opened) + len(self.refused) >= count, what)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """On a connection that has ended there is nothing to wait for."""

        def met() -> bool:
            if condition():
                return True
            assert self.transport.is_active(), f"{what}: {self.transport.saved_exception}"
            return False

        eventually(met, seconds=PATIENCE, what=what)

    def broker(self) -> int:
        """Its process id."""
        return int(self._says("echo $PPID"))

    def works(self) -> bool:
        return self._says("echo fine") == b"fine\n"

    def _says(self, command: str) -> bytes:
        """In a session of paramiko's own: no confirmation of it may be lost on us."""
        table = self.transport._handler_table
        ours = table[CONFIRMATION], table[FAILURE]
        plain = paramiko.Transport._parse_channel_open_success
        table[CONFIRMATION] = lambda m: plain(self.transport, m)
        try:
            with contextlib.closing(self.transport.open_session(timeout=PATIENCE)) as channel:
                channel.exec_command(command)
                return output(channel)
        finally:
            table[CONFIRMATION], table[FAILURE] = ours

    def _confirmed(self, m: paramiko.Message) -> None:
        ours, theirs = m.get_int(), m.get_int()
        # Paramiko hangs up when it hears of a channel that it has never had.
        self.transport.channels_seen[ours] = True
        self.opened[ours] = theirs

    def _failed(self, m: paramiko.Message) -> None:
        number = m.get_int()
        m.get_int()
        self.refused[number] = m.get_text()


@pytest.fixture
def raw(house: House) -> Iterator[Raw]:
    raw = Raw(house)
    yield raw
    raw.close()


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with echoing() as echo:
        yield echo


def fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_flood_of_opens_that_fail(house: House, raw: Raw) -> None:
    """Each is answered, the trail is not filled, and nothing is left of them."""
    began, broker = time.monotonic(), raw.broker()
    before, closed = fds(broker), free_port()
    for _ in range(BURST + 300):
        raw.tcp(closed)
    raw.settle(BURST + 300, "all the answers")
    assert not raw.opened
    assert set(raw.refused.values()) <= {
        "Connection refused",
        "too many connections are forwarded",
    }
    assert raw.works()
    eventually(lambda: fds(broker) == before, what="nothing to be left")
    host, port = raw.transport.sock.getsockname()  # type: ignore[union-attr]  # a socket
    where = f"{host}:{port}"
    raw.close()

    def summed() -> list[dict[str, Any]]:
        """What the trail has of this connection, once it has the sum, which comes last."""
        ours = [e for e in house.events() if e["facts"]["addr.remote"] == where]
        return ours if any("left_out" in e["facts"] for e in ours) else []

    ours = eventually(summed, what="the sum")
    told = sum(e["facts"].get("addr") == f"127.0.0.1:{closed}" for e in ours)
    assert BURST / 2 <= told <= BURST + (time.monotonic() - began) / EVERY + 1
    [left_out] = [e for e in ours if "left_out" in e["facts"]]
    assert (left_out["kind"], left_out["code"]) == ("port", "T3003E")
    assert left_out["facts"]["left_out"] == str(BURST + 300 - told)


def test_so_many_are_forwarded_and_no_more(house: House, raw: Raw, echo: Echo) -> None:
    numbers = [raw.tcp(echo.port) for _ in range(MAX_FORWARDS // 2)]
    raw.settle(len(numbers), "the first half")
    while len(raw.opened) < MAX_FORWARDS:
        count = len(raw.opened) + len(raw.refused)
        raw.tcp(echo.port)
        raw.settle(count + 1, "an answer")
    raw.refused.clear()
    last = raw.tcp(echo.port)
    raw.wait(lambda: last in raw.refused, "the refusal")
    assert raw.refused[last] == "too many connections are forwarded"
    assert len(raw.opened) == MAX_FORWARDS
    assert raw.works()
    for number in raw.opened:
        raw.close_channel(number)
    raw.opened.clear()

    def opens() -> bool:
        """The answer comes when all those that were closed have been let go of."""
        number = raw.tcp(echo.port)
        raw.wait(lambda: number in raw.opened or number in raw.refused, "an answer")
        return number in raw.opened

    eventually(opens, what="room for new ones")


def test_so_many_are_on_their_way_and_no_more(raw: Raw) -> None:
    """To where nobody answers, neither yes nor no."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        for _ in range(MAX_DIALS + 20):
            raw.tcp(port)
        raw.wait(lambda: raw.refused, "the refusals")
        assert set(raw.refused.values()) == {"too many connections are forwarded"}
        assert raw.works()


@pytest.mark.parametrize(
    "rest",
    [
        packed(b"127.0.0.1") + struct.pack(">I", 70_000) + packed(b"") + bytes(4),
        packed(b"127.0.0.1") + struct.pack(">I", 0) + packed(b"") + bytes(4),
        packed(b"x" * 5000) + struct.pack(">I", 80) + packed(b"") + bytes(4),
        packed(b"\0\xff\x1b[2J") + struct.pack(">I", 80) + packed(b"") + bytes(4),
        packed(b"") + struct.pack(">I", 80) + packed(b"") + bytes(4),
    ],
    ids=["port", "zero", "long", "bytes", "empty"],
)
def test_addresses_that_are_none(raw: Raw, rest: bytes) -> None:
    number = raw.open(b"direct-tcpip", rest)
    eventually(lambda: raw.refused, what="the refusal")
    assert raw.refused[number].isprintable()
    assert raw.works()


@pytest.mark.parametrize("path", [b"", b"\0hidden", b"x" * 2000, b"a\0b"])
def test_paths_that_are_none(house: House, raw: Raw, path: bytes) -> None:
    number = raw.open(b"direct-streamlocal@openssh.com", packed(path) + packed(b"") + bytes(4))
    eventually(lambda: raw.refused, what="the refusal")
    assert number in raw.refused
    asked = "streamlocal-forward@openssh.com"
    request = paramiko.Message()
    request.add_string(path)
    assert raw.transport.global_request(asked, (path,), wait=True) is None
    assert raw.works()


def test_a_request_that_is_cut_short_ends_the_connection(raw: Raw) -> None:
    raw.open(b"direct-tcpip", packed(b"127.0.0.1"))
    eventually(lambda: not raw.transport.is_active(), what="the end")


def test_data_before_the_confirmation_ends_the_connection(raw: Raw, echo: Echo) -> None:
    raw.tcp(echo.port)
    raw.send(struct.pack(">BI", DATA, 0), packed(b"too early"))
    raw.send(struct.pack(">BI", DATA, 77), packed(b"never"))
    eventually(lambda: not raw.transport.is_active(), what="the end")


def test_what_was_not_forwarded_cannot_be_taken_back(raw: Raw, tmp_path: Path) -> None:
    ask_for = raw.transport.global_request
    assert ask_for("cancel-tcpip-forward", ("localhost", 4000), wait=True) is None
    path = str(tmp_path / "x")
    assert ask_for("cancel-streamlocal-forward@openssh.com", (path,), wait=True) is None
    assert raw.works()


def test_nobody_takes_back_what_is_another_s(house: House, raw: Raw) -> None:
    port, other = free_port(), Raw(house)
    assert raw.transport.global_request("tcpip-forward", ("localhost", port), wait=True)
    cancel = "cancel-tcpip-forward"
    assert other.transport.global_request(cancel, ("localhost", port), wait=True) is None
    other.close()
    assert listens(("127.0.0.1", port))


def test_so_many_places_and_no_more(house: House, raw: Raw) -> None:
    ask_for = raw.transport.global_request
    for _ in range(MAX_LISTENERS):
        assert ask_for("tcpip-forward", ("localhost", 0), wait=True) is not None
    assert ask_for("tcpip-forward", ("localhost", 0), wait=True) is None
    house.event("T3003E", reason="too many places to listen at")
    assert raw.works()


def test_arrivals_that_the_client_refuses_are_closed(house: House, raw: Raw) -> None:
    """And do not count any more."""
    port = free_port()
    assert raw.transport.global_request("tcpip-forward", ("localhost", port), wait=True)

    def refuse(m: paramiko.Message) -> None:
        m.get_text()
        failure = struct.pack(">BII", FAILURE, m.get_int(), 1)
        raw.send(failure, packed(b"no, thanks"), packed(b""))

    raw.transport._handler_table[OPEN] = refuse
    for _ in range(5):
        assert ask(("127.0.0.1", port)) == b""
    house.event("T3003E", direction="remote", addr=f"localhost:{port}", reason="no, thanks")
    assert raw.works()


def test_who_never_reads_is_not_kept_in_memory(house: House) -> None:
    """Servers that talk on and on, to a client that has stopped."""
    port, before = free_port(), set(house.named("tl-ssh-worker"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = server.getsockname()[1]
        client = house.visitor().start(options=["-N", f"-L{port}:127.0.0.1:{there}"])
        wait_for(("127.0.0.1", port))
        server.accept()[0].close()
        ends = []
        for _ in range(4):
            ends.append(socket.create_connection(("127.0.0.1", port), timeout=30))
            ends.append(server.accept()[0])
        worker = house.one("tl-ssh-worker", besides=before)
        small = resident(worker)
        os.kill(client.pid, signal.SIGSTOP)
        for conn in ends[1::2]:
            conn.settimeout(1)
            with contextlib.suppress(TimeoutError):
                while True:
                    conn.sendall(bytes(1 << 20))
        assert resident(worker) - small < 32 * 1024
        for end in ends:
            end.close()
        os.kill(client.pid, signal.SIGKILL)


def resident(pid: int) -> int:
    """In KiB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def test_a_broker_that_is_killed_takes_its_connection_along(tmp_path: Path, echo: Echo) -> None:
    with running(tmp_path) as house:
        raw = Raw(house)
        raw.tcp(echo.port)
        eventually(lambda: raw.opened, what="the channel")
        broker = house.one("tl-ssh-broker")
        os.kill(broker, 9)
        eventually(lambda: not raw.transport.is_active(), what="the end")
        raw.close()
