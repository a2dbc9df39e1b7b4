"""Channels without a connection: messages in, messages out."""

import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.net import ssh_policy as policy
from teleport_lite.net.ssh_channel import Channel
from teleport_lite.net.ssh_channels import PROHIBITED, RESOURCE_SHORTAGE, Asked, Channels
from teleport_lite.pki.wire import Reader
from teleport_lite.testing.certs import packed

ADJUST, DATA, EXTENDED, EOF, CLOSE, REQUEST, SUCCESS, FAILURE = range(93, 101)
THEIRS = 7  # the client's number of a channel


class Paper(Channels):
    """Opens everything but what is called "no", and keeps what is said."""

    openssh = True

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes] = []
        self.ended: list[Channel] = []
        self.asked: list[Asked] = []
        self.requests: list[tuple[bytes, bytes]] = []
        self.opened: list[Channel] = []

    def send(self, payload: bytes) -> None:
        self.said.append(payload)

    def pump(self, channel: Channel, fd: int, most: int) -> int:
        data = os.read(fd, most)
        if data:
            self.send(channel.packet(data))
        return len(data)

    def over(self, channel: Channel) -> None:
        self.ended.append(channel)

    def _open_asked(self, asked: Asked) -> None:
        if asked.kind == "later":
            self.asked.append(asked)
        elif asked.kind == "no":
            self.refuse_open(asked, PROHIBITED, "no")
        else:
            self.opened.append(self.confirm_open(asked, b"extra"))

    def _channel_request(self, channel: Channel, kind: bytes, reader: Reader) -> bool:
        self.requests.append((kind, reader.text()))
        return kind != b"no"

    def _global_request(self, kind: str, reader: Reader) -> tuple[bool, bytes]:
        return kind != "no", reader.text()

    # --- the client

    def hear(self, kind: int, *parts: bytes | int) -> list[bytes]:
        """What is said because of it."""
        self.said.clear()
        body = b"".join(struct.pack(">I", p) if isinstance(p, int) else p for p in parts)
        self.deliver(kind, memoryview(body))
        return list(self.said)

    def open(self, *, window: int = 1 << 20, largest: int = 32768) -> Channel:
        self.hear(90, packed(b"session"), THEIRS, window, largest)
        return self.opened[-1]


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    os.set_blocking(ends[1], False)
    yield ends
    for fd in ends:
        os.close(fd)


# --- opening


def test_a_channel_is_confirmed_with_our_number_and_window(paper: Paper) -> None:
    said = paper.hear(90, packed(b"session"), THEIRS, 100, 32768)
    assert said == [b"\x5b" + numbers(THEIRS, 0, policy.WINDOW, policy.DATA) + b"extra"]
    assert paper.hear(90, packed(b"session"), 8, 100, 32768)[0][5:9] == numbers(1)
    assert paper.live() == 2


def test_a_refusal_says_why(paper: Paper) -> None:
    said = paper.hear(90, packed(b"no"), THEIRS, 100, 32768)
    assert said == [b"\x5c" + numbers(THEIRS, PROHIBITED) + packed(b"no") + packed(b"en")]
    assert paper.live() == 0


def test_an_answer_may_come_later(paper: Paper) -> None:
    assert paper.hear(90, packed(b"later"), THEIRS, 100, 32768) == []
    assert paper.hear(90, packed(b"later"), 8, 100, 32768) == []
    assert paper.live("later") == 2
    paper.refuse_open(paper.asked[1], PROHIBITED, "why")
    channel = paper.confirm_open(paper.asked[0])
    assert (channel.number, channel.remote, paper.live()) == (0, THEIRS, 1)


def test_channels_that_the_client_does_not_close_count(paper: Paper) -> None:
    for _ in range(policy.MAX_CHANNELS):
        paper.open().close()
    assert paper.live() == 0
    said = paper.hear(90, packed(b"session"), THEIRS, 100, 32768)
    assert said[0][:9] == b"\x5c" + numbers(THEIRS, RESOURCE_SHORTAGE)
    paper.hear(CLOSE, 0)
    assert paper.hear(90, packed(b"session"), THEIRS, 100, 32768)[0][0] == 91


def test_many_channels_have_little_windows(paper: Paper) -> None:
    """All windows together are what a client can have us keep."""
    windows = [paper.open().in_window for _ in range(policy.FEW_CHANNELS + 1)]
    assert windows == [policy.WINDOW] * policy.FEW_CHANNELS + [policy.SMALL_WINDOW]
    number = policy.FEW_CHANNELS
    paper.hear(DATA, number, packed(b"x" * (policy.SMALL_WINDOW // 8)))
    paper.opened[number].discard()
    assert paper.said == [bytes([ADJUST]) + numbers(THEIRS, policy.SMALL_WINDOW // 8)]
    with pytest.raises(Malformed, match="more than its window"):
        paper.hear(DATA, number, packed(b"x" * (policy.SMALL_WINDOW + policy.WINDOW_SLACK + 1)))


@pytest.mark.parametrize("largest", [0, 1, 255])
def test_packets_too_small_to_be_meant_are_refused(paper: Paper, largest: int) -> None:
    assert paper.hear(90, packed(b"session"), THEIRS, 100, largest)[0][0] == 92


# --- opened by us


def outcome(paper: Paper) -> list[tuple[Channel | None, str]]:
    found: list[tuple[Channel | None, str]] = []
    paper.open_channel("x11", b"more", lambda channel, why: found.append((channel, why)))
    return found


def test_a_channel_of_ours_is_asked_for_and_answered(paper: Paper) -> None:
    found = outcome(paper)
    assert paper.said == [
        b"\x5a" + packed(b"x11") + numbers(0, policy.WINDOW, policy.DATA) + b"more"
    ]
    paper.hear(91, 0, 42, 1000, 500)
    [(channel, why)] = found
    assert channel is not None
    assert (channel.kind, channel.remote, channel.out_window, why) == ("x11", 42, 1000, "")
    channel.send(b"x" * 600)
    assert [len(each) for each in paper.said] == [9 + 500, 9 + 100]


def test_a_refusal_of_the_client_s_is_one_printable_line(paper: Paper) -> None:
    found = outcome(paper)
    paper.hear(92, 0, 2, packed("nö\n\x1b[2J".encode()), packed(b""))
    assert found == [(None, "n\\xf6\\n\\x1b[2J")]
    found = outcome(paper)
    paper.hear(92, 1, 2, packed(b""), packed(b""))
    assert found == [(None, "refused, code 2")]


def test_who_waits_for_an_answer_hears_of_the_end(paper: Paper) -> None:
    found = outcome(paper)
    paper.give_up()
    assert found == [(None, "the connection has ended")]


@pytest.mark.parametrize("kind", [91, 92])
def test_an_answer_that_nobody_asked_for_ends_it(paper: Paper, kind: int) -> None:
    paper.open()
    with pytest.raises(Malformed, match="nobody asked for"):
        paper.hear(kind, 0, 1, 2, 3)


def test_a_channel_that_is_not_confirmed_is_not_open(paper: Paper) -> None:
    outcome(paper)
    with pytest.raises(Malformed, match="not open"):
        paper.hear(DATA, 0, packed(b"early"))


# --- the client's data


def test_data_waits_until_it_is_taken(paper: Paper, pipe: tuple[int, int]) -> None:
    channel = paper.open()
    paper.hear(DATA, 0, packed(b"hello "))
    paper.hear(DATA, 0, packed(b"world"))
    assert channel.waiting == channel.heard == 11
    assert channel.take(3) == b"hel"
    assert channel.write_to(pipe[1])
    assert os.read(pipe[0], 100) == b"lo world"
    assert (channel.waiting, channel.take(1)) == (0, b"")


def test_views_are_copied_before_the_buffer_is_used_again(paper: Paper) -> None:
    channel = paper.open()
    buffer = bytearray(numbers(0) + packed(b"first"))
    paper.deliver(DATA, memoryview(buffer))
    paper.keep()
    buffer[8:] = b"XXXXX"
    paper.hear(DATA, 0, packed(b"second"))
    assert channel.take(100) + channel.take(100) == b"firstsecond"


def test_crumbs_are_put_together(paper: Paper) -> None:
    channel = paper.open()
    for _ in range(10_000):
        paper.hear(DATA, 0, packed(b"x"))
        paper.keep()
    assert len(channel._inbox) < 10
    assert channel.waiting == 10_000


def test_what_a_pipe_does_not_take_waits_on(paper: Paper, pipe: tuple[int, int]) -> None:
    channel, data = paper.open(), os.urandom(1_000_000)
    for at in range(0, len(data), 30_000):
        paper.hear(DATA, 0, packed(data[at : at + 30_000]))
    taken = b""
    while not channel.write_to(pipe[1]):
        paper.keep()
        taken += os.read(pipe[0], 50_000)
    while channel.waiting or len(taken) < len(data):
        taken += os.read(pipe[0], 50_000)
    assert taken == data


def test_the_window_opens_for_what_has_been_taken(paper: Paper) -> None:
    channel, part = paper.open(), packed(b"x" * 32768)
    for _ in range(policy.WINDOW // 8 // 32768):
        assert paper.hear(DATA, 0, part) == []
    channel.take(1)
    assert paper.said == []
    channel.discard()
    assert paper.said == [bytes([ADJUST]) + numbers(THEIRS, policy.WINDOW // 8)]
    assert channel.in_window == policy.WINDOW


def test_more_than_the_window_ends_it(paper: Paper) -> None:
    paper.open()
    part = packed(b"x" * 65536)
    for _ in range((policy.WINDOW + policy.WINDOW_SLACK) // 65536):
        paper.hear(DATA, 0, part)
    with pytest.raises(Malformed, match="more than its window"):
        paper.hear(DATA, 0, part)


def test_extended_data_of_a_client_goes_nowhere_but_counts(paper: Paper) -> None:
    channel = paper.open()
    for _ in range(20 * policy.WINDOW // 65536):
        paper.hear(EXTENDED, 0, 1, packed(b"x" * 65536))
    assert channel.waiting == 0
    assert channel.in_window > 0


def test_nothing_comes_after_the_end(paper: Paper) -> None:
    channel = paper.open()
    paper.hear(EOF, 0)
    paper.hear(DATA, 0, packed(b"more"))
    assert (channel.eof_received, channel.waiting) == (True, 0)


# --- our data


def test_data_is_cut_to_what_the_client_takes(paper: Paper) -> None:
    channel = paper.open(window=100_000, largest=1 << 20)
    paper.said.clear()
    channel.send(b"x" * 70_000)
    assert [len(each) - 9 for each in paper.said] == [32768, 32768, 4464]
    assert (channel.out_window, channel.said) == (30_000, 70_000)
    with pytest.raises(ValueError, match="window"):
        channel.send(b"x" * 30_001)
    paper.hear(ADJUST, 0, 5)
    channel.send_stderr(b"y" * 30_005)
    assert paper.said == [bytes([EXTENDED]) + numbers(THEIRS, 1) + packed(b"y" * 30_005)]


def test_a_window_of_more_than_32_bits_ends_it(paper: Paper) -> None:
    paper.open(window=0xFFFF_FFFF)
    paper.hear(ADJUST, 0, 0)
    with pytest.raises(Malformed, match="too far"):
        paper.hear(ADJUST, 0, 1)


def test_a_descriptor_is_read_as_far_as_the_window_goes(
    paper: Paper, pipe: tuple[int, int]
) -> None:
    channel = paper.open(window=10)
    os.write(pipe[1], b"0123456789abcdef")
    assert channel.send_from(pipe[0], most=4) == 4
    assert channel.send_from(pipe[0], most=100, stderr=True) == 6
    assert (channel.out_window, channel.said) == (0, 10)


def test_a_note_waits_for_room(paper: Paper) -> None:
    channel = paper.open(window=3)
    paper.said.clear()
    channel.note("hello\nyou")
    assert paper.said == [bytes([EXTENDED]) + numbers(THEIRS, 1) + packed(b"hel")]
    said = paper.hear(ADJUST, 0, 100)
    assert said == [bytes([EXTENDED]) + numbers(THEIRS, 1) + packed(b"lo\r\nyou\r\n")]


def test_notes_without_end_are_dropped(paper: Paper) -> None:
    channel = paper.open(window=0)
    for _ in range(1000):
        channel.note("x" * 1000)
    assert len(channel._notes) <= 64 * 1024


def test_how_it_ended_is_told(paper: Paper) -> None:
    channel = paper.open()
    paper.said.clear()
    channel.send_exit_status(258)
    channel.send_exit_signal("TERM", core=True)
    head = bytes([REQUEST]) + numbers(THEIRS)
    assert paper.said == [
        head + packed(b"exit-status") + b"\0" + numbers(258),
        head + packed(b"exit-signal") + b"\0" + packed(b"TERM") + b"\1" + packed(b"") * 2,
    ]


# --- the end


def test_close_is_said_once_by_each_side(paper: Paper) -> None:
    channel = paper.open()
    paper.said.clear()
    channel.close()
    channel.close()
    channel.send(b"late")
    channel.send_eof()
    channel.send_exit_status(0)
    assert paper.said == [bytes([kind]) + numbers(THEIRS) for kind in (EOF, CLOSE)]
    assert paper.hear(CLOSE, 0) == []
    assert paper.ended == [channel]


def test_a_client_that_closes_is_answered(paper: Paper) -> None:
    channel = paper.open()
    assert paper.hear(CLOSE, 0) == [bytes([CLOSE]) + numbers(THEIRS)]
    assert paper.ended == [channel]
    assert channel.closed


@pytest.mark.parametrize("kind", [ADJUST, DATA, EXTENDED, EOF, CLOSE, REQUEST])
def test_who_speaks_on_a_channel_that_never_was_must_go(paper: Paper, kind: int) -> None:
    paper.open()
    with pytest.raises(Malformed, match="not open"):
        paper.hear(kind, 1, 0)


def test_what_crosses_our_close_is_nobody_s_fault(paper: Paper) -> None:
    channel = paper.open()
    channel.close()
    paper.hear(DATA, 0, packed(b"late"))
    assert paper.hear(REQUEST, 0, packed(b"env"), b"\1", packed(b"x")) == []
    assert (channel.waiting, paper.requests) == (0, [])
    paper.hear(CLOSE, 0)
    paper.hear(DATA, 0, packed(b"later"))


# --- requests


@pytest.mark.parametrize(
    ("kind", "wants", "said"),
    [(b"yes", b"\1", [SUCCESS]), (b"no", b"\1", [FAILURE]), (b"no", b"\0", [])],
    ids=["yes", "no", "no reply"],
)
def test_a_request_is_answered_if_asked(
    paper: Paper, kind: bytes, wants: bytes, said: list[int]
) -> None:
    paper.open()
    heard = paper.hear(REQUEST, 0, packed(kind), wants, packed(b"body"))
    assert heard == [bytes([each]) + numbers(THEIRS) for each in said]
    assert paper.requests == [(kind, b"body")]


def test_a_global_request_s_answer_may_carry_more(paper: Paper) -> None:
    assert paper.hear(80, packed(b"yes"), b"\1", packed(b"port")) == [b"\x51port"]
    assert paper.hear(80, packed(b"no"), b"\1", packed(b"port")) == [b"\x52"]
    assert paper.hear(80, packed(b"yes"), b"\0", packed(b"port")) == []


# --- whatever else


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (DATA, b""),
        (DATA, numbers(0, 5) + b"four"),
        (DATA, numbers(0, 3) + b"four"),
        (EOF, numbers(0) + b"x"),
        (CLOSE, b"\0"),
        (ADJUST, numbers(0)),
        (EXTENDED, numbers(0, 1, 10)),
        (90, packed(b"session") + numbers(1)),
        (90, numbers(0xFFFF_FFFF)),
        (REQUEST, numbers(0)),
        (80, b""),
    ],
)
def test_what_can_not_be_read_ends_it_with_a_reason(paper: Paper, kind: int, body: bytes) -> None:
    paper.open()
    with pytest.raises(Malformed, match=f"message {kind} can not be read"):
        paper.hear(kind, body)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([80, 81, 82, *range(90, 101)]),
            st.integers(0, 3),
            st.binary(max_size=40) | st.binary(max_size=40).map(packed),
        ),
        max_size=20,
    )
)
def test_nothing_a_client_says_makes_more_than_a_refusal(said: list[tuple[int, int, Any]]) -> None:
    paper = Paper()
    paper.open()
    outcome(paper)
    refusal = ""
    for kind, number, rest in said:
        try:
            paper.hear(kind, number, rest)
        except Malformed as why:
            refusal = str(why)
            break
        paper.keep()
    assert refusal.isprintable()
    assert all(channel.out_window >= 0 for channel in paper.opened)
