"""What a connection waits for."""

import os
import select
from collections.abc import Iterator

import pytest

from teleport_lite.net.ssh_watch import Watch


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """Read and write ends of two."""
    ends = [*os.pipe(), *os.pipe()]
    yield ends
    for fd in ends:
        os.close(fd)


def test_each_waits_for_its_own(pipes: list[int]) -> None:
    watch = Watch()
    watch.change({1: {pipes[0]: select.POLLIN}, 2: {pipes[3]: select.POLLOUT}})
    assert watch.wait(0) == [(pipes[3], select.POLLOUT)]
    assert [watch.owner(fd) for fd in (pipes[0], pipes[3], 99)] == [1, 2, None]
    watch.change({2: {}})
    assert watch.wait(0) == []
    os.write(pipes[1], b"x")
    assert watch.wait(None) == [(pipes[0], select.POLLIN)]


def test_what_is_not_mentioned_stays(pipes: list[int]) -> None:
    watch = Watch()
    watch.change({1: {pipes[1]: select.POLLOUT}, 2: {pipes[3]: select.POLLOUT}})
    watch.change({2: {pipes[3]: select.POLLIN}})
    assert watch.wait(0) == [(pipes[1], select.POLLOUT)]


def test_a_number_that_is_another_s_by_now_stays_with_the_other(pipes: list[int]) -> None:
    watch = Watch()
    watch.change({1: {pipes[1]: select.POLLOUT}})
    watch.change({2: {pipes[1]: select.POLLOUT}, 1: {}})
    assert watch.owner(pipes[1]) == 2
    assert watch.wait(0) == [(pipes[1], select.POLLOUT)]
    watch.change({1: {}})
    assert watch.owner(pipes[1]) == 2


def test_what_is_closed_behind_our_back_is_told_once(pipes: list[int]) -> None:
    watch = Watch()
    fd = os.dup(pipes[1])
    watch.change({1: {fd: select.POLLOUT, pipes[3]: select.POLLOUT}})
    os.close(fd)
    assert dict(watch.wait(0))[fd] & select.POLLNVAL
    assert watch.wait(0) == [(pipes[3], select.POLLOUT)]
    watch.change({1: {}})
    assert watch.wait(0) == []
