"""A shell and its channel, with paper at the client's end."""

import os
import pty
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from teleport_lite.net.ssh_channel import Channel
from teleport_lite.net.ssh_pump import Exit, Pump, Streams
from teleport_lite.testing.certs import packed
from tests.net.test_ssh_channels import CLOSE, DATA, EOF, REQUEST, THEIRS, Paper, numbers


@dataclass
class PaperTap:
    """Keeps what it is told; holds and types as it is told."""

    holding: bool = False
    heard: bytes = b""
    keys: bytes = b""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    closed: int = 0

    def bind(self, note: Callable[[str], None], wake: Callable[[float], None]) -> None: ...

    def holds(self) -> bool:
        return self.holding

    def output(self, data: bytes) -> None:
        self.heard += data

    def resized(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    def wants(self) -> Iterator[tuple[int, int]]:
        yield from ()

    def has(self, fd: int) -> bool:
        return False

    def ready(self, fd: int) -> None: ...

    def typed(self) -> bytes:
        keys, self.keys = self.keys, b""
        return keys

    def close(self) -> None:
        self.closed += 1


class Session:
    """Pipes, or a terminal; the shell's ends are ours to use."""

    def __init__(self, *, terminal: bool = False, tap: PaperTap | None = None) -> None:
        self.paper = Paper()
        self.channel: Channel = self.paper.open(window=100_000)
        if terminal:
            master, self.shell = pty.openpty()
            tty.setraw(self.shell)
            streams = Streams(master, master, None, tap)
            self.ends = {self.shell}
        else:
            self.stdin, stdin = os.pipe()
            stdout, self.stdout = os.pipe()
            stderr, self.stderr = os.pipe()
            streams = Streams(stdin, stdout, stderr, tap)
            self.ends = {self.stdin, self.stdout, self.stderr}
        self.streams = streams
        self.pump = Pump(self.channel, streams, tap)
        self.paper.said.clear()

    def turn(self, *, may_send: bool = True) -> dict[int, int]:
        return dict(self.pump.wants(may_send=may_send))

    def heard(self) -> list[bytes]:
        """Kinds and what follows the client's number of the channel."""
        said, self.paper.said = self.paper.said, []
        assert all(each[1:5] == numbers(THEIRS) for each in said)
        return [each[:1] + each[5:] for each in said]

    def typed(self, size: int) -> bytes:
        """So many bytes, as the shell reads them: a terminal hands them over a few at a time."""
        end = self.shell if hasattr(self, "shell") else self.stdin
        typed = b""
        while len(typed) < size:
            typed += os.read(end, size - len(typed))
        return typed

    def shut(self, end: int) -> None:
        os.close(end)
        self.ends.discard(end)

    def close(self) -> None:
        self.pump.close()
        for end in self.ends:
            os.close(end)


@pytest.fixture(params=[False, True], ids=["pipes", "terminal"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    session = Session(terminal=request.param)
    yield session
    session.close()


@pytest.fixture
def pipes() -> Iterator[Session]:
    session = Session()
    yield session
    session.close()


def data(text: bytes) -> bytes:
    return bytes([DATA]) + packed(text)


EOW = bytes([REQUEST]) + packed(b"eow@openssh.com") + b"\0"
STATUS = bytes([REQUEST]) + packed(b"exit-status") + b"\0" + numbers(3)
THE_END = [STATUS, bytes([EOF]), bytes([CLOSE])]


def test_what_the_client_says_reaches_the_shell(session: Session) -> None:
    session.paper.hear(DATA, 0, packed(b"hello"))
    session.turn()
    assert session.typed(5) == b"hello"


def test_output_is_read_only_as_far_as_there_is_room(pipes: Session) -> None:
    os.write(pipes.stdout, b"x" * 20)
    assert pipes.turn(may_send=False) == {}
    pipes.channel.out_window = 15
    assert set(pipes.turn()) == {pipes.streams.stdout, pipes.streams.stderr}
    pipes.pump.ready(pipes.streams.stdout)
    assert pipes.heard() == [data(b"x" * 15)]
    assert pipes.turn() == {}


def test_the_end_waits_for_the_last_byte_of_pipes(pipes: Session) -> None:
    pipes.pump.exited(Exit(channel=0, code=3))
    os.write(pipes.stdout, b"last")
    pipes.shut(pipes.stderr)
    pipes.pump.ready(pipes.streams.stdout)
    assert pipes.streams.stderr is not None
    pipes.pump.ready(pipes.streams.stderr)
    assert pipes.heard() == [data(b"last")]
    pipes.shut(pipes.stdout)
    pipes.pump.ready(pipes.streams.stdout)
    assert pipes.heard() == THE_END


def test_a_terminal_is_read_until_it_is_empty_though_others_hold_it_open() -> None:
    session = Session(terminal=True)
    os.write(session.shell, b"bye")
    session.pump.exited(Exit(channel=0, code=3))
    session.turn(may_send=False)
    assert session.heard() == []
    session.turn()
    assert session.heard() == [data(b"bye"), *THE_END]
    session.close()


def test_somebody_who_goes_on_writing_does_not_hold_up_the_end() -> None:
    session = Session(terminal=True)
    session.channel.out_window = 1 << 31
    session.channel._line = Endless(session.paper)
    session.pump.exited(Exit(channel=0, code=3))
    session.turn()
    assert session.heard()[-3:] == THE_END
    session.close()


class Endless:
    """A line whose every descriptor has more to say."""

    def __init__(self, paper: Paper) -> None:
        self.send, self.over = paper.send, paper.over

    def pump(self, channel: Channel, fd: int, most: int) -> int:
        return most


def test_a_client_that_reads_no_more_closes_the_pipe(pipes: Session) -> None:
    pipes.pump.unread()
    with pytest.raises(BrokenPipeError):
        os.write(pipes.stdout, b"y")
    os.write(pipes.stderr, b"why")
    assert pipes.streams.stderr is not None
    pipes.pump.ready(pipes.streams.stderr)
    assert len(pipes.heard()) == 1
    pipes.pump.unread()


def test_a_shell_that_reads_no_more_is_told_of_once(pipes: Session) -> None:
    pipes.shut(pipes.stdin)
    for _ in range(3):
        pipes.paper.hear(DATA, 0, packed(b"x" * 1000))
        pipes.paper.said.clear()
        pipes.turn()
        assert pipes.heard() in ([EOW], [])
        assert pipes.channel.waiting == 0
    pipes.paper.hear(DATA, 0, packed(b"x"))
    pipes.turn()
    assert pipes.heard() == []


def test_clients_that_do_not_know_it_are_not_told(pipes: Session) -> None:
    pipes.channel.openssh = False
    pipes.shut(pipes.stdin)
    pipes.paper.hear(DATA, 0, packed(b"x"))
    pipes.turn()
    assert pipes.heard() == []


# --- with somebody who follows


@pytest.fixture
def followed() -> Iterator[tuple[Session, PaperTap]]:
    tap = PaperTap()
    session = Session(terminal=True, tap=tap)
    yield session, tap
    session.close()


def test_who_follows_hears_all_that_is_sent(followed: tuple[Session, PaperTap]) -> None:
    session, tap = followed
    os.write(session.shell, b"output")
    session.pump.ready(session.streams.stdout)
    assert (tap.heard, session.heard()) == (b"output", [data(b"output")])
    session.pump.resized(80, 24)
    assert tap.sizes == [(80, 24)]


def test_nothing_is_read_while_it_holds(followed: tuple[Session, PaperTap]) -> None:
    session, tap = followed
    os.write(session.shell, b"output")
    tap.holding = True
    assert session.turn() == {}
    session.pump.exited(Exit(channel=0, code=3))
    assert session.turn() == {}
    assert session.heard() == []
    tap.holding = False
    session.turn()
    assert session.heard() == [data(b"output"), *THE_END]


def test_keys_of_others_come_between_the_client_s(followed: tuple[Session, PaperTap]) -> None:
    session, tap = followed
    tap.keys = b"from a peer "
    session.paper.hear(DATA, 0, packed(b"from the client"))
    session.turn()
    assert session.typed(len("from a peer from the client")) == b"from a peer from the client"


def test_who_follows_hears_of_the_end_once(followed: tuple[Session, PaperTap]) -> None:
    session, tap = followed
    session.pump.close()
    session.pump.close()
    assert tap.closed == 1
