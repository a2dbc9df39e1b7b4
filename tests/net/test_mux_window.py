"""The size of windows: large when alone, small when answers come late."""

from teleport_lite.net.mux_frames import INITIAL_WINDOW, MAX_WINDOW
from teleport_lite.net.mux_window import BUDGET, LARGE, LATE, START, Window


def test_a_stream_alone_may_fill_the_line() -> None:
    window = Window()
    for _ in range(50):
        window.answered(5.0, busy=True)
    assert window.of(1) == LARGE <= MAX_WINDOW


def test_streams_that_share_begin_small() -> None:
    assert Window().of(2) == START < LARGE


def test_late_answers_shrink_it_to_what_a_stream_starts_with() -> None:
    window = Window()
    window.answered(0.04, busy=False)
    sizes = []
    for _ in range(12):
        window.answered(0.04 + 2 * LATE, busy=True)
        sizes.append(window.of(2))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < START
    assert sizes[-1] == INITIAL_WINDOW


def test_a_long_way_that_is_not_crowded_is_used() -> None:
    """200 ms there and back, whatever we send: the window grows until it is as when alone."""
    window = Window()
    for _ in range(20):
        window.answered(0.2, busy=True)
    assert window.of(2) == LARGE


def test_it_grows_again_when_the_crowd_is_gone() -> None:
    window = Window()
    window.answered(0.04, busy=False)
    for _ in range(12):
        window.answered(1.0, busy=True)
    for _ in range(20):
        window.answered(0.05, busy=True)
    assert window.of(2) == LARGE


def test_a_way_that_became_longer_is_believed_after_a_while() -> None:
    window = Window()
    window.answered(0.04, busy=False)
    for _ in range(2000):
        window.answered(0.4, busy=True)
    assert window.of(2) > INITIAL_WINDOW


def test_all_streams_together_keep_to_the_budget() -> None:
    window = Window()
    for _ in range(20):
        window.answered(0.01, busy=True)
    for count in (2, 16, 64, 200):
        assert window.of(count) * count <= BUDGET
    assert window.of(1000) == INITIAL_WINDOW
