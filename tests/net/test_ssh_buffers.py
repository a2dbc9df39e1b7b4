"""Our packets against paramiko's: same keys, each reads what the other writes, to the byte."""

import fcntl
import itertools
import os
import random
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paramiko import packet as their_packet
from paramiko.packet import Packetizer

from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_buffers import SLOTS, Incoming, Outgoing
from teleport_lite.net.ssh_seal import Clear, Gcm, Seal, padding
from teleport_lite.net.ssh_wire import Wire

SEALS = [
    ("", ""),
    *((cipher, "") for cipher in policy.CIPHERS if "gcm" in cipher),
    *itertools.product((each for each in policy.CIPHERS if "ctr" in each), policy.MACS),
]
IDS = ["-".join(filter(None, pair)).replace("@openssh.com", "") or "clear" for pair in SEALS]
SIZES = (*range(1, 40), 1000, 32_777, 60_000)
every_seal = pytest.mark.parametrize(("cipher", "mac"), SEALS, ids=IDS)


class Tape:
    """Looks like a socket: what is sent to it comes out again, in pieces of `most`."""

    def __init__(self, said: bytes = b"", most: int = 1 << 30) -> None:
        self.said, self.most = said, most

    def send(self, data: Any, _flags: int = 0) -> int:
        self.said += bytes(data)
        return len(data)

    def sendmsg(self, pieces: list[Any], _extra: Any, _flags: int) -> int:
        return sum(map(self.send, pieces))

    def recv(self, size: int) -> bytes:
        taken, self.said = self.said[:size], self.said[size:]
        return taken

    def recv_into(self, view: memoryview) -> int:
        taken = self.recv(min(self.most, len(view)))
        view[: len(taken)] = taken
        return len(taken)


class Pair:
    """Our two directions and paramiko's, with the same keys; `ours` and `theirs` are written."""

    def __init__(self, cipher: str = "", mac: str = "") -> None:
        self.ours, self.theirs = Tape(), Tape()
        self.out, self.into = Outgoing(), Incoming()
        self.into.largest = policy.MAX_PACKET
        # Each reads what the other wrote.
        self.reader, self.writer = Packetizer(self.ours), Packetizer(self.theirs)
        if cipher:
            keys = SimpleNamespace(_out=self.out, _in=self.into)
            out = set_keys(Wire.set_outbound_cipher, "out", cipher, mac)
            into = set_keys(Wire.set_inbound_cipher, "in", cipher, mac)
            out(keys)
            into(keys)
            set_keys(Packetizer.set_inbound_cipher, "in", cipher, mac)(self.reader)
            set_keys(Packetizer.set_outbound_cipher, "out", cipher, mac)(self.writer)

    def write(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.out.put(payload)
        self.out.flush(self.ours)  # type: ignore[arg-type]  # looks like a socket

    def they_write(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.writer.send_message(paramiko.Message(payload))

    def they_read(self) -> bytes:
        kind, message = self.reader.read_message()
        return bytes([kind]) + message.asbytes()

    def read(self, tape: Tape | None = None) -> list[bytes]:
        """All that is there."""
        tape, found = tape or self.theirs, []
        while tape.said:
            self.into.fill(tape)  # type: ignore[arg-type]  # looks like a socket
            while (payload := self.into.packet()) is not None:
                found.append(bytes(payload))
        return found


def set_keys(method: Callable[..., None], way: str, cipher: str, mac: str) -> Callable[[Any], None]:
    """Calls `method` as paramiko's transport does after a key exchange."""
    transport: Any = paramiko.Transport
    info = transport._cipher_info[cipher]
    aead = bool(info.get("is_aead"))
    key, iv = b"k" * info["key-size"], b"i" * info.get("iv-size", info["block-size"])
    maker = transport.__new__(transport)
    operation = transport._ENCRYPT if way == "out" else transport._DECRYPT
    words: dict[str, Any] = {
        "block_engine": maker._get_engine(cipher, key, iv, operation, aead),
        "block_size": info["block-size"],
        "mac_engine": None if aead else transport._mac_info[mac]["class"],
        "mac_size": 16 if aead else transport._mac_info[mac]["size"],
        "mac_key": None if aead else b"m" * transport._mac_info[mac]["size"],
        "etm": not aead,
        "aead": aead,
        f"iv_{way}": iv if aead else None,
    }
    if way == "out":
        words["sdctr"] = not aead
    return lambda side: method(side, **words)


def payloads() -> list[bytes]:
    chance = random.Random(1)
    return [bytes([2]) + chance.randbytes(size - 1) for size in SIZES]


# --- every cipher and MAC


@every_seal
def test_paramiko_reads_what_we_write(cipher: str, mac: str) -> None:
    pair = Pair(cipher, mac)
    pair.write(*payloads())
    assert [pair.they_read() for _ in SIZES] == payloads()


@every_seal
def test_we_read_what_paramiko_writes(cipher: str, mac: str) -> None:
    pair = Pair(cipher, mac)
    pair.they_write(*payloads())
    assert pair.read() == payloads()
    assert pair.into.number == len(SIZES)


@every_seal
def test_what_we_write_is_what_paramiko_writes(
    cipher: str, mac: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its padding is random for GCM, ours is zeros."""
    monkeypatch.setattr(their_packet, "os", SimpleNamespace(urandom=bytes))
    pair = Pair(cipher, mac)
    pair.write(*payloads())
    pair.they_write(*payloads())
    assert pair.ours.said == pair.theirs.said


@every_seal
@pytest.mark.parametrize("most", [1, 7, 1000, 40_000])
def test_packets_may_come_in_any_pieces(cipher: str, mac: str, most: int) -> None:
    pair = Pair(cipher, mac)
    said = payloads()[:40] if most < 1000 else payloads() * 8  # more than the buffer holds
    pair.they_write(*said)
    pair.theirs.most = most
    assert pair.read() == said


@pytest.mark.parametrize(("cipher", "mac"), SEALS[1:], ids=IDS[1:])
def test_a_byte_that_is_not_the_sender_s_is_refused(cipher: str, mac: str) -> None:
    whole = Pair(cipher, mac)
    whole.they_write(b"\x02" + b"x" * 50)
    for at in range(len(whole.theirs.said)):
        said = bytearray(whole.theirs.said)
        said[at] ^= 1 << at % 8
        try:
            heard = Pair(cipher, mac).read(Tape(bytes(said)))
        except paramiko.SSHException:
            continue
        assert (heard, at < 4) == ([], True)  # its length is a little more than there is


@every_seal
def test_part_of_a_packet_is_nothing_yet(cipher: str, mac: str) -> None:
    pair = Pair(cipher, mac)
    pair.they_write(b"\x02hello")
    whole = pair.theirs.said
    for size in range(len(whole)):
        assert Pair(cipher, mac).read(Tape(whole[:size])) == []


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SEALS), st.integers(0, 80), st.binary(max_size=300))
def test_any_bytes_are_packets_or_a_refusal(
    seal: tuple[str, str], length: int, rest: bytes
) -> None:
    try:
        heard = Pair(*seal).read(Tape(struct.pack(">I", length) + rest))
    except paramiko.SSHException:
        heard = []
    assert all(0 < len(each) < 80 for each in heard)


@every_seal
@pytest.mark.parametrize("length", [0, 1, 11, 13, 17, 256 * 1024 + 16, 0x7FFF_FFFF, 0xFFFF_FFF0])
def test_a_bad_length_is_refused_before_the_rest_is_there(
    cipher: str, mac: str, length: int
) -> None:
    with pytest.raises(paramiko.SSHException, match="length"):
        Pair(cipher, mac).read(Tape(struct.pack(">I", length) + b"\0" * 16))


def test_before_the_login_packets_are_small() -> None:
    pair = Pair()
    pair.into.largest = policy.MAX_PACKET_BEFORE_LOGIN
    with pytest.raises(paramiko.SSHException, match="length"):
        pair.read(Tape(struct.pack(">IB", 64 * 1024 + 4, 4)))


@every_seal
@pytest.mark.parametrize("pad", [0, 3, 31, 32, 255])
def test_a_bad_padding_is_refused(cipher: str, mac: str, pad: int) -> None:
    """Less than four bytes of it, or no payload but padding, or more than the packet has."""
    pair = Pair(cipher, mac)
    inside = 28 if not cipher else 32
    packet = memoryview(bytearray(4 + inside + pair.out.seal.tag))
    plain = bytes([pad]) + b"\x02" * (inside - 1)
    pair.out.seal.close(memoryview(plain), packet, 0)
    with pytest.raises(paramiko.SSHException, match="padding"):
        pair.read(Tape(bytes(packet)))


def test_a_mac_that_is_not_ours_is_refused() -> None:
    """Encrypt-and-MAC is never agreed on; were it, it would not be mistaken for the other."""
    keys = SimpleNamespace(_out=Outgoing())
    with pytest.raises(paramiko.SSHException):
        Wire.set_outbound_cipher(
            keys,  # type: ignore[arg-type]  # has all it needs
            None,
            16,
            paramiko.Transport._mac_info["hmac-sha2-256"]["class"],  # type: ignore[attr-defined]
            32,
            b"m" * 32,
            etm=False,
            aead=False,
        )


@pytest.mark.parametrize(
    "seal", [Clear(), Gcm(SimpleNamespace(encrypt_into=0, decrypt_into=0), b"")]
)
def test_padding_is_enough_and_fits(seal: Seal) -> None:
    for size in range(1, 100):
        pad = padding(size, seal)
        ahead = 1 if seal.apart else 5
        assert 4 <= pad < 4 + seal.block
        assert (ahead + size + pad) % seal.block == 0


# --- counting


def test_numbers_come_round_after_the_first_keys_only() -> None:
    pair = Pair()
    pair.out.number = 0xFFFF_FFFE
    pair.write(b"\x02")
    with pytest.raises(paramiko.SSHException, match="too many packets"):
        pair.write(b"\x02")
    pair.out.first_keys = True
    pair.write(b"\x02")
    assert pair.out.number == 0


def test_new_keys_are_not_worn() -> None:
    pair = Pair()
    pair.write(b"\x02" * 100)
    assert (pair.out.packets, pair.out.bytes) == (1, len(pair.ours.said))
    pair.out.renew(Clear())
    assert (pair.out.packets, pair.out.bytes, pair.out.number) == (0, 0, 1)


# --- from a descriptor


def data_of(payload: bytes) -> bytes:
    kind, remote, size = struct.unpack_from(">BII", payload)
    assert (kind, remote, size) == (94, 7, len(payload) - 9)
    return payload[9:]


@every_seal
@pytest.mark.parametrize("size", [1, 100, 32_768, 32_769, 200_000, SLOTS * 32_768])
@pytest.mark.parametrize("largest", [32_768, 1000, 256])
def test_what_is_read_goes_out_as_messages(cipher: str, mac: str, size: int, largest: int) -> None:
    pair, data = Pair(cipher, mac), random.Random(size).randbytes(size)
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(write_end, data)
    taken = pair.out.pump(pair.ours, read_end, 7, 1 << 20, largest)  # type: ignore[arg-type]  # tape
    assert taken == min(size, SLOTS * largest)
    sent = b""
    while pair.ours.said:
        part = data_of(pair.they_read())
        assert len(part) == largest or not pair.ours.said
        sent += part
    assert sent == data[:taken]
    os.close(write_end)
    os.close(read_end)


@pytest.mark.parametrize("room", [1, 999, 1000, 1001, 5000])
def test_no_more_is_read_than_there_is_room_for(room: int) -> None:
    pair = Pair()
    read_end, write_end = os.pipe()
    os.write(write_end, b"x" * 8000)
    assert pair.out.pump(pair.ours, read_end, 7, room, 1000) == room  # type: ignore[arg-type]  # tape
    assert len(os.read(read_end, 8000)) == 8000 - room
    os.close(write_end)
    assert pair.out.pump(pair.ours, read_end, 7, room, 1000) == 0  # type: ignore[arg-type]  # tape
    os.close(read_end)


class Full(Tape):
    """Takes `room` bytes, and no more until there is room again."""

    room = 0

    def send(self, data: Any, _flags: int = 0) -> int:
        taken = bytes(data)[: self.room]
        if not taken:
            raise BlockingIOError
        self.room -= len(taken)
        return super().send(taken)

    def sendmsg(self, pieces: list[Any], _extra: Any, _flags: int) -> int:
        return self.send(b"".join(pieces))


def test_what_the_socket_does_not_take_waits_in_order() -> None:
    pair = Pair(*SEALS[1])
    pair.ours = pair.reader._Packetizer__socket = Full()  # type: ignore[attr-defined]  # theirs
    read_end, write_end = os.pipe()
    sent = b""
    for turn in range(5):
        pair.ours.room = 1000 * turn
        data = bytes([turn]) * 3000
        os.write(write_end, data)
        pair.out.put(b"\x02between")
        pair.out.pump(pair.ours, read_end, 7, 1 << 20, 1000)  # type: ignore[arg-type]  # tape
        sent += data
    assert pair.out.waiting > 0
    pair.ours.room = 1 << 20
    pair.out.flush(pair.ours)  # type: ignore[arg-type]  # tape
    assert pair.out.waiting == 0
    heard = [pair.they_read() for _ in range(5 * 4)]
    assert [each == b"\x02between" for each in heard[::4]] == [True] * 5
    assert b"".join(data_of(each) for each in heard if each[0] == 94) == sent
    os.close(write_end)
    os.close(read_end)


# --- the first line


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", b"SSH-2.0-OpenSSH_9.2"),
        (b"SSH-2.0-old\n", b"SSH-2.0-old"),
        (b"SSH-2.0-x\xff\xfe\r\nrest", b"SSH-2.0-x\xff\xfe"),
        (b"SSH-2.0-slow", None),
        (b"S", None),
        (b"", None),
    ],
)
def test_the_first_line_is_the_client_s_name(line: bytes, name: bytes | None) -> None:
    into = Incoming()
    into.fill(Tape(line))  # type: ignore[arg-type]  # looks like a socket
    assert into.line() == name


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1\r\n", b"SSX", b"\0", b"\r\n", b"\n", b"SSH-2.0-" + b"x" * 300]
)
def test_any_other_first_line_is_refused_at_once(line: bytes) -> None:
    into = Incoming()
    into.fill(Tape(line))  # type: ignore[arg-type]  # looks like a socket
    with pytest.raises(paramiko.SSHException):
        into.line()


# --- memory


def test_buffers_are_given_back_when_they_are_empty() -> None:
    pair = Pair(*SEALS[1])
    pair.they_write(*payloads()[-2:])
    half = pair.theirs.said[:-10]
    pair.read(Tape(half))
    assert pair.into.large
    pair.into.rest()  # there is a part of a packet in it
    assert pair.into.large
    assert pair.read(Tape(pair.theirs.said[-10:])) == payloads()[-1:]
    pair.into.rest()
    assert not pair.into.large
    pair.they_write(b"\x02again")
    assert pair.read(Tape(pair.theirs.said[len(half) + 10 :])) == [b"\x02again"]
