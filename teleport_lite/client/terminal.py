"""The viewer's terminal while a recording plays: keys one by one, and all put back in the end."""

import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum, auto
from types import FrameType, TracebackType
from typing import Any, Self

# After ESC the rest of an arrow key comes at once; nobody types that fast.
_ESCAPE_TIME = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class Key(Enum):
    PAUSE = auto()
    BACK = auto()
    FORTH = auto()
    FASTER = auto()
    SLOWER = auto()
    QUIT = auto()
    INTERRUPT = auto()


_KEYS = {
    b" ": Key.PAUSE,
    b"\x1b[D": Key.BACK,
    b"\x1bOD": Key.BACK,
    b"\x1b[C": Key.FORTH,
    b"\x1bOC": Key.FORTH,
    b"+": Key.FASTER,
    b"=": Key.FASTER,  # the same key without shift
    b"-": Key.SLOWER,
    b"q": Key.QUIT,
    b"\x1b": Key.QUIT,
    b"\x04": Key.QUIT,
    b"\x03": Key.INTERRUPT,
}


class Killed(BaseException):
    """Somebody ends us: what has to be put back is put back first."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Terminal:
    """A context manager. Within it signals that would end us raise Killed."""

    def __init__(self, keys: int, screen: int) -> None:
        """Descriptors of a terminal: where keys come from, and what is written to."""
        self._keys, self._screen = keys, screen
        self._before: Any = None
        self._handlers: dict[int, Any] = {}
        self._pending = b""
        self._wakes: tuple[int, int] = (-1, -1)  # a pipe that every signal writes to

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._keys)
        # A signal just before a select(2) would be noticed only after it.
        self._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            signal.set_wakeup_fd(self._wakes[1], warn_on_full_buffer=False)
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, _kill)
            # Characters as they come, and bytes as they are: recordings have their own line ends.
            tty.setraw(self._keys, termios.TCSANOW)
        except BaseException:
            self._put_back()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put_back()

    def _put_back(self) -> None:
        try:
            for each in self._handlers:
                signal.signal(each, signal.SIG_IGN)
        finally:
            with suppress(termios.error, OSError):  # the terminal may be gone
                # None of these waits for a terminal that has stopped.
                termios.tcsetattr(self._keys, termios.TCSANOW, self._before)
                # What was typed ahead was meant for the player.
                termios.tcflush(self._keys, termios.TCIFLUSH)
            for each, handler in self._handlers.items():
                signal.signal(each, handler)
            signal.set_wakeup_fd(-1)
            for end in self._wakes:
                os.close(end)

    def show(self, text: str) -> None:
        """Raises OSError when the terminal is gone."""
        rest = memoryview(text.encode("utf-8", "replace"))
        while rest:
            rest = rest[os.write(self._screen, rest) :]

    def wait(self, seconds: float | None) -> Iterator[Key]:
        """Keys that were pressed within `seconds`; None waits for one. Returns after the first
        ones. Raises EOFError when nobody is there any more."""
        if not self._pending and not self._readable(seconds):
            return
        self._read()
        if self._pending in (b"\x1b", b"\x1b[", b"\x1bO") and self._readable(_ESCAPE_TIME):
            self._read()
        typed, self._pending = self._pending, b""
        yield from keys(typed)

    def _read(self) -> None:
        found = os.read(self._keys, 256)
        if not found:
            raise EOFError
        self._pending += found

    def _readable(self, seconds: float | None) -> bool:
        """Returns early, with False, for a signal; its handler has run by then."""
        ready, _, _ = select.select([self._keys, self._wakes[0]], [], [], seconds)
        if self._wakes[0] in ready:
            os.read(self._wakes[0], 256)
        return self._keys in ready


def keys(typed: bytes) -> Iterator[Key]:
    """What is meant by it; other keys mean nothing."""
    while typed:
        size = _length(typed)
        if found := _KEYS.get(typed[:size]):
            yield found
        typed = typed[size:]


def _length(typed: bytes) -> int:
    """Of the first key: ESC [ parameters final, ESC O final, or one byte."""
    if typed[:2] == b"\x1b[":
        for at, byte in enumerate(typed[2:], 3):
            if 0x40 <= byte <= 0x7E:
                return at
        return len(typed)
    return 3 if typed[:2] == b"\x1bO" else 1


def _kill(number: int, _: FrameType | None) -> None:
    raise Killed(number)
