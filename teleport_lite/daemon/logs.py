"""What the daemon says while it runs: one line a thing, to stderr or a file, as text or JSON."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from teleport_lite.config.model import LogConfig
from teleport_lite.errors import Unavailable
from teleport_lite.net import journal

FILE_MODE = 0o640
_NAMES = {"WARNING": "WARN", "CRITICAL": "ERROR"}
_PRIORITIES = {"ERROR": journal.ERROR, "WARN": journal.WARNING, "DEBUG": journal.DEBUG}
_LEVELS = {"TRACE": logging.DEBUG, "WARN": logging.WARNING}


def set_up(config: LogConfig, *, debug: bool) -> None:
    """Replaces whatever handlers there are."""
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    handler = _handler(config.output)
    handler.setFormatter(_formatter(config.format, handler))
    root.addHandler(handler)
    level = logging.DEBUG if debug else _LEVELS.get(config.severity) or config.severity
    root.setLevel(level)
    # paramiko logs a traceback for every scanner that hangs up; our own words cover it.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)


def _formatter(form: str, handler: logging.Handler) -> logging.Formatter:
    if form == "json":
        return JsonLines()
    stream = getattr(handler, "stream", None)
    return JournalLines() if stream is not None and _is_journal(stream) else TextLines()


def _is_journal(stream: TextIO) -> bool:
    try:
        return journal.is_journal(stream.fileno())
    except (OSError, ValueError):  # a test's, or closed
        return False


def _handler(output: str) -> logging.Handler:
    if output == "stdout":
        return _Stream(sys.stdout)
    if output.startswith("/"):
        return _file(Path(output))
    return _Stream(sys.stderr)


def _file(path: Path) -> logging.Handler:
    """Appends. Names of people, hosts and addresses are for the system's own people to read."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as why:
        raise Unavailable(f"log.output: can not write {path}: {why.strerror}") from why
    return _File(descriptor)


class _Stream(logging.StreamHandler[TextIO]):
    """Stdout or stderr. What cannot be written there is lost, and nothing stops."""

    def handleError(self, record: logging.LogRecord) -> None:
        # Instead of a traceback, to the same place: it may be a file on a full disk.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _File(logging.Handler):
    """Lines in a file of ours. What a full disk does not take is counted, and nothing stops."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lost = 0
        self._torn = False  # the file does not end with a whole line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if not self._put(line):
            self._lost += 1
        elif self._lost:
            lost, self._lost = self._lost, 0
            words = f"{lost} lines are missing here, the disk was full"
            told = logging.LogRecord("teleport_lite.log", logging.WARNING, "", 0, words, None, None)
            if not self._put(self.format(told)):
                self._lost = lost

    def _put(self, line: str) -> bool:
        raw = ("\n" if self._torn else "").encode() + line.encode("utf-8", "replace") + b"\n"
        try:
            written = os.write(self._descriptor, raw)
        except OSError:
            return False
        self._torn = written != len(raw)
        return not self._torn

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


def _parts(record: logging.LogRecord) -> tuple[str, str, str, str]:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
    level = _NAMES.get(record.levelname, record.levelname)
    component = record.name.rpartition(".")[2].upper()
    return at.replace("+00:00", "Z"), level, component, plain(record.getMessage())


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at, level, component, text = _parts(record)
        return f"{at} {self.told(level, component, text, record)}"

    def told(self, level: str, component: str, text: str, record: logging.LogRecord) -> str:
        line = f"{level} [{component}] {text}"
        if record.exc_info and record.exc_info[0] is not None:
            for each in self.formatException(record.exc_info).splitlines():
                line += f"\n    {plain(each)}"
        return line


class JournalLines(TextLines):
    """The journal has the time, and shows and filters by priority: `journalctl -p warning`."""

    def format(self, record: logging.LogRecord) -> str:
        _, level, component, text = _parts(record)
        priority = _PRIORITIES.get(level, journal.INFO)
        return journal.prefixed(self.told(level, component, text, record), priority)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at, level, component, text = _parts(record)
        fields = {"timestamp": at, "level": level, "component": component, "message": text}
        if record.exc_info and record.exc_info[0] is not None:
            story = self.formatException(record.exc_info).splitlines()
            fields["trace"] = "\n".join(map(plain, story))
        return json.dumps(fields)


def plain(text: str) -> str:
    """One event, one line: what strangers put into names can not forge another."""
    return "".join(char if char.isprintable() else _escaped(char) for char in text[:8192])


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
