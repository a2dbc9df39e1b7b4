"""Frames that no honest end would send: the tunnel ends, or the frame is for nobody."""

import asyncio
import sys
from collections.abc import Callable

import pytest

from teleport_lite.net.mux import MAX_BACKLOG
from teleport_lite.net.mux_frames import INITIAL_WINDOW, MAX_DATA, MAX_WINDOW, Kind, frame
from teleport_lite.net.mux_heart import Pace
from teleport_lite.proto.codec import write
from teleport_lite.proto.tunnel import Control, TunnelHello
from tests.net.mux_pair import HELLO, End, pair
from tests.tunnel_rig import until

SYN = write(HELLO)
CREDIT = MAX_WINDOW.to_bytes(4, "big")


def cut(frames: Callable[[int], bytes], *, by_far: bool = True) -> str:
    """Why a tunnel with one open stream ends after these frames about it."""

    async def work() -> str:
        async with pair() as both:
            stream, _, _, _ = await both.open()
            sender, end = (both.far, both.near_end) if by_far else (both.near, both.far_end)
            both.raw(sender, frames(stream.id))
            await until(lambda: end.why, what="the cut")
            return end.why[0]

    return asyncio.run(work())


@pytest.mark.parametrize("by_far", [True, False], ids=["agent", "proxy"])
@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (lambda _: b"GET / HTTP/1.1\r\n", "frame of type 71"),
        (lambda _: frame(Kind.DATA, 4096, b"x"), "which never was"),
        (lambda _: frame(Kind.DATA, 4097, b"x"), "which never was"),
        (lambda _: frame(Kind.WIN, 4097, CREDIT), "which never was"),
        (lambda _: frame(Kind.RST, 4096), "which never was"),
        (lambda id: frame(Kind.SYN, id, SYN), "not free"),
        (lambda id: frame(Kind.WIN, id, bytes(4)), "window of 0"),
        (lambda id: frame(Kind.WIN, id, CREDIT) * 2, "granted a window"),
        (lambda id: frame(Kind.FIN, id) * 2, "ended twice"),
        (lambda id: frame(Kind.FIN, id) + frame(Kind.DATA, id, b"x"), "after the end"),
        (lambda _: frame(Kind.CONTROL, 0, b"[]"), "not a Control"),
        (lambda _: frame(Kind.CONTROL, 0, b"\xff" * 40), "not a Control"),
        (
            lambda _: frame(Kind.CONTROL, 0, write(Control(hello=TunnelHello(version=1)))),
            "second hello",
        ),
    ],
)
def test_a_violation_ends_the_tunnel(
    frames: Callable[[int], bytes], why: str, by_far: bool
) -> None:
    assert why in cut(frames, by_far=by_far)


@pytest.mark.parametrize("raw", [b"{}", b"x", write(HELLO)[:-1] + b', "address": "10.0.0.1:22"}'])
def test_a_stream_for_something_else_is_a_violation(raw: bytes) -> None:
    assert "not a Open" in cut(lambda _: frame(Kind.SYN, 4, raw), by_far=False)


def data(stream: int, size: int) -> bytes:
    whole, rest = divmod(size, MAX_DATA)
    return frame(Kind.DATA, stream, bytes(MAX_DATA)) * whole + frame(Kind.DATA, stream, bytes(rest))


def test_who_overruns_a_window_is_cut() -> None:
    async def work() -> None:
        async with pair() as both:
            stream, hears, _, _ = await both.open()
            stream.pause_reading()
            both.raw(both.far, data(stream.id, INITIAL_WINDOW))
            await until(lambda: stream._inbox_size == INITIAL_WINDOW)
            assert both.near.alive
            both.raw(both.far, frame(Kind.DATA, stream.id, b"x"))
            await until(lambda: both.near_end.why)
            assert "1 too many" in both.near_end.why[0]
            assert not hears.data

    asyncio.run(work())


def test_a_window_full_of_tiny_frames_takes_no_more_memory_than_the_window() -> None:
    async def work() -> None:
        async with pair() as both:
            stream, hears, _, _ = await both.open()
            stream.pause_reading()
            sent = bytes(number % 251 for number in range(INITIAL_WINDOW))
            frames = (
                frame(Kind.DATA, stream.id, sent[at : at + 2]) for at in range(0, len(sent), 2)
            )
            both.raw(both.far, b"".join(frames))
            await until(lambda: stream._inbox_size == INITIAL_WINDOW)
            assert sum(map(sys.getsizeof, stream._inbox)) < 2 * INITIAL_WINDOW
            stream.resume_reading()
            await until(lambda: len(hears.data) == INITIAL_WINDOW)
            assert hears.data == sent

    asyncio.run(work())


def test_what_has_been_read_may_be_sent_again() -> None:
    async def work() -> None:
        async with pair() as both:
            stream, hears, _, _ = await both.open()
            for turn in range(1, 4):
                both.raw(both.far, data(stream.id, INITIAL_WINDOW))
                await until(lambda n=turn: len(hears.data) == n * INITIAL_WINDOW)  # type: ignore[misc]
            assert both.near.alive

    asyncio.run(work())


@pytest.mark.parametrize("kind", [Kind.SYN, Kind.DATA, Kind.PING, Kind.RST])
def test_nothing_comes_before_the_hello(kind: Kind) -> None:
    async def work() -> None:
        async with pair(near_end=End(greets=False), far_end=End(greets=False)) as both:
            await until(lambda: both.near.tls.secure and both.far.tls.secure)
            payload = {Kind.SYN: SYN, Kind.DATA: b"x"}.get(kind, b"")
            both.raw(both.far, frame(kind, 1, payload))
            await until(lambda: both.near_end.why)
            assert "before the hello" in both.near_end.why[0]
            assert not both.near_end.streams

    asyncio.run(work())


def test_late_frames_of_a_stream_that_has_ended_are_for_nobody() -> None:
    async def work() -> None:
        async with pair() as both:
            stream, heard, _, _ = await both.open()
            stream.abort()
            await until(lambda: heard.lost)
            for each in (
                frame(Kind.DATA, stream.id, b"late"),
                frame(Kind.WIN, stream.id, CREDIT),
                frame(Kind.FIN, stream.id),
                frame(Kind.RST, stream.id),
            ):
                both.raw(both.far, each)
            await both.open()
            assert both.near.alive

    asyncio.run(work())


def test_streams_past_the_limit_are_reset_and_the_tunnel_stays() -> None:
    async def work() -> None:
        async with pair(max_streams=3) as both:
            await both.open()
            both.near._next_id = 200  # it knows of them
            opens = b"".join(frame(Kind.SYN, 2 * n, SYN) for n in range(2, 50))
            both.raw(both.near, opens)
            await until(lambda: len(both.far_end.streams) == 3)
            assert len(both.far) == 3
            both.near.ping()
            await asyncio.sleep(0.05)
            assert both.far.alive

    asyncio.run(work())


def test_who_makes_us_answer_and_does_not_read_is_cut() -> None:
    async def work() -> None:
        async with pair(pace=Pace(interval=60, deadline=60, greeting=60)) as both:
            assert both.far._transport is not None
            both.far._transport.pause_reading()
            transport = both.near._transport
            assert transport is not None
            loop = asyncio.get_running_loop()
            deadline = loop.time() + 30
            while both.near.alive and loop.time() < deadline:
                both.raw(both.far, frame(Kind.PING, 7) * 8000)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert transport.get_write_buffer_size() <= MAX_BACKLOG + 64 * 1024
            await until(lambda: both.near_end.why)
            assert "does not read" in both.near_end.why[0]

    asyncio.run(work())


def test_bytes_that_are_no_tls_end_the_connection() -> None:
    async def work() -> None:
        async with pair() as both:
            assert both.far._transport is not None
            both.far._transport.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            await until(lambda: both.near_end.why)
            assert "TLS failed" in both.near_end.why[0]

    asyncio.run(work())
