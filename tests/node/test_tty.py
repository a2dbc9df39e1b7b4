"""Terminal modes: RFC 4254 §8, from bytes that may be anything."""

import fcntl
import os
import struct
import termios
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_lite.node.tty import foreground_group, read_modes, set_modes, set_size


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def mode(opcode: int, value: int) -> bytes:
    return bytes([opcode]) + value.to_bytes(4, "big")


def test_a_list_is_read_up_to_its_end() -> None:
    assert read_modes(mode(53, 1) + mode(1, 3) + b"\0" + mode(50, 1)) == {53: 1, 1: 3}


def test_what_is_undefined_or_cut_ends_the_list() -> None:
    assert read_modes(mode(53, 1) + mode(160, 1) + mode(50, 1)) == {53: 1}
    assert read_modes(mode(53, 1) + b"\x32\0\0") == {53: 1}


def test_flags_and_characters_are_set(terminal: tuple[int, int]) -> None:
    _, slave = terminal
    set_modes(slave, mode(53, 0) + mode(51, 0) + mode(72, 0) + mode(3, 8) + mode(1, 255))
    attributes = termios.tcgetattr(slave)
    assert not attributes[3] & (termios.ECHO | termios.ICANON)
    assert not attributes[1] & termios.ONLCR
    assert attributes[6][termios.VERASE] == b"\x08"
    assert attributes[6][termios.VINTR] == b"\0"  # 255: none
    set_modes(slave, mode(53, 1))
    assert termios.tcgetattr(slave)[3] & termios.ECHO


@given(st.binary(max_size=500))
def test_any_bytes_do(modes: bytes) -> None:
    master, slave = os.openpty()
    try:
        set_modes(slave, modes)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(
    ("asked", "given_"),
    [((80, 24, 640, 480), (24, 80, 640, 480)), ((1 << 32, 70_000, 0, 0), (65535, 65535, 0, 0))],
)
def test_sizes(
    terminal: tuple[int, int], asked: tuple[int, int, int, int], given_: tuple[int, ...]
) -> None:
    _, slave = terminal
    set_size(slave, *asked)
    raw = fcntl.ioctl(slave, termios.TIOCGWINSZ, b"\0" * 8)
    assert struct.unpack("HHHH", raw) == given_


def test_a_terminal_nobody_has_has_no_foreground(terminal: tuple[int, int]) -> None:
    assert foreground_group(terminal[0]) == 0
