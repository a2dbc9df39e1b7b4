"""A tunnel between honest ends: streams, credit, half-close, turns, life and death."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from teleport_lite.errors import Unavailable
from teleport_lite.net import mux as tunnels
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_frames import INITIAL_WINDOW
from teleport_lite.net.mux_heart import Pace
from teleport_lite.net.mux_stream import MuxStream
from teleport_lite.net.mux_window import LARGE, START
from teleport_lite.proto.tunnel import Control, GoingAway
from tests.net.mux_pair import HELLO, End, pair
from tests.tunnel_rig import Listener, until

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def go(work: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work)

    return go


def test_bytes_arrive_whole_and_in_order_both_ways(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            near, heard_near, far, heard_far = await both.open()
            up, down = bytes(range(256)) * 12_000, b"down" * 400_000
            near.write(up)
            far.write(memoryview(down))
            near.write(b"tail")
            await until(lambda: len(heard_far.data) == len(up) + 4)
            await until(lambda: len(heard_near.data) == len(down))
            assert heard_far.data == up + b"tail"
            assert heard_near.data == down
            assert both.near.sent == both.far.received == len(up) + 4

    run(work())


def test_the_other_side_hears_who_comes(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            await both.open()
            assert both.far_end.streams[0][2] == HELLO

    run(work())


def test_a_half_that_ends_leaves_the_other_open(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            near, heard_near, far, heard_far = await both.open()
            near.write(b"question")
            near.write_eof()
            await until(lambda: heard_far.eof)
            assert heard_far.data == b"question"
            with pytest.raises(RuntimeError, match="write_eof"):
                near.write(b"more")
            far.write(b"answer")
            far.write_eof()
            await until(lambda: heard_near.lost and heard_far.lost)
            assert heard_near.data == b"answer"
            assert heard_near.eof
            assert heard_near.lost == heard_far.lost == [None]
            assert len(both.near) == len(both.far) == 0

    run(work())


def test_close_sends_what_was_written(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            near, heard_near, _, heard_far = await both.open()
            near.write(b"z" * 3_000_000)
            near.close()
            assert near.is_closing()
            near.write(b"into the void")
            await until(lambda: heard_far.lost)
            assert len(heard_far.data) == 3_000_000
            assert heard_far.eof
            await until(lambda: heard_near.lost)
            assert heard_near.lost == [None]

    run(work())


def test_abort_reaches_the_other_side_as_a_reset(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            near, heard_near, far, heard_far = await both.open()
            far.abort("not from me")
            await until(lambda: heard_near.lost and heard_far.lost)
            assert "not from me" in str(heard_near.lost[0])
            assert isinstance(heard_near.lost[0], ConnectionResetError)
            assert near.is_closing()
            near.write(b"nobody is there")

    run(work())


def test_a_protocol_that_refuses_the_end_closes_the_stream(run: Run) -> None:
    class Closes(Listener):
        def eof_received(self) -> bool:
            super().eof_received()
            return False

    async def work() -> None:
        async with pair(far_end=End(takes=False)) as both:
            near, heard_near = both.near.open(HELLO), Listener()
            near.set_protocol(heard_near)
            near.write_eof()
            await until(lambda: both.far_end.streams)
            far, hears = both.far_end.streams[0][0], Closes()
            far.set_protocol(hears)
            await until(lambda: hears.lost and heard_near.lost)
            assert heard_near.eof

    run(work())


def test_what_comes_before_a_protocol_is_kept(run: Run) -> None:
    async def work() -> None:
        async with pair(far_end=End(takes=False)) as both:
            near = both.near.open(HELLO)
            near.set_protocol(Listener())
            near.write(b"early")
            near.close()
            await until(lambda: both.far_end.streams)
            far, hears = both.far_end.streams[0][0], Listener()
            await until(lambda: far._reset)
            far.set_protocol(hears)
            await until(lambda: hears.lost)
            assert hears.data == b"early"
            assert hears.lost == [None]

    run(work())


def test_an_end_before_a_protocol_is_told_to_it(run: Run) -> None:
    async def work() -> None:
        async with pair(far_end=End(takes=False)) as both:
            near = both.near.open(HELLO)
            near.abort()
            await until(lambda: both.far_end.streams)
            far, hears = both.far_end.streams[0][0], Listener()
            await until(far.is_closing)
            far.set_protocol(hears)
            await until(lambda: hears.lost)

    run(work())


def test_a_frozen_reader_keeps_to_its_window_and_others_go_on(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            slow, heard_slow, far_slow, hears_slow = await both.open()
            quick, _, _, hears_quick = await both.open()
            far_slow.pause_reading()
            slow.write(b"s" * 8_000_000)
            assert heard_slow.paused
            quick.write(b"q" * 3_000_000)
            await until(lambda: len(hears_quick.data) == 3_000_000)
            assert not hears_slow.data
            assert far_slow._inbox_size <= START
            far_slow.resume_reading()
            await until(lambda: len(hears_slow.data) == 8_000_000)
            assert not heard_slow.paused

    run(work())


def test_credit_grows_with_reading_and_is_smaller_among_many(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            near, _, far, hears = await both.open()
            assert near.credit == INITIAL_WINDOW
            near.write(b"a")
            await until(lambda: near.credit == LARGE)
            assert both.far.window == LARGE
            await both.open()
            assert both.far.window == START
            near.write(b"b" * LARGE)
            await until(lambda: len(hears.data) == LARGE + 1)
            await until(lambda: 0 < near.credit <= START)
            assert far._granted <= START

    run(work())


def test_streams_take_turns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream with much to say does not keep one with little waiting."""

    async def work() -> None:
        async with pair() as both:
            bulk, _, _, hears_bulk = await both.open()
            keys, _, _, hears_keys = await both.open()
            both.near.pause_writing()  # as when the link is full
            bulk.write(b"b" * 40 * tunnels.SMALL_DATA)
            bulk.credit = keys.credit = 1 << 20
            keys.write(b"k")
            order: list[int] = []
            transmit = Mux.transmit

            def noted(mux: Mux, stream: MuxStream, data: memoryview) -> int:
                order.append(stream.id)
                return transmit(mux, stream, data)

            monkeypatch.setattr(Mux, "transmit", noted)
            both.near.resume_writing()
            assert order[1] == keys.id
            await until(lambda: len(hears_bulk.data) == 40 * tunnels.SMALL_DATA)
            assert hears_keys.data == b"k"

    run(work())


def test_two_streams_make_frames_small(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            first = (await both.open())[0]
            assert both.near._frame_max == tunnels.MAX_DATA
            await both.open()
            assert both.near._frame_max == both.far._frame_max == tunnels.SMALL_DATA
            first.abort()
            await until(lambda: both.far._frame_max == tunnels.MAX_DATA)
            assert both.near._frame_max == tunnels.MAX_DATA

    run(work())


def test_a_buffered_protocol_reads_too(run: Run) -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.memory, self.got = bytearray(1000), bytearray()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.memory

        def buffer_updated(self, nbytes: int) -> None:
            self.got += self.memory[:nbytes]

    async def work() -> None:
        async with pair(far_end=End(takes=False)) as both:
            near = both.near.open(HELLO)
            near.set_protocol(Listener())
            near.write(b"0123456789" * 5000)
            await until(lambda: both.far_end.streams)
            reader = Buffered()
            both.far_end.streams[0][0].set_protocol(reader)
            await until(lambda: len(reader.got) == 50_000)
            assert reader.got == b"0123456789" * 5000

    run(work())


def test_a_bug_in_one_reader_ends_its_stream_only(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Listener):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    async def work() -> None:
        async with pair(far_end=End(takes=False)) as both:
            near, heard = both.near.open(HELLO), Listener()
            near.set_protocol(heard)
            near.write(b"x")
            await until(lambda: both.far_end.streams)
            both.far_end.streams[0][0].set_protocol(Broken())
            await until(lambda: heard.lost)
            assert both.near.alive
            assert both.far.alive

    run(work())
    assert "internal error in a stream" in caplog.text


def test_more_streams_than_allowed_are_refused(run: Run) -> None:
    async def work() -> None:
        async with pair(max_streams=2) as both:
            await both.open()
            await both.open()
            with pytest.raises(Unavailable, match="2 sessions"):
                both.near.open(HELLO)

    run(work())


def test_a_retired_tunnel_ends_with_its_last_stream(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            near, _, _, hears = await both.open()
            both.near.retire()
            with pytest.raises(Unavailable, match="going away"):
                both.near.open(HELLO)
            near.write(b"still here")
            await until(lambda: hears.data == b"still here")
            assert both.far.alive
            near.close()
            await until(lambda: both.far_end.why)
            assert both.near_end.why == ["it is not needed any more"]
            with pytest.raises(Unavailable, match="not up"):
                both.near.open(HELLO)

    run(work())


def test_the_end_of_a_tunnel_is_told_to_all_its_streams(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            opened = [await both.open() for _ in range(3)]
            both.far.close("enough")
            for _, heard_near, _, heard_far in opened:
                await until(lambda a=heard_near, b=heard_far: a.lost and b.lost)  # type: ignore[misc]
                assert isinstance(heard_near.lost[0], ConnectionResetError)
            assert both.far_end.why == ["enough"]
            assert both.near_end.why == ["the other side has closed"]

    run(work())


def test_words_are_passed_on(run: Run) -> None:
    async def work() -> None:
        async with pair() as both:
            word = Control(going_away=GoingAway(delay=3.0, reason="restart"))
            both.near.say(word)
            await until(lambda: word in both.far_end.said)

    run(work())


QUICK = Pace(interval=0.1, deadline=0.5, greeting=0.5)


def test_silence_is_asked_about_and_answered(run: Run) -> None:
    async def work() -> None:
        async with pair(pace=QUICK) as both:
            await asyncio.sleep(4 * QUICK.deadline)
            assert both.near.alive
            assert both.far.alive

    run(work())


def test_a_tunnel_that_goes_silent_is_dead_for_both(run: Run) -> None:
    """Nothing is closed: the bytes just stop, as when a NAT forgets the connection."""

    async def work() -> None:
        async with pair(pace=QUICK, with_middlebox=True) as both:
            _, heard_near, _, heard_far = await both.open()
            assert both.middlebox is not None
            both.middlebox.forget()
            await until(lambda: heard_near.lost and heard_far.lost)
            assert "nothing was heard" in both.near_end.why[0]
            assert "nothing was heard" in both.far_end.why[0]

    run(work())


def test_who_does_not_greet_in_time_is_cut(run: Run) -> None:
    async def work() -> None:
        async with pair(pace=QUICK, near_end=End(greets=False), far_end=End(greets=False)) as both:
            await until(lambda: both.near_end.why and both.far_end.why)
            # Who cuts first takes the other by surprise.
            first = both.near_end.why[0] + both.far_end.why[0]
            assert "greeting" in first

    run(work())


def test_our_own_sleep_is_not_taken_for_the_silence_of_others(run: Run) -> None:
    async def work() -> None:
        async with pair(pace=QUICK) as both:
            time.sleep(3 * QUICK.deadline)  # the whole loop stands still
            await asyncio.sleep(2 * QUICK.interval)
            assert both.near.alive
            assert both.far.alive

    run(work())


def test_defaults_find_a_dead_tunnel_within_twenty_seconds() -> None:
    pace = Pace()
    assert pace.deadline + pace.interval / 5 < 17
    assert pace.interval <= 5


def test_bulk_beside_another_stream_asks_how_long_the_way_is(run: Run) -> None:
    async def work() -> None:
        async with pair(pace=Pace(interval=60, deadline=60, greeting=60)) as both:
            near, _, _, hears = await both.open()
            await both.open()
            loop = asyncio.get_running_loop()
            deadline = loop.time() + 30
            while both.far._question < 2 and loop.time() < deadline:
                near.write(b"b" * 1000)
                await asyncio.sleep(0.01)
            assert both.far._question == 2, "asked, answered, and asked again"
            assert hears.data

    run(work())
