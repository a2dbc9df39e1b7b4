"""Playing a recording: what is shown when. No clock and no terminal in here; both are the
caller's."""

from collections.abc import Iterator

from teleport_lite.client.screen import ScreenFilter
from teleport_lite.client.tape import Tape
from teleport_lite.errors import Malformed
from teleport_lite.proto.cast import MARK, OUTPUT, CastEvent

SPEEDS = (0.5, 1.0, 2.0, 4.0, 8.0)
SKIP = 5.0  # seconds, for one press of an arrow
# With --skip-idle-time no pause is longer, in seconds of the recording.
IDLE = 1.0
# Clear the screen, and begin at its top.
_FRESH = "\x1b[H\x1b[2J"


def parse_speed(text: str) -> float:
    """`2x`, or `2`. Raises Malformed."""
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if speed not in SPEEDS:
        choices = ", ".join(f"{each:g}x" for each in SPEEDS)
        raise Malformed(f"speed {text[:16]!a} is not one of {choices}")
    return speed


class Player:
    """`now` is monotonic, in seconds. What the methods give is to be written to the terminal."""

    def __init__(self, tape: Tape, *, speed: float = 1.0, skip_idle: bool = False) -> None:
        self._tape, self._skip_idle = tape, skip_idle
        self._screen = ScreenFilter()
        self._next = 0  # the number of the event that comes next
        self._last: float | None = None  # when we were last asked
        self.position = 0.0  # seconds of the recording
        self.speed, self.paused = speed, False

    @property
    def over(self) -> bool:
        return self._next >= len(self._tape)

    def tick(self, now: float) -> Iterator[str]:
        """Everything that is due."""
        passed = 0.0 if self._last is None else max(0.0, now - self._last)
        self._last = now
        if self.paused:
            return
        self.position += passed * self.speed
        self._skip_pause()
        yield from self._show_to(self.position)
        self._skip_pause()

    def wait(self) -> float | None:
        """Seconds until something is due; None while it is paused, or over."""
        if self.paused or self.over:
            return None
        return max(0.0, (self._tape.at(self._next) - self.position) / self.speed)

    def pause(self) -> None:
        self.paused = not self.paused

    def faster(self) -> None:
        self.speed = next((each for each in SPEEDS if each > self.speed), SPEEDS[-1])

    def slower(self) -> None:
        self.speed = next((each for each in reversed(SPEEDS) if each < self.speed), SPEEDS[0])

    def skip(self, seconds: float) -> Iterator[str]:
        """Forwards, or back: then all up to there is shown again, at once."""
        wanted = min(max(0.0, self.position + seconds), self._tape.seconds)
        if wanted < self.position:
            yield self._screen.end() + _FRESH
            self._next = 0
        self.position = wanted
        yield from self._show_to(wanted)

    def everything(self) -> Iterator[str]:
        """All of it, without its pauses."""
        yield from self._show_to(self._tape.seconds)

    def end(self) -> str:
        """The terminal as it was."""
        return self._screen.end()

    def _show_to(self, position: float) -> Iterator[str]:
        end = self._tape.after(position)
        if end <= self._next:
            return
        for event in self._tape.events(self._next, end):
            self._next += 1
            shown = self._screen.feed(_text(event))
            if shown:
                yield shown

    def _skip_pause(self) -> None:
        if self._skip_idle and not self.over:
            self.position = max(self.position, self._tape.at(self._next) - IDLE)


def _text(event: CastEvent) -> str:
    """What was typed is seen where it was echoed; a size of long ago is none of this terminal's."""
    if event.kind == OUTPUT:
        return event.data
    if event.kind == MARK:
        return "\r\n[" + "".join(char for char in event.data if char.isprintable()) + "]\r\n"
    return ""
