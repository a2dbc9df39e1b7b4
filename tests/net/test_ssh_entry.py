"""What a connection has of its own, whatever is behind the door."""

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import paramiko
import pytest

from teleport_lite.net import ssh_entry, ssh_policy
from teleport_lite.net.ssh_channel import Channel
from teleport_lite.net.ssh_entry import EntryTransport
from teleport_lite.testing.certs import packed
from tests.net.test_ssh_serve import Conversation, PaperDesk
from tests.support import eventually

# Messages: RFC 4250 §4.1.2, and OpenSSH's.
DISCONNECT, DEBUG, EXT_INFO, BANNER, GLOBAL_REQUEST, PONG = 1, 4, 7, 53, 80, 193


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Every message that any client of ours gets."""
    found: list[tuple[int, bytes]] = []
    read = paramiko.packet.Packetizer.read_message

    def keep(self: paramiko.packet.Packetizer) -> tuple[int, paramiko.Message]:
        kind, message = read(self)
        found.append((kind, message.asbytes()))
        return kind, message

    monkeypatch.setattr(paramiko.packet.Packetizer, "read_message", keep)
    # It would give up at a number that it has no name for.
    monkeypatch.setitem(paramiko.common.MSG_NAMES, PONG, "pong")
    return found


def of_kind(heard: list[tuple[int, bytes]], kind: int) -> list[bytes]:
    return [body for each, body in list(heard) if each == kind]


# --- is anybody there


def test_a_client_that_answers_may_be_silent_for_ever(
    monkeypatch: pytest.MonkeyPatch, heard: list[tuple[int, bytes]]
) -> None:
    monkeypatch.setattr(EntryTransport, "keepalive_seconds", 0.3)
    talk = Conversation().log_in()
    eventually(lambda: len(of_kind(heard, GLOBAL_REQUEST)) > 3, what="keepalives")
    assert of_kind(heard, GLOBAL_REQUEST)[0] == packed(b"keepalive@openssh.com") + b"\1"
    assert talk.client.is_active()
    assert talk.end() == ""


def test_a_client_that_does_not_answer_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EntryTransport, "keepalive_seconds", 0.05)
    talk = Conversation()
    talk.client._handler_table[GLOBAL_REQUEST] = lambda _message: None  # type: ignore[attr-defined]
    with suppress(paramiko.SSHException):  # the end may come before paramiko has looked
        talk.log_in()
    eventually(lambda: talk.why, what="the server to give up")
    assert talk.end() == "client does not answer any more"


# --- what is told


def test_a_banner_is_shown_once_before_the_login_is_answered(
    monkeypatch: pytest.MonkeyPatch, heard: list[tuple[int, bytes]]
) -> None:
    serve = ssh_entry.serve
    monkeypatch.setattr(
        ssh_entry, "serve", lambda *some, **words: serve(*some, **words | {"banner": "hear, hear"})
    )
    talk = Conversation()
    with pytest.raises(paramiko.SSHException):
        talk.client.auth_password("alice", "guess")
    talk.log_in()
    assert of_kind(heard, BANNER) == [packed(b"hear, hear") + packed(b"en")]
    talk.end()


def test_our_extensions_are_told(heard: list[tuple[int, bytes]]) -> None:
    talk = Conversation().log_in()
    [told] = of_kind(heard, EXT_INFO)
    algorithms = ",".join(ssh_policy.USER_KEYS).encode()
    assert told == struct.pack(">I", 2) + packed(b"server-sig-algs") + packed(algorithms) + packed(
        b"ping@openssh.com"
    ) + packed(b"0")
    talk.end()


def test_a_ping_is_answered_with_its_own_data(heard: list[tuple[int, bytes]]) -> None:
    talk = Conversation().log_in()
    talk.send(b"\xc0", packed(b"any"))
    eventually(lambda: of_kind(heard, PONG), what="the answer")
    assert of_kind(heard, PONG) == [packed(b"any")]
    talk.end()


def test_who_goes_against_the_protocol_is_told_so(heard: list[tuple[int, bytes]]) -> None:
    talk = Conversation().log_in()
    talk.send(b"\x5e", struct.pack(">I", 77), packed(b"data"))
    eventually(lambda: of_kind(heard, DISCONNECT), what="the goodbye")
    why = b"client speaks on a channel that is not open"
    assert of_kind(heard, DISCONNECT) == [struct.pack(">I", 2) + packed(why) + packed(b"en")]
    assert talk.end() == why.decode()


@pytest.mark.parametrize("kind", [80, 90, 94, 98])
def test_channels_come_after_the_login(kind: int) -> None:
    talk = Conversation()
    talk.send(bytes([kind]), struct.pack(">I", 0), packed(b"x"))
    eventually(lambda: talk.why, what="the server to end")
    assert talk.end() == "client wants a channel before its login"


def test_who_does_not_speak_ssh_gets_a_line_and_no_packets(transport: EntryTransport) -> None:
    transport.saved_exception = paramiko.SSHException("client does not speak SSH")
    assert transport.goodbye() == b""
    transport.remote_version = "SSH-2.0-old"
    assert transport.goodbye()[0] == DISCONNECT


# --- new keys


def test_nothing_of_the_services_may_come_in_the_middle_of_a_key_exchange() -> None:
    """RFC 4253 §7.1: after its KEXINIT, a client sends the messages of the exchange only."""
    talk = Conversation().log_in()
    client = talk.client
    client.clear_to_send.clear()  # type: ignore[attr-defined]
    client._send_kex_init()  # type: ignore[attr-defined]
    talk.send(b"\x50", packed(b"keepalive@openssh.com"), b"\0")
    eventually(lambda: talk.why, what="the server to end")
    assert "during a key exchange" in talk.why[0]
    talk.end()


def test_a_client_that_never_ends_a_key_exchange_piles_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It asks and asks; the answers wait for new keys, of which it has not heard."""
    monkeypatch.setattr(ssh_policy, "MAX_HELD", 1000)
    monkeypatch.setattr("teleport_lite.net.ssh_wire.Wire.REKEY_PACKETS", 20)
    talk = Conversation()
    talk.client._handler_table[20] = lambda _message: None  # type: ignore[attr-defined]  # KEXINIT
    talk.log_in()
    try:
        for _ in range(2000):
            talk.send(b"\x50", packed(b"what"), b"\1")
    except (OSError, EOFError):
        pass
    eventually(lambda: talk.why, what="the server to end")
    assert talk.end() == "client does not finish a key exchange"


# --- for those behind


class Quiet:
    """A clerk with nothing to say."""

    def watched(self) -> tuple[int, ...]:
        return ()

    def close(self, channel: int) -> None:
        """Nothing is to be done."""


@pytest.fixture
def transport() -> Iterator[EntryTransport]:
    ours, theirs = socket.socketpair()
    transport = EntryTransport(ours, Quiet())  # type: ignore[arg-type]  # all that is asked of it
    yield transport
    ours.close()
    theirs.close()


def test_alarms_go_off_in_their_order(transport: EntryTransport) -> None:
    went: list[str] = []
    assert transport.patience() is None
    transport.later(1000, lambda: went.append("never"))
    transport.later(0, lambda: went.append("first"))
    transport.later(0, lambda: went.append("second"))
    assert transport.patience() == 0  # what they have changed is to be looked at
    assert went == ["first", "second"]
    left = transport.patience()
    assert left is not None
    assert 900 < left <= 1000


class Still:
    """A mover that waits for nothing, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.closed = False

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]:
        self.asked.append(may_send)
        yield from ()

    def ready(self, fd: int) -> None: ...

    def has(self, fd: int) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def test_only_those_are_asked_to_whom_something_has_happened(transport: EntryTransport) -> None:
    movers = [Still() for _ in range(3)]
    channels = [Channel(number, "session", transport) for number in range(3)]
    for channel, mover in zip(channels, movers, strict=True):
        transport.attach(channel, mover)
    transport.clear_to_send.set()  # type: ignore[attr-defined]
    for _ in range(3):
        transport.before_wait(may_send=True)
    assert [mover.asked for mover in movers] == [[True]] * 3
    assert transport.mover(1) is movers[1]
    transport.before_wait(may_send=True)
    assert [len(mover.asked) for mover in movers] == [1, 2, 1]
    transport.before_wait(may_send=False)
    assert [mover.asked[-1] for mover in movers] == [False] * 3
    transport.over(channels[2])
    transport.before_wait(may_send=False)
    assert [mover.closed for mover in movers] == [False, False, True]
    transport.leave()
    assert all(mover.closed for mover in movers)


class Gossip(Quiet):
    """While it tells of the end of a channel it hears of the end of the next."""

    def __init__(self) -> None:
        self.ended: list[Channel] = []
        self.told: list[int] = []

    def close(self, channel: int) -> None:
        self.told.append(channel)
        self.ended, self._next = self._next, []

    def will_hear(self, channel: Channel) -> None:
        self._next = [channel]


def test_what_the_clerk_hears_while_it_tells_of_an_end_is_not_left_lying(
    monkeypatch: pytest.MonkeyPatch, transport: EntryTransport
) -> None:
    """Nothing would wake us for it: a client would wait for an answer until it speaks again."""
    transport.clerk = clerk = Gossip()  # type: ignore[assignment]  # all that is asked of it
    news: list[Channel] = []

    def hear() -> None:
        news.extend(clerk.ended)
        for channel in clerk.ended:
            transport.over(channel)
        clerk.ended = []

    monkeypatch.setattr(transport, "_news", hear)
    first, second = (Channel(number, "session", transport) for number in (7, 8))
    clerk.will_hear(second)
    transport.over(first)
    transport.before_wait(may_send=True)
    assert news == [second]
    assert clerk.told == [7, 8]


class Chatty(Still):
    """Has something to say whenever it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.read_end, self.write_end = os.pipe()
        os.write(self.write_end, b"x")
        self.ready_for: list[int] = []

    def wants(self, *, may_send: bool) -> Iterator[tuple[int, int]]:
        yield from super().wants(may_send=may_send)
        yield self.read_end, select.POLLIN

    def ready(self, fd: int) -> None:
        self.ready_for.append(fd)

    def has(self, fd: int) -> bool:
        return fd == self.read_end

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


def test_nothing_is_read_on_top_of_what_already_waits(transport: EntryTransport) -> None:
    mover = Chatty()
    transport.attach(Channel(0, "session", transport), mover)
    transport.before_wait(may_send=True)
    transport.ready(mover.read_end)
    assert mover.ready_for == [mover.read_end]
    transport.packetizer.write_all(b"x" * (1 << 20) + b"x")
    transport.ready(mover.read_end)
    assert mover.ready_for == [mover.read_end]
    transport.leave()


def test_a_word_for_those_who_look_closely(
    monkeypatch: pytest.MonkeyPatch, heard: list[tuple[int, bytes]]
) -> None:
    ask = PaperDesk.ask
    there: list[EntryTransport] = []
    trigger = EntryTransport._auth_trigger
    monkeypatch.setattr(
        EntryTransport, "_auth_trigger", lambda self: (there.append(self), trigger(self))[1]
    )
    monkeypatch.setattr(
        PaperDesk, "ask", lambda self, what: (there[0].debug("look"), ask(self, what))[1]
    )
    talk = Conversation().log_in()
    talk.client.open_session(timeout=30)
    assert of_kind(heard, DEBUG) == [b"\1" + packed(b"look") + packed(b"en")]
    talk.end()
