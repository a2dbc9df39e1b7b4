"""A recording as plain text: what stood on the lines, without colours and without escapes.

Understands what a shell with line editing does: going back, overwriting, deleting. Where a program
draws on the whole screen, each jump of the cursor begins a line.
"""

from teleport_lite.client.escapes import Control, Csi, Esc, Parser, Text

# Longer than any line somebody has typed; bounds what is held.
MAX_COLUMNS = 4096
_TAB = 8
_JUMPS = frozenset("ABEFHJLMSTdefr")


class PlainText:
    def __init__(self) -> None:
        self._parser = Parser()
        self._line: list[str] = []
        self._at = 0

    def feed(self, text: str) -> str:
        """The lines that are complete now."""
        return "".join(map(self._pass, self._parser.feed(text)))

    def end(self) -> str:
        """The last line, if there is one."""
        return self._jump()

    def _pass(self, token: Text | Control | Csi | Esc) -> str:
        match token:
            case Text(text):
                return "".join(map(self._put, text))
            case Control(char):
                return self._control(char)
            case Csi("" | "?", parameters, "", final):
                return self._csi(parameters, final)
            case Esc("", "c" | "D" | "E" | "M" | "8"):
                return self._jump()
        return ""

    def _put(self, char: str) -> str:
        done = self._new_line() if self._at >= MAX_COLUMNS else ""
        self._reach(self._at)
        self._line[self._at : self._at + 1] = [char]
        self._at += 1
        return done

    def _control(self, char: str) -> str:
        if char in "\n\v\f":
            return self._new_line()
        if char == "\r":
            self._at = 0
        elif char == "\b":
            self._at = max(0, self._at - 1)
        elif char == "\t":
            self._move(self._at + _TAB - self._at % _TAB)
        return ""

    def _csi(self, parameters: str, final: str) -> str:
        if final in _JUMPS:
            return self._jump()
        first = parameters.split(";")[0]
        number = min(int(first[:5]), MAX_COLUMNS) if first.isdecimal() and first.isascii() else 0
        count = number or 1
        if final in "Ca":
            self._move(self._at + count)
        elif final == "D":
            self._move(self._at - count)
        elif final in "G`":
            self._move(count - 1)
        elif final == "P":
            del self._line[self._at : self._at + count]
        elif final == "@":
            self._line[self._at : self._at] = [" "] * count if self._at < len(self._line) else []
            del self._line[MAX_COLUMNS:]
        elif final == "X":
            self._blank(self._at, self._at + count)
        elif final == "K":
            self._erase(number)
        return ""

    def _erase(self, what: int) -> None:
        if what == 0:
            del self._line[self._at :]
        elif what == 1:
            self._blank(0, self._at + 1)
        elif what == 2:
            self._line.clear()

    def _blank(self, start: int, end: int) -> None:
        end = min(end, len(self._line))
        self._line[start:end] = [" "] * max(0, end - start)

    def _move(self, column: int) -> None:
        self._at = max(0, min(column, MAX_COLUMNS))

    def _reach(self, column: int) -> None:
        self._line += [" "] * (column - len(self._line))

    def _new_line(self) -> str:
        line = "".join(self._line).rstrip() + "\n"
        self._line, self._at = [], 0
        return line

    def _jump(self) -> str:
        """A line for what is there; nothing for nothing."""
        line = self._new_line()
        return line if line != "\n" else ""
