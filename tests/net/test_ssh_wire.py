"""The packetizer that is an event loop, without paramiko on top."""

import inspect
import os
import re
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import paramiko
import pytest
from paramiko.common import MSG_IGNORE, MSG_UNIMPLEMENTED
from paramiko.packet import NeedRekeyException, Packetizer

from teleport_lite.net import ssh_wire
from teleport_lite.net.ssh_buffers import Outgoing
from teleport_lite.net.ssh_seal import Clear
from teleport_lite.net.ssh_wire import Wire


class Listening:
    """An attendant with a pipe; what comes out of it, and what it is told, is kept."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.read_end, self.write_end = os.pipe()
        self.heard: list[bytes] = []
        self.may_send: list[bool] = []
        self.delivered: list[tuple[int, bytes]] = []
        self.last = b""
        self.wait: float | None = None
        wire.attendant = self

    def before_wait(self, *, may_send: bool) -> None:
        self.may_send.append(may_send)
        self.wire.watch.change({0: {self.read_end: select.POLLIN}})

    def patience(self) -> float | None:
        return self.wait

    def ready(self, fd: int) -> None:
        self.heard.append(os.read(fd, 100))
        self.wire.send(b"\x02here")

    def deliver(self, kind: int, body: memoryview) -> None:
        self.delivered.append((kind, bytes(body)))

    def goodbye(self) -> bytes:
        return self.last

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


class Talk:
    """Our wire at one end of a socket; whatever we like at the other."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.settimeout(30)
        self.wire = Wire(ours)
        self.attendant = Listening(self.wire)

    def say(self, *payloads: bytes) -> None:
        self.peer.sendall(packets(*payloads))

    def close(self) -> None:
        self.wire.close()
        self.peer.close()
        self.attendant.close()


def packets(*payloads: bytes) -> bytes:
    out = Outgoing()
    for payload in payloads:
        out.put(payload)
    return b"".join(bytes(each) for each in out._queue)


@pytest.fixture
def talk() -> Iterator[Talk]:
    talk = Talk()
    yield talk
    talk.close()


def test_messages_come_one_by_one(talk: Talk) -> None:
    talk.say(b"\x02one", b"\x05two")
    heard = [talk.wire.read_message() for _ in range(2)]
    assert [(kind, message.asbytes()) for kind, message in heard] == [(2, b"one"), (5, b"two")]
    assert [message.seqno for _, message in heard] == [0, 1]


def test_debug_messages_are_passed_over_unread(talk: Talk) -> None:
    """Paramiko would take seconds for one that names a long text."""
    talk.say(b"\x04\x00\x00\x04\x00\x00")
    kind, message = talk.wire.read_message()
    assert (kind, message.asbytes()) == (MSG_IGNORE, b"")


def test_services_go_to_the_attendant(talk: Talk) -> None:
    talk.wire.services = {94, 192}
    talk.say(b"\x5edata", b"\xc0ping", b"\x02end")
    assert talk.wire.read_message()[0] == MSG_IGNORE
    assert talk.attendant.delivered == [(94, b"data"), (192, b"ping")]


def test_the_end_is_the_end_for_ever(talk: Talk) -> None:
    talk.say(b"\x02last")
    talk.peer.close()
    assert talk.wire.read_message()[1].asbytes() == b"last"
    for _ in range(2):
        with pytest.raises(EOFError):
            talk.wire.read_message()


def test_a_client_that_goes_in_the_middle_of_its_first_line(talk: Talk) -> None:
    talk.peer.sendall(b"SSH-")
    talk.peer.close()
    with pytest.raises(EOFError):
        talk.wire.readline(1)


def test_what_is_sent_goes_out_before_the_next_wait(talk: Talk) -> None:
    talk.wire.write_all(b"one ")
    talk.wire.write_all(b"two")
    talk.say(b"\x02")
    talk.wire.read_message()
    assert talk.peer.recv(100) == b"one two"


def test_others_get_their_turn_while_we_wait(talk: Talk) -> None:
    os.write(talk.attendant.write_end, b"from a shell")
    talk.attendant.wait = 0.01
    while not talk.attendant.heard:
        talk.wire._turn()
    talk.wire._turn()
    assert talk.attendant.heard == [b"from a shell"]
    assert talk.peer.recv(100) == packets(b"\x02here")


def test_a_peer_that_does_not_read_stops_the_shells_and_then_itself(talk: Talk) -> None:
    """Nothing is read of it while two megabytes wait, whatever it says."""
    talk.attendant.wait = 0.01
    talk.wire.write_all(b"x" * (3 << 20))
    talk.say(b"\x02")
    for _ in range(5):
        talk.wire._turn()
    assert talk.attendant.may_send == [False] * 5
    assert talk.wire._in.packet() is None
    taken = 0
    while taken < 3 << 20:
        taken += len(talk.peer.recv(1 << 20))
        talk.wire._turn()
    talk.wire._turn()
    assert talk.attendant.may_send[-1] is True
    assert talk.wire.read_message()[0] == MSG_IGNORE


def test_a_peer_that_is_gone_is_not_an_error_to_send_to(talk: Talk) -> None:
    talk.peer.close()
    talk.wire.send(b"\x02" * 100)
    with pytest.raises(EOFError):
        talk.wire.read_message()


def test_the_last_word_is_the_attendant_s(talk: Talk) -> None:
    talk.attendant.last = b"\x01why"
    talk.wire.close()
    talk.wire.close()
    assert talk.peer.recv(100) == packets(b"\x01why")
    assert talk.peer.recv(1) == b""
    talk.wire.send(b"\x02after the end")
    with pytest.raises(EOFError):
        talk.wire.read_message()


def test_an_unknown_message_is_answered_and_passed_over(talk: Talk) -> None:
    talk.say(b"\x02", b"\xc8what")
    talk.wire.read_message()
    assert talk.wire.read_message()[0] == MSG_IGNORE
    talk.wire._flush()
    # The number of the packet that we did not know.
    assert talk.peer.recv(100) == packets(bytes([MSG_UNIMPLEMENTED]) + struct.pack(">I", 1))


def test_new_keys_are_asked_for_once(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wire, "REKEY_BYTES", 100)
    talk.say(b"\x02" * 200, b"\x02" * 50)
    talk.wire.read_message()
    assert talk.wire.need_rekey()
    talk.wire.read_message()
    with pytest.raises(NeedRekeyException):
        talk.wire.read_message()
    talk.say(b"\x02")
    assert talk.wire.read_message()[0] == MSG_IGNORE
    talk.wire._in.renew(Clear())
    assert not talk.wire.need_rekey()


def test_a_client_that_does_not_take_part_in_a_key_exchange_has_to_go(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wire, "REKEY_PACKETS", 1)
    monkeypatch.setattr(ssh_wire.policy, "REKEY_GRACE", 1000)
    talk.say(b"\x02")
    talk.wire.read_message()
    with pytest.raises(NeedRekeyException):
        talk.wire.read_message()
    talk.say(*[b"\x02" * 200] * 6)

    def read_on() -> None:
        while True:
            talk.wire.read_message()

    with pytest.raises(paramiko.SSHException, match="does not take part"):
        read_on()


def test_large_buffers_are_given_back_in_a_quiet_moment(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_wire, "_IDLE", 0.01)
    talk.wire.largest = 256 * 1024
    talk.wire.services = {94}
    rest = packets(b"\x5e" + b"x" * 150_000)
    while rest:
        rest = rest[talk.peer.send(rest[:10_000]) :]
        talk.wire._turn()
    assert talk.wire._in.large
    assert talk.wire._in.packet() is not None
    talk.wire._turn()
    assert not talk.wire._in.large


# --- what paramiko asks of its packetizer


def test_everything_that_paramiko_calls_is_there(talk: Talk) -> None:
    """We are not a subclass of its own: it keeps its state where others can not get at it."""
    source = inspect.getsource(paramiko.transport)
    called = set(re.findall(r"packetizer\.([a-z_]+)", source))
    # Compression is not offered, logs are not kept, and it is we who keep alive.
    unused = {
        "closed",
        "get_hexdump",
        "set_hexdump",
        "set_inbound_compressor",
        "set_keepalive",
        "set_outbound_compressor",
        "set_log",
    }
    assert called - unused <= set(dir(talk.wire))
    assert unused & called - {"closed"} <= set(dir(Packetizer))


@pytest.mark.parametrize("name", ["set_outbound_cipher", "set_inbound_cipher"])
def test_keys_are_handed_over_as_we_expect(name: str) -> None:
    theirs = inspect.signature(getattr(Packetizer, name)).parameters
    assert list(theirs)[:6] == [
        "self",
        "block_engine",
        "block_size",
        "mac_engine",
        "mac_size",
        "mac_key",
    ]
    way = "out" if "out" in name else "in"
    assert set(list(theirs)[6:]) - {"sdctr"} == {"etm", "aead", f"iv_{way}"}


def test_paramiko_waits_for_a_message_nowhere_else() -> None:
    """Were it to read the socket by itself, nothing else would get its turn."""
    source = inspect.getsource(paramiko.Transport)
    reads: Any = re.findall(r"self\.sock\.(recv|read|makefile)", source)
    assert reads == []
