"""A tap never waits, never forgets what strict recordings need, and bounds what it keeps."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from teleport_lite.net import ssh_tap
from teleport_lite.net.ssh_tap import (
    COUNT,
    END,
    GAP,
    INPUT,
    OUTPUT,
    RESIZE,
    SIZE,
    Arrival,
    FromTap,
    RecordTap,
    ToTap,
)
from teleport_lite.proto.codec import read, write
from tests.support import eventually

CHUNK = b"x" * 65536


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Rig:
    def __init__(self, *, strict: bool) -> None:
        self.monitor, control = pair()
        self.scribe, line = pair()
        self.said: list[str] = []
        self.woken: list[float] = []
        self.tap = RecordTap(control=control, scribe=line, strict=strict, size=(80, 24))
        self.tap.bind(self.said.append, self.woken.append)

    def tell(self, said: ToTap, *fds: int) -> None:
        socket.send_fds(self.monitor, [write(said)], list(fds))
        self.turn()

    def turn(self) -> None:
        """What a loop would do that has been told of every descriptor."""
        for fd, _ in list(self.tap.wants()):
            if self.tap.has(fd):
                self.tap.ready(fd)

    def party(self, number: int, *, types: bool) -> socket.socket:
        ours, theirs = pair()
        self.tell(ToTap(party=Arrival(number=number, types=types)), theirs.fileno())
        theirs.close()
        assert ours.recv(100) == RESIZE + SIZE.pack(80, 24)
        return ours

    def recorded(self) -> tuple[int, int]:
        """Bytes of output that the scribe has got, and that it is told are missing."""
        self.scribe.setblocking(False)
        got = missing = 0
        while True:
            try:
                packet = self.scribe.recv(100_000)
            except BlockingIOError:
                before = got
                self.turn()
                if got == before and not self._readable():
                    return got, missing
                continue
            if not packet:
                return got, missing
            if packet[:1] == OUTPUT:
                got += len(packet) - 1
            elif packet[:1] == GAP:
                missing += COUNT.unpack(packet[1:])[0]

    def _readable(self) -> bool:
        try:
            return bool(self.scribe.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    def close(self) -> None:
        self.tap.close()
        self.monitor.close()
        self.scribe.close()


@pytest.fixture
def strict() -> Iterator[Rig]:
    rig = Rig(strict=True)
    yield rig
    rig.close()


@pytest.fixture
def effort() -> Iterator[Rig]:
    rig = Rig(strict=False)
    yield rig
    rig.close()


def test_a_strict_recording_holds_the_shell_and_misses_nothing(
    strict: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0
    while not strict.tap.holds():
        strict.tap.output(CHUNK)
        sent += len(CHUNK)
        assert sent < 2_000_000
    monkeypatch.setattr(ssh_tap, "_PATIENCE", 0.0)  # it needs none
    assert strict.tap.holds()
    assert strict.recorded() == (sent, 0)
    assert not strict.tap.holds()


def test_at_best_effort_patience_ends_and_what_is_left_out_is_counted(effort: Rig) -> None:
    sent = 0
    while not effort.tap.holds():
        effort.tap.output(CHUNK)
        sent += len(CHUNK)
    assert effort.woken == [1.0]
    # It asks to be woken then, since nothing will have moved meanwhile.
    eventually(lambda: not effort.tap.holds())
    for _ in range(1000):
        effort.tap.output(CHUNK)
        sent += len(CHUNK)
    got, missing = effort.recorded()
    assert missing > 900 * len(CHUNK)
    assert got + missing == sent
    effort.tap.output(b"on again")
    assert effort.recorded() == (8, 0)


@pytest.mark.parametrize("mode", ["strict", "best effort"])
def test_the_end_is_said_when_all_has_gone_before_it(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(strict=mode == "strict")
    rig.tap.output(b"last words")
    rig.tap.close()
    assert [rig.scribe.recv(100) for _ in range(3)] == [OUTPUT + b"last words", END, b""]
    rig.close()
    # And one that does not listen until the moment is over hears of none.
    monkeypatch.setattr(ssh_tap, "_LAST_PATIENCE", 0.05)
    rig = Rig(strict=mode == "strict")
    while not rig.tap.holds():
        rig.tap.output(CHUNK)
    rig.tap.close()
    heard = []
    while packet := rig.scribe.recv(100_000):
        heard.append(packet[:1])
    assert set(heard) == {OUTPUT}
    rig.close()


def test_a_scribe_that_is_gone_holds_nobody_up(strict: Rig) -> None:
    strict.scribe.close()
    for _ in range(100):
        strict.tap.output(CHUNK)
    assert not strict.tap.holds()


def test_the_last_output_is_waited_for_but_not_for_ever(
    effort: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_tap, "_LAST_PATIENCE", 0.2)
    sent = 0
    while not effort.tap.holds():
        effort.tap.output(CHUNK)
        sent += len(CHUNK)
    effort.tap.close()  # nobody reads
    assert 0 < effort.recorded()[0] < sent


def test_what_the_monitor_says_the_person_reads(effort: Rig) -> None:
    effort.tell(ToTap(say="not all of this is recorded"))
    assert effort.said == ["not all of this is recorded"]


def test_a_broken_recording_is_let_go(strict: Rig) -> None:
    strict.tell(ToTap(broken=True))
    assert strict.scribe.recv(10) == b""
    for _ in range(100):
        strict.tap.output(CHUNK)
    assert not strict.tap.holds()


def test_a_party_sees_and_types_only_if_it_may(effort: Rig) -> None:
    observer, peer = effort.party(1, types=False), effort.party(2, types=True)
    effort.tap.output(b"hello")
    effort.tap.resized(100, 30)
    for party in (observer, peer):
        assert party.recv(100) == OUTPUT + b"hello"
        assert party.recv(100) == RESIZE + SIZE.pack(100, 30)
        party.send(INPUT + b"ls\n")
    effort.turn()
    assert effort.tap.typed() == b"ls\n"
    assert effort.tap.typed() == b""
    observer.close()
    peer.close()


@pytest.mark.parametrize("packet", [b"x", OUTPUT + b"x", INPUT + b"y" * 5000], ids=range(3))
def test_a_party_that_talks_nonsense_is_out(effort: Rig, packet: bytes) -> None:
    party = effort.party(7, types=True)
    party.send(packet)
    effort.turn()
    assert read(FromTap, effort.monitor.recv(1000), limit=1000).left == 7
    assert effort.tap.typed() == b""
    party.close()


def test_a_party_that_leaves_is_told(effort: Rig) -> None:
    effort.party(3, types=False).close()
    effort.turn()
    assert read(FromTap, effort.monitor.recv(1000), limit=1000).left == 3


def test_a_slow_party_is_dropped_and_nobody_waits(effort: Rig) -> None:
    slow, quick = effort.party(1, types=False), effort.party(2, types=False)
    for _ in range(20):
        effort.tap.output(b"y" * 60_000)
        effort.recorded()
        assert len(quick.recv(100_000)) == 60_001
    assert read(FromTap, effort.monitor.recv(1000), limit=1000).left == 1
    quick.close()
    slow.close()


def test_who_is_told_to_leave_leaves(effort: Rig) -> None:
    party = effort.party(1, types=True)
    effort.tell(ToTap(leave=1))
    assert party.recv(10) == b""
    party.close()


def test_what_parties_type_is_bounded(effort: Rig) -> None:
    party = effort.party(1, types=True)
    party.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(10_000):
            party.send(INPUT + b"z" * 4000)
            wanted = {fd for fd, events in effort.tap.wants() if events}
            for fd in wanted:
                effort.tap.ready(fd)
        pytest.fail("nobody stops it")
    assert 0 < len(effort.tap.typed()) < 100_000
    party.close()


def test_without_its_monitor_a_tap_goes_on(effort: Rig) -> None:
    effort.monitor.close()
    effort.turn()
    effort.tap.output(b"still recorded")
    assert effort.recorded() == (14, 0)
