"""Terminals: a new pty, its size, and the modes a client asks for (RFC 4254 §8)."""

import fcntl
import os
import struct
import termios
from contextlib import suppress
from typing import Any

# Opcode -> index in c_cc. What Linux has no use for (VDSUSP, VFLUSH, VSWTCH, VSTATUS) is
# skipped, as the RFC allows.
_CHARACTERS = {
    1: termios.VINTR,
    2: termios.VQUIT,
    3: termios.VERASE,
    4: termios.VKILL,
    5: termios.VEOF,
    6: termios.VEOL,
    7: termios.VEOL2,
    8: termios.VSTART,
    9: termios.VSTOP,
    10: termios.VSUSP,
    12: termios.VREPRINT,
    13: termios.VWERASE,
    14: termios.VLNEXT,
    18: termios.VDISCARD,
}
_IUTF8 = 0x4000  # asm-generic/termbits.h; RFC 8160 gives it opcode 42
# c_iflag, c_oflag, c_cflag and c_lflag are the first four items of tcgetattr's list.
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6
_FLAGS = {
    30: (_IFLAG, termios.IGNPAR),
    31: (_IFLAG, termios.PARMRK),
    32: (_IFLAG, termios.INPCK),
    33: (_IFLAG, termios.ISTRIP),
    34: (_IFLAG, termios.INLCR),
    35: (_IFLAG, termios.IGNCR),
    36: (_IFLAG, termios.ICRNL),
    37: (_IFLAG, termios.IUCLC),
    38: (_IFLAG, termios.IXON),
    39: (_IFLAG, termios.IXANY),
    40: (_IFLAG, termios.IXOFF),
    41: (_IFLAG, termios.IMAXBEL),
    42: (_IFLAG, _IUTF8),
    50: (_LFLAG, termios.ISIG),
    51: (_LFLAG, termios.ICANON),
    52: (_LFLAG, termios.XCASE),
    53: (_LFLAG, termios.ECHO),
    54: (_LFLAG, termios.ECHOE),
    55: (_LFLAG, termios.ECHOK),
    56: (_LFLAG, termios.ECHONL),
    57: (_LFLAG, termios.NOFLSH),
    58: (_LFLAG, termios.TOSTOP),
    59: (_LFLAG, termios.IEXTEN),
    60: (_LFLAG, termios.ECHOCTL),
    61: (_LFLAG, termios.ECHOKE),
    62: (_LFLAG, termios.PENDIN),
    70: (_OFLAG, termios.OPOST),
    71: (_OFLAG, termios.OLCUC),
    72: (_OFLAG, termios.ONLCR),
    73: (_OFLAG, termios.OCRNL),
    74: (_OFLAG, termios.ONOCR),
    75: (_OFLAG, termios.ONLRET),
    90: (_CFLAG, termios.CS7),
    91: (_CFLAG, termios.CS8),
    92: (_CFLAG, termios.PARENB),
    93: (_CFLAG, termios.PARODD),
}
_END = 0
# Opcodes from 160 on have no defined argument: reading stops there.
_UNDEFINED = 160
_DISABLED = 255  # as a character: none; _POSIX_VDISABLE is 0 here
_MAX_SIDE = 65535  # struct winsize has 16 bits


def read_modes(modes: bytes) -> dict[int, int]:
    """Opcode -> argument. A list that breaks off is good up to there, as sshd takes it."""
    found: dict[int, int] = {}
    at = 0
    while at + 5 <= len(modes) and _END < modes[at] < _UNDEFINED:
        found[modes[at]] = int.from_bytes(modes[at + 1 : at + 5], "big")
        at += 5
    return found


def set_modes(fd: int, modes: bytes) -> None:
    attributes: list[Any] = termios.tcgetattr(fd)
    for opcode, value in read_modes(modes).items():
        if opcode in _CHARACTERS:
            character = b"\0" if value == _DISABLED else bytes([value & 0xFF])
            attributes[_CC][_CHARACTERS[opcode]] = character
        elif opcode in _FLAGS:
            word, bit = _FLAGS[opcode]
            attributes[word] = attributes[word] | bit if value else attributes[word] & ~bit
    with suppress(termios.error):  # together they make no sense; the terminal stays as it was
        termios.tcsetattr(fd, termios.TCSANOW, attributes)


def set_size(fd: int, columns: int, rows: int, width: int, height: int) -> None:
    sides = (min(side, _MAX_SIDE) for side in (rows, columns, width, height))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *sides))


def foreground_group(master: int) -> int:
    """The process group that has the terminal, 0 if none has."""
    try:
        return max(0, os.tcgetpgrp(master))
    except OSError:
        return 0
