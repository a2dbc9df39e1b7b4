"""Any sequence of frames, however wrong: Malformed or taken, and never more memory than granted."""

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st

from teleport_lite.errors import Malformed
from teleport_lite.net.mux import Mux
from teleport_lite.net.mux_frames import INITIAL_WINDOW, MAX_DATA, Deframer, Kind, frame
from teleport_lite.net.mux_heart import Heart
from teleport_lite.net.mux_window import BUDGET, LARGE
from teleport_lite.proto.codec import write
from teleport_lite.proto.tunnel import Control, GoingAway, TunnelHello
from tests.net.mux_pair import HELLO, End

ids = st.integers(1, 6)
open_ids = st.sampled_from([1, 3, 5])
data = st.builds(
    lambda id, n: frame(Kind.DATA, id, bytes(n)), open_ids, st.sampled_from([1, MAX_DATA])
)
orderly = st.one_of(
    data,
    data,
    st.builds(
        lambda id, n: frame(Kind.WIN, id, n.to_bytes(4, "big")), open_ids, st.integers(1, 999)
    ),
    st.builds(lambda id: frame(Kind.PING, id), open_ids),
    st.builds(lambda id: frame(Kind.PONG, id), open_ids),
)
others = st.one_of(
    st.builds(lambda id: frame(Kind.SYN, id, write(HELLO)), ids),
    st.builds(lambda id, n: frame(Kind.WIN, id, n.to_bytes(4, "big")), ids, st.integers(0, 2**25)),
    st.builds(lambda id: frame(Kind.FIN, id), ids),
    st.builds(lambda id, why: frame(Kind.RST, id, why), ids, st.binary(max_size=9)),
    st.just(frame(Kind.CONTROL, 0, write(Control(going_away=GoingAway())))),
    st.binary(min_size=1, max_size=12),
)
# What no honest end sends ends it all at once, so most of it is nearly honest.
frames = st.one_of(orderly, orderly, orderly, others)
# Streams of both sides that are there from the start.
OPENED = b"".join(frame(Kind.SYN, id, write(HELLO)) for id in (1, 3, 5))


class NoTls:
    """Nothing is written: there is no connection."""

    secure = ended = False
    to_send = 0

    def write(self, plain: bytes) -> None: ...

    def taken(self) -> bytes:
        return b""


@settings(max_examples=200, deadline=None)
@given(
    said=st.lists(frames, max_size=30),
    paused=st.booleans(),
    takes=st.booleans(),
    dialled=st.booleans(),
)
@example(said=[frame(Kind.DATA, 3, bytes(MAX_DATA))] * 2, paused=True, takes=True, dialled=False)
def test_any_frames_are_taken_or_malformed(
    said: list[bytes], paused: bool, takes: bool, dialled: bool
) -> None:
    async def work() -> None:
        end = End(takes=takes)
        mux = Mux(
            NoTls(),  # type: ignore[arg-type]  # as much of it as is asked for
            dialled=dialled,
            owner=end,
            heart=Heart(),
            max_streams=4,
        )
        deframer = Deframer()
        hello = frame(Kind.CONTROL, 0, write(Control(hello=TunnelHello(version=1))))
        deframer.feed(memoryview(hello), mux._deliver)
        mux._transport = Nowhere()  # type: ignore[assignment]  # the same
        if dialled:
            for _ in range(3):
                mux.open(HELLO)
        else:
            deframer.feed(memoryview(OPENED), mux._deliver)
        for stream in mux._streams.values():
            if paused:
                stream.pause_reading()
        for raw in said:
            try:
                deframer.feed(memoryview(raw), mux._deliver)
            except Malformed:
                break
            await asyncio.sleep(0)
            assert len(mux) <= 4
            held = [each._inbox_size for each in mux._streams.values()]
            assert sum(held) <= min(BUDGET, 4 * LARGE)
            if paused or not takes:
                assert max(held, default=0) <= INITIAL_WINDOW
        for each in list(mux._streams.values()):
            each.lost("over")
        assert len(mux) == 0
        await asyncio.sleep(0)

    asyncio.run(work())


class Nowhere(asyncio.Transport):
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self

    def setsockopt(self, *_: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0
