"""A recording on somebody's own terminal, and nothing that could harm it.

The rule is a list of what passes: text, colours, the cursor and the screen. Every sequence is
written anew from what was understood of it. Whatever else there is does not: titles, clipboards
and links (OSC), strings (DCS, APC, PM, SOS), questions that the terminal would answer as if they
were typed (DA, DSR, DECRQSS, window operations), printing, resizing, modes of the keyboard, the
mouse and pasting, other character sets, the viewer's scrollback, and the bell.
"""

import re

from teleport_lite.client.escapes import Control, Csi, Esc, Parser, Text

# Beyond every terminal; some count with 16 bits.
MAX_NUMBER = 9999
_MAX_COLOURS = 32  # parameters of one SGR
_CONTROLS = frozenset("\b\t\n\v\f\r")
# Up, down, forward, back, lines, columns, tabs, insert, delete, erase, scroll, repeat.
_MOVES = frozenset("@ABCDEFGILMPSXZ`abde")
_PLACES = frozenset("Hf")
_ERASES = frozenset("JK")
_SHAPES = frozenset(("", "0", "1", "2", "3", "4", "5", "6"))
# Private modes that pass, and what they are without us. 5: reverse screen, 6: origin, 7: wrap,
# 25: the cursor shows, 47 and 1047: other screen, 1048: keep the cursor, 1049: both.
_MODES = {5: "l", 6: "l", 7: "h", 25: "h", 47: "l", 1047: "l", 1048: "", 1049: "l"}
_INSERT = "4"
_NUMBER = re.compile(r"[0-9]*")
_COLOUR = re.compile(r"[0-9]*(?::[0-9]*)*")
# DEC Special Graphics, ` to ~, as characters of their own.
_LINES = dict(
    zip(
        range(ord("_"), ord("~") + 1),
        " ◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·",
        strict=True,
    )
)


class ScreenFilter:
    """Feed it what the recorded terminal was sent; what it gives may be written to this one."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._forget()

    def _forget(self) -> None:
        self._sets = [False, False]  # G0 and G1: are they the line graphics?
        self._shifted = False  # G1 is in use
        self._changed: dict[int, None] = {}  # private modes that are not as they were
        self._margins = self._insert = self._shape = False

    def feed(self, text: str) -> str:
        """Never raises, whatever comes."""
        return "".join(map(self._pass, self._parser.feed(text)))

    def end(self) -> str:
        """What brings the terminal back to where it was: colours, cursor, screen, margins.

        Begins with CAN, which ends a sequence that was cut off on its way to the terminal.
        """
        self._parser = Parser()
        return "\x18" + self._back()

    def _back(self) -> str:
        modes = reversed(self._changed)
        found = "".join(f"\x1b[?{mode}{_MODES[mode]}" for mode in modes)
        found += "\x1b7\x1b[r\x1b8" if self._margins else ""
        found += "\x1b[4l" if self._insert else ""
        found += "\x1b[0 q" if self._shape else ""
        self._forget()
        return found + "\x1b[0m\x1b[?25h"

    def _pass(self, token: Text | Control | Csi | Esc) -> str:
        match token:
            case Text(text):
                graphics = self._sets[self._shifted]
                return text.translate(_LINES) if graphics else text
            case Control(char):
                if char in "\x0e\x0f":
                    self._shifted = char == "\x0e"
                return char if char in _CONTROLS else ""
            case Csi("", parameters, "", final):
                return self._csi(parameters, final)
            case Csi("?", parameters, "", ("h" | "l") as final):
                return self._modes(parameters, final)
            case Csi("?", parameters, "", ("J" | "K") as final):
                return _erase(parameters, final)
            case Csi("", parameters, " ", "q") if parameters in _SHAPES:
                self._shape = True
                return f"\x1b[{parameters} q"
            case Esc(intermediates, final):
                return self._esc(intermediates, final)
        return ""

    def _csi(self, parameters: str, final: str) -> str:
        if final == "m":
            return _colours(parameters)
        if final in _ERASES:
            return _erase(parameters, final)
        numbers = _numbers(parameters)
        if numbers is None:
            return ""
        if final in _MOVES and len(numbers) == 1:
            return f"\x1b[{numbers[0]}{final}"
        if final in _PLACES and len(numbers) <= 2:
            return f"\x1b[{';'.join(numbers)}{final}"
        if final == "r" and len(numbers) <= 2:
            self._margins = True
            return f"\x1b[{';'.join(numbers)}r"
        if final == "T" and len(numbers) == 1:  # with five it is about the mouse
            return f"\x1b[{numbers[0]}T"
        if final in "su" and not parameters:
            return f"\x1b[{final}"
        if final in "hl" and _INSERT in numbers:
            self._insert = True
            return f"\x1b[4{final}"
        return ""

    def _modes(self, parameters: str, final: str) -> str:
        found = []
        for number in _numbers(parameters) or ():
            mode = int(number or 0)
            if mode in _MODES:
                found.append(str(mode))
                self._changed.pop(mode, None)
                if _MODES[mode] not in ("", final):
                    self._changed[mode] = None
        return f"\x1b[?{';'.join(found)}{final}" if found else ""

    def _esc(self, intermediates: str, final: str) -> str:
        if intermediates in ("(", ")"):
            self._sets[intermediates == ")"] = final == "0"
            return ""
        if intermediates:
            return ""
        if final == "c":  # a full reset would take the viewer's own settings along
            return self._back() + "\x1b[H\x1b[2J"
        return f"\x1b{final}" if final in "78DEM" else ""


def _numbers(parameters: str) -> list[str] | None:
    """Each bounded; None if they are not plain numbers."""
    found = parameters.split(";")
    if not all(_NUMBER.fullmatch(each) for each in found):
        return None
    return [_bounded(each) for each in found]


def _bounded(number: str) -> str:
    """As text of at most four digits: "" stays, it means the usual."""
    digits = number.lstrip("0")
    if len(digits) > 4:
        return str(MAX_NUMBER)
    return digits or number[:1]


def _colours(parameters: str) -> str:
    found = parameters.split(";")
    if len(found) > _MAX_COLOURS or not all(_COLOUR.fullmatch(each) for each in found):
        return ""
    bounded = (":".join(map(_bounded, each.split(":"))) for each in found)
    return f"\x1b[{';'.join(bounded)}m"


def _erase(parameters: str, final: str) -> str:
    """3 would be the scrollback: what the viewer did before is not ours to erase."""
    return f"\x1b[{parameters}{final}" if parameters in ("", "0", "1", "2") else ""
