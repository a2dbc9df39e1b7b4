"""What a program says to its terminal, taken apart: text, control characters, sequences.

After the state machine of ECMA-48 terminals (https://vt100.net/emu/dec_ansi_parser). Strings to
the terminal (OSC, DCS, APC, PM, SOS) end here: no part of them comes out. All state is bounded,
and any text is taken, cut anywhere.

Characters U+0080 to U+009F are dropped, and are no beginnings of sequences: most terminals do not
take them for any in UTF-8, and what follows them stays to be seen.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

# Longest sequence of honest programs: two colours of 24 bits and some attributes.
MAX_PARAMETERS = 256
MAX_INTERMEDIATES = 4
# Of a string that nobody ends, so much is swallowed. Pictures and clipboards are smaller.
MAX_STRING = 1_000_000

_ESC, _BEL, _CAN, _SUB, _DEL, _ST = "\x1b", "\a", "\x18", "\x1a", "\x7f", "\x9c"
_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
_HALVES = re.compile(r"[\ud800-\udfff]")
# The rest of ESC ] P on a Linux console (console_codes(4)), which nothing ends.
_PALETTE = 7


@dataclass(frozen=True, slots=True)
class Text:
    """Printable, and can be encoded."""

    text: str


@dataclass(frozen=True, slots=True)
class Control:
    """One character below space, but for ESC, CAN and SUB."""

    char: str


@dataclass(frozen=True, slots=True)
class Csi:
    """ESC [ prefix parameters intermediates final"""

    prefix: str  # "", or one of <=>?
    parameters: str  # digits, ; and :
    intermediates: str
    final: str


@dataclass(frozen=True, slots=True)
class Esc:
    """ESC intermediates final"""

    intermediates: str
    final: str


Token = Text | Control | Csi | Esc


class _State(Enum):
    GROUND = auto()
    ESCAPE = auto()
    CSI = auto()
    STRING = auto()
    STRING_ESCAPE = auto()  # ESC within a string: its end, or the beginning of something else
    PALETTE = auto()


class Parser:
    """Feed it text as it comes; what is not complete waits for the rest."""

    def __init__(self) -> None:
        self._state = _State.GROUND
        self._prefix = self._parameters = self._intermediates = ""
        self._wrong = False  # no sequence of ours: read to its end, and dropped
        self._count = 0  # of the characters of a string
        self._dcs = self._fresh = False

    def feed(self, text: str) -> Iterator[Token]:
        at = 0
        while at < len(text):
            if self._state is _State.GROUND and (found := _TEXT.match(text, at)):
                at = found.end()
                yield Text(_HALVES.sub("\ufffd", found[0]))
                continue
            char = text[at]
            if self._state is _State.STRING and char > "\x1f" and not self._fresh:
                at = self._swallow(text, at)
                continue
            token = self._take(char)
            at += 1
            if token is not None:
                yield token

    def _take(self, char: str) -> Token | None:
        if self._state is _State.STRING:
            return self._in_string(char)
        if self._state is _State.STRING_ESCAPE:
            self._state = _State.ESCAPE
            if char == "\\":
                self._state = _State.GROUND
                return None
        if self._state is _State.PALETTE and char in "0123456789abcdefABCDEF":
            self._count += 1
            self._state = _State.GROUND if self._count >= _PALETTE else _State.PALETTE
            return None
        if char < " ":
            return self._control(char)
        if char == _DEL or "\x80" <= char <= "\x9f":
            return None
        if self._state is _State.CSI and char < _DEL:
            return self._in_csi(char)
        if self._state is _State.ESCAPE and char < _DEL:
            return self._in_escape(char)
        self._state = _State.GROUND  # no sequence goes on with this
        return Text(_HALVES.sub("\ufffd", char))

    def _control(self, char: str) -> Token | None:
        """Terminals obey them in the middle of a sequence too."""
        if char == _ESC:
            self._state = _State.ESCAPE
            self._prefix = self._parameters = self._intermediates = ""
            self._wrong = False
            return None
        if char in (_CAN, _SUB):
            self._state = _State.GROUND
            return None
        if self._state is _State.PALETTE:
            self._state = _State.GROUND
        return Control(char)

    def _in_escape(self, char: str) -> Token | None:
        if char < "0":
            self._wrong |= len(self._intermediates) >= MAX_INTERMEDIATES
            self._intermediates += "" if self._wrong else char
            return None
        if not self._intermediates and char == "[":
            self._state = _State.CSI
            return None
        # ESC k ... ESC \ is the title of a window of screen(1).
        if not self._intermediates and char in "]PX^_k":
            self._state, self._count = _State.STRING, 0
            self._dcs, self._fresh = char == "P", char == "]"
            return None
        self._state = _State.GROUND
        return None if self._wrong else Esc(self._intermediates, char)

    def _in_csi(self, char: str) -> Token | None:
        if char >= "@":
            self._state = _State.GROUND
            if self._wrong:
                return None
            return Csi(self._prefix, self._parameters, self._intermediates, char)
        if char < "0":
            self._wrong |= len(self._intermediates) >= MAX_INTERMEDIATES
            self._intermediates += "" if self._wrong else char
        elif self._intermediates:
            self._wrong = True
        elif char in "<=>?":
            self._wrong |= bool(self._prefix or self._parameters)
            self._prefix = char
        else:
            self._wrong |= len(self._parameters) >= MAX_PARAMETERS
            self._parameters += "" if self._wrong else char
        return None

    def _in_string(self, char: str) -> Token | None:
        """Called for its first character, and for those below space."""
        first, self._fresh = self._fresh, False
        if first and char in "PR":
            self._state = _State.PALETTE if char == "P" else _State.GROUND
            return None
        if char == _ESC:
            self._control(char)
            self._state = _State.STRING_ESCAPE
            return None
        self._count += 1
        if char in (_BEL, _CAN, _SUB, _ST) or self._count >= MAX_STRING:
            self._state = _State.GROUND
        elif char in "\r\n" and not self._dcs:
            # A line that begins hides nothing: whoever did not end the string hides one at most.
            self._state = _State.GROUND
            return Control(char)
        return None

    def _swallow(self, text: str, at: int) -> int:
        """What a string says, up to a character that could end it. Where to go on."""
        most = min(len(text), at + MAX_STRING - self._count)
        found = _STRING_END.search(text, at, most)
        end = found.start() if found else most
        self._count += end - at
        if found and found[0] == _ST:
            self._state = _State.GROUND
            return end + 1
        if self._count >= MAX_STRING:
            self._state = _State.GROUND
        return end


_STRING_END = re.compile(r"[\x00-\x1f\x9c]")
